#!/usr/bin/env python3
"""Times constancy on an NVIDIA GPU beside PyTorch and ONNX Runtime on the same card, and compares it with the CPU.

    cargo build --release --features cuda
    pip install numpy torch timm                       without timm, MobileCLIP has no PyTorch twin
    pip install onnxruntime-gpu                        without it, ONNX Runtime is left out
    benches/gpu.py MANIFEST.toml…                      everything below, one line of JSON each
    benches/gpu.py --parts agree,constancy MANIFEST…   some of it
    benches/gpu.py --parts steady --minutes 10 MANIFEST.toml

agree      cosine of GPU to CPU on rendered images (`constancy model compare`); pocket, which is trained on them, on five
           times as many
constancy  latency of one image and throughput of 32, by `constancy bench`
torch      the same architecture in PyTorch, fp16: eager, compiled, and compiled with CUDA graphs
ort        ONNX Runtime's CUDA provider on the same file
steady     the daemon on rendered frames for a while: memory of host and GPU over time

Every figure is from f32 images in the host's memory to f32 embeddings in the host's memory: median of the runs for one
image, images per second for 32. PyTorch gets its images twice: in pinned memory, which the GPU reads itself, and in plain
memory, where constancy's are, too. Compilers of PyTorch run at the same time; times are taken one after the other.
"""
import argparse, importlib.util, json, os, pathlib, select, statistics, subprocess, sys, tempfile, time, tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PARTS = ["agree", "constancy", "torch", "ort", "steady"]
BATCHES = [1, 32]
# PyTorch twins: width, layers, heads, patch.
TRANSFORMERS = {"clip-vit-b32": (768, 12, 12, 32), "clip-vit-b16": (768, 12, 12, 16), "pocket": (192, 6, 3, 32)}
TIMM = {"mobileclip2-s0": "fastvit_mci0"}
MODES = ["eager", "compiled", "graphs"]


def say(**line):
    print(json.dumps(line), flush=True)


class Model:
    def __init__(self, manifest):
        self.manifest = pathlib.Path(manifest).resolve()
        described = tomllib.loads(self.manifest.read_text())
        self.name = described["encoder"]["name"]
        self.file = self.manifest.parent / described["encoder"]["file"]
        self.edge, self.width = described["input"]["size"], described["output"]["width"]
        self.output = described["output"]["name"]


def run(command, limit):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=limit).stdout


def agree(model, args):
    command = [args.constancy, "model", "compare", model.manifest, model.manifest, "--device", "cuda", "--json"]
    count = args.images * 5 if model.name == "pocket" else args.images
    found = json.loads(run([*command, "-n", str(count)], args.limit))
    say(part="agree", model=model.name, device=found["b"]["device"], **found["cosine"])


def constancy(model, args):
    for batch in BATCHES:
        for plain in [False, True] if args.plain else [False]:
            command = [args.constancy, "bench", "--model", model.manifest, "--device", "cuda", "--json"]
            command += ["--batch", str(batch), "--runs", str(args.runs // (1 if batch == 1 else 4))]
            try:
                found = json.loads(run([*command, *["--plain"][:plain]], args.limit))
            except subprocess.CalledProcessError as e:
                say(part="constancy", model=model.name, batch=batch, plain=plain, failed=e.stderr[-2000:])
                continue
            keys = ["device", "median_ms", "p95_ms", "images_per_second", "load_ms"]
            line = {key: round(found[key], 4) if isinstance(found[key], float) else found[key] for key in keys}
            operators = [(o["operator"], o["calls"], round(o["ms"], 3)) for o in found["operators"]]
            say(part="constancy", model=model.name, batch=batch, plain=plain, **line, operators=operators)


def twin(name, edge, width):
    """The architecture in PyTorch, with random weights."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self, dim, heads):
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
            self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
            self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

        def forward(self, x):
            b, s, d = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(b, s, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
            x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, s, d))
            h = self.up(self.norm2(x))
            return x + self.down(h * torch.sigmoid(1.702 * h))

    class Tower(nn.Module):
        def __init__(self, dim, layers, heads, patch):
            super().__init__()
            self.patches = nn.Conv2d(3, dim, patch, patch, bias=False)
            self.token = nn.Parameter(torch.randn(1, 1, dim))
            self.place = nn.Parameter(torch.randn(1, (edge // patch) ** 2 + 1, dim))
            self.before, self.after = nn.LayerNorm(dim), nn.LayerNorm(dim)
            self.blocks = nn.ModuleList([Block(dim, heads) for _ in range(layers)])
            self.projection = nn.Linear(dim, width, bias=False)

        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
            x = self.before(x)
            for block in self.blocks:
                x = block(x)
            return self.projection(self.after(x[:, 0]))

    if name in TRANSFORMERS:
        model = Tower(*TRANSFORMERS[name])
    else:
        import timm
        from timm.utils import reparameterize_model
        model = reparameterize_model(timm.create_model(TIMM[name], pretrained=False, num_classes=width).eval())
    return model.eval().half().cuda()


def torch_worker(name, edge, width, mode, runs):
    """Compiles, says so, waits for its turn, and times."""
    import torch
    model = twin(name, edge, width)
    if name in TIMM:
        model = model.to(memory_format=torch.channels_last)
    if mode != "eager":
        model = torch.compile(model, mode="reduce-overhead" if mode == "graphs" else "default", dynamic=False)

    def embed(images):
        return model(images.cuda(non_blocking=True).half()).float().cpu()

    inputs = {batch: torch.randn(batch, 3, edge, edge).pin_memory() for batch in BATCHES}
    with torch.inference_mode():
        for images in inputs.values():
            for _ in range(4):
                embed(images)
        print("ready", flush=True)
        sys.stdin.readline()
        plain = {(batch, "plain"): images.clone() for batch, images in inputs.items()}
        for (batch, memory), images in {**{(b, "pinned"): i for b, i in inputs.items()}, **plain}.items():
            times = []
            for i in range(runs // (1 if batch == 1 else 4) + 10):
                start = time.perf_counter()
                embed(images)
                times.append((time.perf_counter() - start) * 1e3)
            times = sorted(times[10:])
            median = statistics.median(times)
            say(part="torch", model=name, mode=mode, batch=batch, memory=memory, median_ms=round(median, 4),
                p95_ms=round(times[len(times) * 95 // 100], 4),
                images_per_second=round(batch * len(times) / sum(times) * 1e3, 1), torch=torch.__version__)


class Twins:
    """PyTorch's processes: they compile side by side, while nothing is timed, and run one after the other."""

    def __init__(self, models, args):
        self.workers, self.args, self.waited = [], args, False
        known = [model for model in models if model.name in TRANSFORMERS or model.name in TIMM]
        for model in known:
            for mode in args.modes.split(","):
                command = [sys.executable, __file__, "--torch-worker", model.name, str(model.edge), str(model.width), mode]
                errors = tempfile.TemporaryFile("w+")
                process = subprocess.Popen(
                    [*command, "--runs", str(args.runs)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                    text=True, env={**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "4"})
                self.workers.append((model, mode, process, errors))

    def wait(self):
        """Until each has compiled, failed, or had its time; once."""
        if self.waited:
            return
        self.waited = True
        end, ready = time.monotonic() + self.args.limit, []
        for model, mode, process, errors in self.workers:
            readable, _, _ = select.select([process.stdout], [], [], max(end - time.monotonic(), 0))
            if readable and process.stdout.readline().strip() == "ready":
                ready.append((model, mode, process, errors))
                continue
            process.kill()
            errors.seek(0)
            say(part="torch", model=model.name, mode=mode, failed=errors.read()[-800:] or "it took too long")
        self.workers = ready

    def run(self):
        for model, mode, process, _ in self.workers:
            try:
                print(process.communicate("go\n", timeout=self.args.limit)[0], end="", flush=True)
            except subprocess.TimeoutExpired:
                process.kill()
                say(part="torch", model=model.name, mode=mode, failed="it took too long")


def ort(model, args):
    import numpy as np, onnxruntime
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        say(part="ort", model=model.name, left_out="this onnxruntime has no CUDA provider")
        return
    session = onnxruntime.InferenceSession(str(model.file), providers=["CUDAExecutionProvider"])
    for batch in BATCHES:
        feed = {session.get_inputs()[0].name: np.random.rand(batch, 3, model.edge, model.edge).astype(np.float32)}
        times = []
        for _ in range(args.runs // (1 if batch == 1 else 4) + 10):
            start = time.perf_counter()
            session.run([model.output], feed)
            times.append((time.perf_counter() - start) * 1e3)
        times = times[10:]
        say(part="ort", model=model.name, batch=batch, median_ms=round(statistics.median(times), 4),
            images_per_second=round(batch * len(times) / sum(times) * 1e3, 1), version=onnxruntime.__version__)


def steady(model, args):
    """The daemon on rendered frames, its events counted, memory looked at every few seconds."""
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "steady.toml"
        bank = model.manifest.parent / "classes.safetensors"
        config.write_text(
            f'device = "steady"\n[model]\nmanifest = "{model.manifest}"\n[engine]\ndevice = "cuda"\n'
            f'[classes]\nbank = "{bank}"\n' + "".join(
                f'[[camera]]\nname = "camera{i}"\n[camera.synthetic]\nseed = {i}\nframes_each = 50\n'
                "width = 320\nheight = 240\n" for i in range(args.cameras)))
        events = open(pathlib.Path(folder) / "events", "w+")
        daemon = subprocess.Popen([args.constancy, "run", "--config", config], stdout=events)
        start, seen = time.monotonic(), []
        while time.monotonic() - start < args.minutes * 60 and daemon.poll() is None:
            time.sleep(5)
            seen.append(memory_mib(daemon.pid))
            say(part="steady", model=model.name, seconds=round(time.monotonic() - start), **seen[-1])
        daemon.terminate()
        daemon.wait(30)
        events.seek(0)
        lines = events.readlines()
        embed = sorted(json.loads(line)["latency_ms"]["embed"] for line in lines[len(lines) // 2:])
        half = seen[len(seen) // 2:]
        grown = {key: half[-1][key] - half[0][key] for key in half[0]} if half else {}
        say(part="steady", model=model.name, events=len(lines), exit=daemon.returncode,
            embed_ms=embed[len(embed) // 2] if embed else None, grown_in_second_half_mib=grown)


def memory_mib(pid):
    def resident(pid):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) // 1024
        return 0
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    used = run(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"], 30).split()
    return {"daemon": resident(pid), "worker": sum(map(resident, map(int, children))), "gpu": int(used[0])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="*")
    parser.add_argument("--parts", default="agree,constancy,torch,ort")
    parser.add_argument("--constancy", default=TARGET / "release" / "constancy")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--images", type=int, default=100, help="for `agree`")
    parser.add_argument("--plain", action="store_true", help="also without our fused operators")
    parser.add_argument("--modes", default=",".join(MODES), help="of PyTorch")
    parser.add_argument("--minutes", type=float, default=10, help="for `steady`")
    parser.add_argument("--cameras", type=int, default=1, help="for `steady`")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one step")
    parser.add_argument("--torch-worker", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.torch_worker:
        name, edge, width, mode = args.torch_worker
        return torch_worker(name, int(edge), int(width), mode, args.runs)
    parts, models = args.parts.split(","), [Model(m) for m in args.manifests]
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    have_torch = importlib.util.find_spec("torch") is not None
    twins = Twins(models if "torch" in parts and have_torch else [], args)
    for part in sorted(parts, key=PARTS.index):
        if part != "agree":
            twins.wait()
        if part == "torch":
            twins.run()
            continue
        for model in models:
            try:
                {"agree": agree, "constancy": constancy, "ort": ort, "steady": steady}[part](model, args)
            except Exception as e:  # one that fails must not lose the others
                said = getattr(e, "stderr", None) or str(e)
                say(part=part, model=model.name, failed=said[-2000:])


if __name__ == "__main__":
    main()
