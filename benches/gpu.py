#!/usr/bin/env python3
"""Benchmarks constancy on an NVIDIA GPU against PyTorch and ONNX Runtime on the same card, and against its own CPU path.

    make bench-gpu                                     builds constancy, installs Python packages, runs this script
    benches/gpu.py MANIFEST.toml…                      runs all parts; takes 20 minutes or more
    benches/gpu.py --parts constancy,torch MANIFEST…   runs some parts
    benches/gpu.py --parts steady --earlier A.jsonl MANIFEST…
                                                       runs the rest, and judges it with the output of an earlier run

Requirements: `cargo build --release --features cuda` (or cuda-jetpack6) and the CUDA libraries (docs/boards.md); for the
other engines `pip install numpy torch timm onnxruntime-gpu`, and `tomli` before Python 3.11. The output names what is not
installed, and its goals are not judged. Models are those of models/: pocket is included; clip-vit-b32.toml,
clip-vit-b16.toml and mobileclip2-s0.toml say where their files come from. Times do not depend on weights, so an export
with random weights works as well.

agree      cosine between GPU and CPU on rendered images (`constancy model compare`); on five times as many for pocket,
           which is trained on them
constancy  latency of one image, throughput of 32, and the profile by operators and launches (`constancy bench`)
torch      the same architecture in PyTorch, fp16: eager, compiled, and compiled with CUDA graphs
ort        ONNX Runtime with its CUDA provider on the same file
steady     the daemon with the first model for 10 minutes, looping over 1,000 renders: memory of the daemon, of its GPU
           worker and of the card; and every decision compared with the CPU's for the same frame

Every time is measured from f32 images in host memory to f32 embeddings in host memory: the median latency for one image,
images per second for 32. PyTorch is timed with images in pinned memory, which the GPU reads directly, and in pageable
memory, which constancy uses; the better of the two counts.

The output is one line of JSON per measurement, then tables. The goals, as benches/gpu/judge.py defines them: a cosine of
at least 0.999; one image no slower than the fastest other engine; a throughput for 32 images of at least the best other
engine's divided by 1.3; in the long run, flat memory (a line fitted to the samples after the first fifth rises by at most
2 % or 8 MiB) and every decision within tolerance (no score more than 0.05 from the CPU's). Exit status: 0 if all goals
are met, 1 if one is missed or a constancy step fails, 3 if one could not be judged.
"""
import argparse, importlib.util, json, os, pathlib, subprocess, sys

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, as JetPack 6 has it
    import tomli as tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
sys.path.insert(0, str(ROOT / "benches" / "gpu"))
sys.dont_write_bytecode = True
import judge
from steady import steady
from twins import BATCHES, MODES, Twins, figures, runs_of, say, timed

PARTS = ["agree", "constancy", "torch", "ort", "steady"]


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


def card():
    """The card and its driver; only runs with the same ones are compared."""
    try:
        found = run(["nvidia-smi", "--query-gpu=name,driver_version,uuid", "--format=csv,noheader"], 30)
    except (OSError, subprocess.SubprocessError) as e:
        return f"nvidia-smi failed: {e}"
    return found.splitlines()[0]


def agree(model, args, record):
    command = ["model", "compare", model.manifest, model.manifest, "--device", args.device, "--json"]
    count = args.images * 5 if model.name == "pocket" else args.images
    found = json.loads(args.constancy_run([*command, "-n", count]))
    record(part="agree", model=model.name, device=found["b"]["device"], **found["cosine"])


def constancy(model, args, record):
    for batch in BATCHES:
        for plain in [False, True] if args.plain else [False]:
            command = ["bench", "--model", model.manifest, "--device", args.device, "--json", *["--plain"][:plain]]
            command += ["--batch", batch, "--runs", runs_of(batch, args.runs)]
            where = {"part": "constancy", "model": model.name, "batch": batch, "plain": plain}
            try:
                found = json.loads(args.constancy_run(command))
            except subprocess.SubprocessError as e:
                record(**where, failed=error_text(e))
                continue
            keys = ["device", "median_ms", "p95_ms", "images_per_second", "load_ms"]
            line = {key: round(found[key], 4) if isinstance(found[key], float) else found[key] for key in keys}
            operators = [(o["operator"], o["calls"], round(o["ms"], 3)) for o in found["operators"]]
            record(**where, **line, operators=operators)


def ort(model, args, record):
    absent = [name for name in ("numpy", "onnxruntime") if importlib.util.find_spec(name) is None]
    if absent:
        said = f"not installed: {', '.join(absent)} (pip install numpy onnxruntime-gpu)"
        return record(part="ort", model=model.name, left_out=said)
    import numpy as np, onnxruntime
    provider = "CUDAExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        said = f"onnxruntime {onnxruntime.__version__} has no CUDA provider (pip install onnxruntime-gpu)"
        return record(part="ort", model=model.name, left_out=said)
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # the CUDA libraries in PyTorch's wheels
    session = onnxruntime.InferenceSession(str(model.file), providers=[provider])
    # ONNX Runtime falls back to the CPU without an error.
    if session.get_providers()[0] != provider:
        return record(part="ort", model=model.name, left_out="its CUDA provider cannot be loaded: its log above says why")
    for batch in BATCHES:
        images = np.random.default_rng(0).uniform(-2, 2, (batch, 3, model.edge, model.edge)).astype(np.float32)
        feed = {session.get_inputs()[0].name: images}
        times = timed(lambda: session.run([model.output], feed), runs_of(batch, args.runs))
        record(part="ort", model=model.name, **figures(batch, times), version=onnxruntime.__version__)


def error_text(error):
    return (getattr(error, "stderr", None) or str(error)).strip()[-2000:]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--earlier", nargs="*", default=[], help="output of earlier runs on the same card, to judge together with this one")
    parser.add_argument("--constancy", default=TARGET / "release" / "constancy")
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N; cpu to try this script without a GPU")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--images", type=int, default=200, help="number of images for `agree`")
    parser.add_argument("--plain", action="store_true", help="also time plain tract, without the fused operators")
    parser.add_argument("--modes", default=",".join(MODES), help="modes of PyTorch")
    parser.add_argument("--minutes", type=float, default=judge.MINUTES, help="duration of `steady`")
    parser.add_argument("--cameras", type=int, default=2, help="number of cameras for `steady`; their frames are batched on the GPU")
    parser.add_argument("--limit", type=float, default=900, help="seconds allowed for one step")
    args = parser.parse_args()
    args.parts = args.parts.split(",")
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    if not pathlib.Path(args.constancy).exists():
        parser.error(f"{args.constancy} does not exist; run cargo build --release --features cuda")
    args.constancy_run = lambda command: run([args.constancy, *map(str, command)], args.limit)
    return parser, args


def earlier(parser, args, here):
    """The measurements of earlier runs, which must be from this card."""
    lines = []
    for path in args.earlier:
        read = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines() if line.startswith("{")]
        cards = {line["card"] for line in read if line["part"] == "card"}
        if cards != {here}:
            theirs = ", ".join(cards) or "no card"
            parser.error(f"{path} was measured on {theirs}, not on {here}; figures of two cards cannot be compared")
        lines += [line for line in read if line["part"] in PARTS]
    return lines


def main():
    parser, args = arguments()
    here, models = card(), [Model(m) for m in args.manifests]
    lines = earlier(parser, args, here)
    record = lambda **line: lines.append(say(**line))
    say(part="card", card=here, device=args.device, cpus=os.cpu_count())
    twins = Twins(models if "torch" in args.parts else [], args, record)
    for part in sorted(args.parts, key=PARTS.index):
        # Nothing is timed while PyTorch compiles.
        if part != "agree":
            twins.wait()
        if part == "torch":
            twins.run()
            continue
        step = {"agree": agree, "constancy": constancy, "ort": ort, "steady": steady}[part]
        for model in models[:1] if part == "steady" else models:
            try:
                step(model, args, record)
            except Exception as e:  # a failed step must not lose the results of the others
                record(part=part, model=model.name, failed=error_text(e))
    names = [model.name for model in models]
    judged = judge.verdicts(lines, names, args.device)
    code = judge.exit_code(judged)
    say(part="summary", exit=code, verdicts=judged)
    print(f"\n{here}, device {args.device}\n\n{judge.tables(lines, names, judged)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
