"""Trains pocket: one command, seed fixed.

    python -m venv venv && venv/bin/pip install -r models/pocket/requirements.txt
    venv/bin/python models/pocket/train.py --constancy PATH --work FOLDER

PATH is the built program, whose command `synth` renders; defaults to `constancy`. FOLDER takes renders (17 GB) and
the result, `pocket.pt`. Uses a GPU where there is one. Matrix products are computed in bfloat16 where the machine is faster at it than
at f32, which is tried first. Light is drawn from the renderer's environment `wide`, a continuous range; the six
environments outside it are never rendered here.

The loss is CLIP's symmetric cross-entropy between images and sentences. Two images of a batch often show the same
kind of part in the same condition, and a sentence may name the part only; so the target of an image is every
sentence of the batch that is true of it, in equal shares, and of a sentence every image that it is true of.

What makes it learn within the hour: the patch embedding starts as the whitened principal components of patches, and
the towers' matrices are optimised by Muon (all else by AdamW).
"""

import argparse
import json
import math
import queue
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

import tokenizer
from data import CONDITIONS, LIGHT_WORDS, MEAN, OTHERS, PARTS, SIZE, STD, WIDE, describe, frames
from model import Words, build, image_embeds, pixels, text_embeds, unit

SEED = 20260401
STEPS = 6000
# Largest shift of a frame, pixels: a little beyond the renderer's own jitter of the camera.
SHIFT = 12
# Renders: name, count, seed, size of the camera's frame, what is shown.
SETS = [
    ("train-a", 24000, 1001, SIZE, "parts"),
    ("train-b", 24000, 2002, SIZE, "parts"),
    ("train-d", 20000, 4004, SIZE, "parts"),
    ("train-c", 8000, 3003, (480, 480), "parts"),
    ("others", 6000, 5005, SIZE, ",".join(OTHERS)),
]
CHECK = ("check", 2000, 77, SIZE, "parts")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--constancy", default="constancy", help="the program that renders")
    parser.add_argument("--work", required=True, type=Path, help="folder for renders and the result")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--minutes", type=float, default=80, help="finish by then, with fewer steps if need be")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--sets", type=int, default=len(SETS), help="how many of the training sets to use")
    parser.add_argument("--report", type=int, default=250, help="steps between lines of the log")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0 for all")
    return parser.parse_args()


class Batches(threading.Thread):
    """Random frames, shifted a little, with a sentence each, made while the model computes."""

    def __init__(self, sets, size, count):
        super().__init__(daemon=True)
        self.sets, self.size, self.count = sets, size, count
        self.ready = queue.Queue(maxsize=3)
        self.start()

    def run(self):
        rng = random.Random(SEED)
        index = [(s, i) for s, (_, facts) in enumerate(self.sets) for i in range(len(facts))]
        order = []
        for _ in range(self.count):
            if len(order) < self.size:
                order = rng.sample(index, len(index))
            chosen, order = order[: self.size], order[self.size :]
            images = np.stack([shifted(self.sets[s][0][i], rng) for s, i in chosen])
            facts = [self.sets[s][1][i] for s, i in chosen]
            self.ready.put((images, facts, [describe(f, rng) for f in facts]))

    def next(self):
        return self.ready.get()


def shifted(frame, rng):
    """Moved by up to SHIFT pixels, the edge's pixels repeated."""
    dx, dy = rng.randint(-SHIFT, SHIFT), rng.randint(-SHIFT, SHIFT)
    across = np.clip(np.arange(SIZE) + dx, 0, SIZE - 1)
    down = np.clip(np.arange(SIZE) + dy, 0, SIZE - 1)
    return frame[down][:, across]


def image_embeds_of_frames(model, images):
    """What `image_embeds(model, pixels(images))` gives, in less time on a CPU: the normalisation of the pixels is folded
    into the patch embedding."""
    vision = model.vision_model
    first = vision.embeddings
    edge = first.patch_embedding.kernel_size[0]
    grid = SIZE // edge
    patches = images.view(-1, grid, edge, grid, edge, 3).transpose(2, 3).reshape(len(images), grid * grid, -1)
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    weight = first.patch_embedding.weight
    # Channels last, as the bytes have them.
    folded = (weight / (255 * std)).permute(0, 2, 3, 1).flatten(1)
    shift = -(weight * (mean / std)).sum((1, 2, 3))
    tokens = functional.linear(patches.float(), folded, shift)
    start = first.class_embedding.expand(len(images), 1, -1).to(tokens.dtype)
    hidden = torch.cat([start, tokens], 1) + first.position_embedding(first.position_ids)
    hidden = vision.encoder(inputs_embeds=vision.pre_layrnorm(hidden)).last_hidden_state
    return model.visual_projection(vision.post_layernorm(hidden[:, 0]))


def truths(facts, claims):
    """[images, sentences]: whether each sentence is true of each image. What is no part has no condition."""
    def codes(rows):
        keys = {}
        return torch.tensor([[-1 if v is None else keys.setdefault((c, v), len(keys)) for c, v in enumerate(r)] for r in rows])

    def words(light):
        return sum(1 << i for i, word in enumerate(LIGHT_WORDS) if word in (light or "").split())

    def conditions(fact):
        return None if fact["part"] in OTHERS else fact["condition"]

    both = codes([[f["part"], conditions(f), f["surface"]] for f in facts] + [list(c[:3]) for c in claims])
    image, said = both[: len(facts), None], both[None, len(facts) :]
    seen = torch.tensor([words(f["light"]) for f in facts])[:, None]
    light = torch.tensor([words(c[3]) for c in claims])[None]
    return (((said == -1) | (said == image)).all(-1) & (seen & light == light)).float()


def loss_of(images, sentences, scale, true):
    logits = scale * unit(images) @ unit(sentences).T
    rows, columns = true / true.sum(1, keepdim=True), true / true.sum(0, keepdim=True)
    return (functional.cross_entropy(logits, rows) + functional.cross_entropy(logits.T, columns.T)) / 2


def start_patches(model, sets):
    """Patch embedding: the whitened principal components of random patches."""
    convolution = model.vision_model.embeddings.patch_embedding
    width, edge = convolution.out_channels, convolution.kernel_size[0]
    rng = np.random.default_rng(SEED)
    grid = SIZE // edge
    frames_ = sets[0][0][np.sort(rng.choice(len(sets[0][0]), 400, replace=False))]
    patches = pixels(frames_).reshape(-1, 3, grid, edge, grid, edge).permute(0, 2, 4, 1, 3, 5).flatten(0, 2).flatten(1)
    centred = patches - patches.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(patches))
    values, vectors = values[-width:].flip(0), vectors[:, -width:].flip(1)
    # Damped: the last components are mostly noise.
    weight = 0.5 * vectors / (values + 0.02 * values.mean()).sqrt()
    with torch.no_grad():
        convolution.weight.copy_(weight.T.reshape(convolution.weight.shape))


class Muon(torch.optim.Optimizer):
    """Momentum whose step is made orthogonal by Newton and Schulz's iteration (Jordan et al. 2024), scaled to the size
    of AdamW's steps (Liu et al. 2025). The library's own always computes in bfloat16, which many CPUs emulate."""

    def __init__(self, parameters, kind, lr, momentum=0.95, weight_decay=0.05):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.kind = kind

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - group["momentum"])
                step = orthogonal(parameter.grad.lerp(average, group["momentum"]).to(self.kind)).float()
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(step, alpha=-group["lr"] * 0.2 * max(parameter.shape) ** 0.5)


def orthogonal(matrix):
    """Nearly the orthogonal factor of `matrix`'s polar decomposition: singular values end between 0.7 and 1.2."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x


def optimisers(model, kind):
    """Muon, computed in `kind`, for the towers' matrices; AdamW for everything else."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        inner = ".layers." in name and parameter.dim() == 2
        (matrices if inner else others).append(parameter)
    return [Muon(matrices, kind, lr=2e-3), torch.optim.AdamW(others, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0)]


def product_type(device):
    """bfloat16 where a product of the towers' size takes at most two thirds of the time that f32 takes, else f32."""
    def seconds(kind):
        a, b = (torch.ones(n, 192, device=device, dtype=kind) for n in (3200, 768))
        best = math.inf
        for _ in range(20):
            start = time.perf_counter()
            float((a @ b.T)[0, 0])
            best = min(best, time.perf_counter() - start)
        return best

    return torch.bfloat16 if seconds(torch.bfloat16) < seconds(torch.float32) / 1.5 else torch.float32


def rate(step, done):
    """Share of the learning rate when a share `done` of the training is: warm-up, level, then linearly to nothing."""
    return min((step + 1) / 100, 1.0, (1 - done) / 0.6)


@torch.no_grad()
def accuracy(model, words, check, device):
    """Zero-shot accuracy for the part and for part and condition, with the plain prompt."""
    images, facts = check
    model.eval()
    z = torch.cat([unit(image_embeds(model, pixels(images[i : i + 250], device))) for i in range(0, len(images), 250)])

    def score(labels, truth):
        t = unit(text_embeds(model, words([f"a photo of a {label}" for label in labels]).to(device)))
        best = (z @ t.T).argmax(1).tolist()
        return sum(labels[b] == t for b, t in zip(best, truth)) / len(truth)

    part = score(PARTS, [f["part"] for f in facts])
    both = score([f"{c} {p}" for p in PARTS for c in CONDITIONS], [f"{f['condition']} {f['part']}" for f in facts])
    model.train()
    return part, both


def main():
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer.main()
    words = Words()
    folder = options.work
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        made = pool.map(lambda s: rendered(options.constancy, folder, *s), [*SETS[: options.sets], CHECK])
        *sets, check = made
    model = build(words)
    start_patches(model, sets)
    model.to(device).train()
    batches = Batches(sets, options.batch, options.steps)
    log = train(model, words, batches, check, options, device)
    torch.save({"model": model.state_dict(), "scale": float(model.logit_scale.detach().exp()), "log": log}, folder / "pocket.pt")
    (folder / "log.json").write_text(json.dumps(log, indent=1) + "\n")


def rendered(constancy, folder, name, count, seed, size, show):
    return frames(constancy, folder / name, count, seed, [WIDE], size, ["--show", show])


def train(model, words, batches, check, options, device):
    steps = options.steps
    kind = product_type(device)
    optimisers_ = optimisers(model, kind)
    base = [[g["lr"] for g in o.param_groups] for o in optimisers_]
    step, log, start, sums = 0, [], time.monotonic(), []

    def report(count=400):
        part, both = accuracy(model, words, [c[:count] for c in check], device)
        scale, seconds = float(model.logit_scale.detach().exp()), time.monotonic() - start
        log.append({"step": step + 1, "loss": round(sum(sums) / max(len(sums), 1), 4), "part": part,
                    "part_condition": both, "scale": round(scale, 2), "seconds": round(seconds)})
        print(json.dumps(log[-1]), flush=True)
        sums.clear()

    for step in range(steps):
        done = max(step / steps, (time.monotonic() - start) / (60 * options.minutes))
        if done >= 1:
            break
        images, facts, said = batches.next()
        for optimiser, rates in zip(optimisers_, base):
            for group, lr in zip(optimiser.param_groups, rates):
                group["lr"] = lr * rate(step, done)
        ids = words([text for text, _ in said]).to(device)
        true = truths(facts, [claims for _, claims in said]).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=kind == torch.bfloat16):
            z, t = image_embeds_of_frames(model, torch.from_numpy(images).to(device)), text_embeds(model, ids)
        # CLIP's own bound keeps the softmax from hardening without end.
        loss = loss_of(z, t, model.logit_scale.exp().clamp(max=100.0), true)
        for optimiser in optimisers_:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers_:
            optimiser.step()
        sums.append(loss.item())
        if (step + 1) % options.report == 0 and step + 1 < steps:
            report()
    report(len(check[1]))
    return log


if __name__ == "__main__":
    main()
