"""Fits the invariant projection for the shipped image tower and writes `projection.safetensors`.

    venv/bin/python models/pocket/projection.py --constancy PATH --work FOLDER

CLIP-ICM (Song et al., ICML 2025) in its simplest form. With z the unit embedding, m the mean (of images, or zeros),
C = E[(z - m)(z - m)'] and D = E[d d'] of differences d that share what the thing is: the columns are the eigenvectors
of C / tr C - lambda D with the k LARGEST eigenvalues; lambda = infinity drops the most variant directions alone. D
is a mean over families, each scaled to trace 1:
- pairs of renders of one specimen in the environments that are like daylight, all else different, or light only;
- interventions on finished renders: brightness, colour, grey, noise, uneven light, haze, blur;
- sentences that say the same of the part, and different things of surface and light.

m, lambda and k are chosen on other renders of the same environments: each family of interventions is left out of the
fit in turn, and the accuracy of naming part and condition under it is averaged. Of the maps that cost no more than a
point on untouched renders, and are within one standard error of the best of them, the one that drops the fewest
directions is taken. Where it does not gain two standard errors over the identity, the identity is written.
Environments unlike daylight have no part in any of this: they are not rendered here.
"""

import argparse
import datetime
import hashlib
import json
import math
import os
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from safetensors.numpy import save

from data import CONDITIONS, LIGHTS, PARTS, SEEN, SURFACES, article, frames
from model import HERE, Words
from run import Towers, labels_to_classes, unit

# Renders: name, count, seed.
PAIRS, RELIT, CHOOSE = ("pairs", 2000, 31), ("relit", 2000, 32), ("choose", 1200, 33)
LAMBDAS = [1.0, 10.0, math.inf]
DROPS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96]
# Accuracy on untouched images that a projection may cost, and how many standard errors it must gain elsewhere.
HARM, SURE = 0.01, 2


def brightness(x, rng):
    """Exposure from an eighth to double, or gamma from a half to two."""
    return x * 2.0 ** rng.uniform(-3, 1) if rng.random() < 0.6 else x ** 2.0 ** rng.uniform(-1, 1)


def colour(x, rng):
    """Channel gains from a fifth to one, each on its own, or a colour temperature."""
    warm = 2.0 ** rng.uniform(-1, 1)
    return x * (5.0 ** -rng.random(3) if rng.random() < 0.6 else np.array([warm, 1, 1 / warm])).astype(np.float32)


def grey(x, rng):
    """One channel: the eye's mixture, or any other, as beyond red."""
    weights = np.array([0.299, 0.587, 0.114]) if rng.random() < 0.5 else rng.dirichlet(np.ones(3))
    return np.repeat((x @ weights.astype(np.float32))[..., None], 3, -1)


def noise(x, rng):
    """Photons in a well of 30 to 1000, and the amplifier's noise."""
    well = math.exp(rng.uniform(math.log(30), math.log(1000)))
    return x + rng.standard_normal(x.shape, np.float32) * np.sqrt(x / well + rng.uniform(0, 0.06) ** 2)


def uneven(x, rng):
    """Vignetting, and light that falls off to one side."""
    down, across = np.mgrid[-1 : 1 : x.shape[0] * 1j, -1 : 1 : x.shape[1] * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    side = 1 + (math.cos(angle) * across + math.sin(angle) * down) * rng.uniform(0, 0.6)
    return x * ((1 - rng.uniform(0, 0.45) * (across**2 + down**2)) * side).clip(0.05)[..., None]


def haze(x, rng):
    """A veil of stray light."""
    share = rng.uniform(0.1, 0.6)
    return x * (1 - share) + share * rng.uniform(0.2, 0.9)


def blur(x, rng):
    image = Image.fromarray((x * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 3))), np.float32) / 255


FAMILIES = {f.__name__: f for f in (brightness, colour, grey, noise, uneven, haze, blur)}


def intervened(images, family, seed):
    """The images one by one, each with a strength of its own."""
    rng = np.random.default_rng(seed)
    for image in images:
        yield (family(image / np.float32(255), rng).clip(0, 1) * 255 + 0.5).astype(np.uint8)


def moment(d):
    """E[d d'] of rows."""
    return d.T @ d / len(d)


def delta(moments):
    """The mean of moments, each scaled to trace 1."""
    return np.mean([m / np.trace(m) for m in moments], 0)


def columns(c, d, weight, rank):
    """[D, rank]: the eigenvectors of the LARGEST eigenvalues; and all eigenvalues, largest first."""
    values, vectors = np.linalg.eigh(-d if math.isinf(weight) else c / np.trace(c) - weight * d)
    order = np.argsort(values)[::-1]
    vectors = vectors[:, order[:rank]]
    # An eigenvector's sign is the library's choice.
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(rank)])
    return vectors * signs, values[order]


def correct(z, classes, truth, a=None, mean=0.0):
    """Per image, whether its nearest class is its own."""
    if a is not None:
        z, classes = unit((z - mean) @ a), unit((classes - mean) @ a)
    return ((z @ classes.T).argmax(1) == truth).astype(float)


def sentences(towers, labels):
    """E[d d'] of sentences about the same part, for surface and for light."""
    moments = []
    for preposition, things in (("on", [f"{article(s)} {s}" for s in SURFACES]), ("under", LIGHTS)):
        said = np.stack([labels_to_classes(towers, labels, f"a photo of a {{}} {preposition} {t}") for t in things])
        moments.append(moment((said - said.mean(0)).reshape(-1, said.shape[-1])))
    return delta(moments)


def select(z, moments, clean, changed, classes, truth):
    """All maps tried, and the one chosen; None is the identity."""
    raw = {name: correct(v, classes, truth) for name, v in changed.items()}
    raw_clean = correct(clean, classes, truth).mean()
    trials = []
    for centred in (False, True):
        mean = z.mean(0) * centred
        c = moment(z - mean)
        for weight in LAMBDAS:
            for drop in DROPS:
                def gained(v, reference, left_out):
                    a, _ = columns(c, delta([m for n, m in moments.items() if n != left_out]), weight, len(c) - drop)
                    return correct(v, classes, truth, a, mean) - reference

                each = {name: gained(v, raw[name], name) for name, v in changed.items()}
                gain = np.mean(list(each.values()), 0)
                trials.append({"centred": centred, "lambda": weight, "dropped": drop, "gain": gain.mean(),
                               "error": gain.std() / math.sqrt(len(gain)), "cost": -gained(clean, raw_clean, None).mean()}
                              | {name: g.mean() for name, g in each.items()})
    harmless = [t for t in trials if t["cost"] <= HARM]
    best = max(harmless, key=lambda t: t["gain"], default=None)
    near = [t for t in harmless if t["gain"] >= best["gain"] - best["error"]]
    chosen = min(near, key=lambda t: (t["dropped"], -t["gain"]), default=None)
    if chosen and chosen["gain"] <= SURE * chosen["error"]:
        chosen = None
    return trials, chosen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--constancy", default="constancy", help="the program that renders")
    parser.add_argument("--work", required=True, type=Path, help="folder for renders and projection.json, all maps tried")
    options = parser.parse_args()
    vision = HERE / "vision-int8.onnx"
    towers = Towers(vision, HERE / "text-int8.onnx", Words())
    labels = [f"{c} {p}" for p in PARTS for c in CONDITIONS]
    classes = labels_to_classes(towers, labels)

    def rendered(which, *extra):
        name, count, seed = which
        return frames(options.constancy, options.work / "projection" / name, count, seed, SEEN, (640, 480), extra)

    pairs, _ = rendered(PAIRS, "--pairs")
    relit, _ = rendered(RELIT, "--relit")
    choose, facts = rendered(CHOOSE)
    truth = np.array([labels.index(f"{f['condition']} {f['part']}") for f in facts])
    z_pairs, z_relit, clean = (unit(towers.images(f)) for f in (pairs, relit, choose))
    moments = {"renders: light, surface and pose": moment(z_pairs[::2] - z_pairs[1::2]),
               "renders: light and camera": moment(z_relit[::2] - z_relit[1::2]),
               "sentences: surface and light": sentences(towers, labels)}
    changed = {}
    for i, (name, family) in enumerate(FAMILIES.items()):
        moments[name] = moment(z_relit[::2] - unit(towers.images(intervened(relit[::2], family, 500 + i))))
        changed[name] = unit(towers.images(intervened(choose, family, 700 + i)))
    z = np.concatenate([z_pairs, z_relit])
    trials, chosen = select(z, moments, clean, changed, classes, truth)
    raw = {name: correct(v, classes, truth).mean() for name, v in changed.items()}
    untouched = correct(clean, classes, truth).mean()
    report(trials, chosen, raw, untouched, options.work / "projection.json")
    write(z, moments, chosen, np.mean(list(raw.values())), vision)


def report(trials, chosen, raw, untouched, file):
    def plain(row):
        return {k: v if isinstance(v, int) else "inf" if v == math.inf else round(float(v), 4) for k, v in row.items()}

    best = max(trials, key=lambda t: t["gain"])
    found = {"untouched": round(untouched, 4), "raw": plain(raw), "chosen": plain(chosen) if chosen else "identity",
             "best": plain(best), "trials": [plain(t) for t in trials]}
    file.write_text(json.dumps(found, indent=1) + "\n")
    for key in ("untouched", "raw", "chosen", "best"):
        print(f"{key}: {found[key]}")


def write(z, moments, chosen, raw, vision):
    width = z.shape[1]
    how = chosen or {"centred": False, "lambda": 0.0, "dropped": 0, "gain": 0.0}
    mean = z.mean(0) * how["centred"]
    a, values = columns(moment(z - mean), delta(list(moments.values())), how["lambda"], width - how["dropped"])
    if chosen is None:
        a = np.eye(width)
    fitted = {
        "criterion": "accuracy of part and condition under a left-out intervention",
        "environments": SEEN,
        "interventions": sorted(moments),
        "pairs": {"renders": (PAIRS[1] + RELIT[1]) // 2, "each intervention": RELIT[1] // 2},
        "score_before": round(float(raw), 4),
        "score_after": round(float(raw + how["gain"]), 4),
        "identity": chosen is None,
    }
    when = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "1767225600")), datetime.timezone.utc)
    metadata = {
        "format": "constancy-projection",
        "version": "1",
        "encoder_sha256": hashlib.sha256(vision.read_bytes()).hexdigest(),
        "width": str(width),
        "rank": str(a.shape[1]),
        "lambda": f"{how['lambda']:g}",
        "fitted": json.dumps(fitted, separators=(",", ":")),
        "created": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "tool": "models/pocket/projection.py",
    }
    tensors = {"projection": np.ascontiguousarray(a, np.float32), "mean": np.ascontiguousarray(mean, np.float32),
               "eigenvalues": np.ascontiguousarray(values, np.float32)}
    (HERE / "projection.safetensors").write_bytes(stable(save(tensors, metadata=metadata), metadata))


def stable(data, metadata):
    """The same file with its metadata sorted: the library's order changes from run to run."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


if __name__ == "__main__":
    main()
