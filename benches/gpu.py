#!/usr/bin/env python3
"""Judges constancy on an NVIDIA GPU: against PyTorch and ONNX Runtime on the same card, and against its own CPU.

    make bench-gpu                                     builds, installs, fetches nothing but Python's packages, runs this
    benches/gpu.py MANIFEST.toml…                      the same with what is there; 20 minutes and more
    benches/gpu.py --parts constancy,torch MANIFEST…   some of it
    benches/gpu.py --parts steady --earlier A.jsonl MANIFEST…
                                                       the rest, judged together with what an earlier run printed

It needs `cargo build --release --features cuda` (or cuda-jetpack6) and CUDA's libraries (docs/boards.md), for the rivals
`pip install numpy torch timm onnxruntime-gpu`, before Python 3.11 also `tomli`. What is not installed is named, and leaves
its goals unjudged. Models are those of models/: pocket is there; clip-vit-b32.toml, clip-vit-b16.toml and
mobileclip2-s0.toml say where their files come from. Times do not depend on weights: an export with random ones serves, too.

agree      cosine of GPU to CPU on rendered images (`constancy model compare`); pocket, which is trained on them, on five
           times as many
constancy  latency of one image, throughput of 32, and the profile: operators and launches (`constancy bench`)
torch      the same architecture in PyTorch, fp16: eager, compiled, and compiled with CUDA graphs
ort        ONNX Runtime's CUDA provider on the same file
steady     the daemon with the first model for 10 minutes on 1,000 renders over and over: memory of daemon, its process on
           the GPU and the card; and every decision against the CPU's of the same frame

Every figure is from f32 images in the host's memory to f32 embeddings in the host's memory: median of the runs for one
image, images per second for 32. PyTorch gets its images twice: in pinned memory, which the GPU reads itself, and in plain
memory, where constancy's are, too; the better counts.

A line of JSON for each thing that is measured, then tables. The goals, by benches/gpu/judge.py: cosine 0.999 at least; one
image in no more time than the best rival takes; 32 images within 1.3 times the best rival's throughput; in the long run
memory flat (a straight line through what was seen after the first fifth rises by 2 % or 8 MiB at most) and every decision
within tolerance (no score more than 0.05 from the CPU's). Exit status: 0 if all are met, 1 if one is missed or a step of
constancy's fails, 3 if one could not be judged.
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
    """The card and its driver, by which runs belong together."""
    try:
        found = run(["nvidia-smi", "--query-gpu=name,driver_version,uuid", "--format=csv,noheader"], 30)
    except (OSError, subprocess.SubprocessError) as e:
        return f"nvidia-smi says nothing: {e}"
    return found.splitlines()[0]


def agree(model, args, tell):
    command = ["model", "compare", model.manifest, model.manifest, "--device", args.device, "--json"]
    count = args.images * 5 if model.name == "pocket" else args.images
    found = json.loads(args.constancy_run([*command, "-n", count]))
    tell(part="agree", model=model.name, device=found["b"]["device"], **found["cosine"])


def constancy(model, args, tell):
    for batch in BATCHES:
        for plain in [False, True] if args.plain else [False]:
            command = ["bench", "--model", model.manifest, "--device", args.device, "--json", *["--plain"][:plain]]
            command += ["--batch", batch, "--runs", runs_of(batch, args.runs)]
            where = {"part": "constancy", "model": model.name, "batch": batch, "plain": plain}
            try:
                found = json.loads(args.constancy_run(command))
            except subprocess.SubprocessError as e:
                tell(**where, failed=what_it_said(e))
                continue
            keys = ["device", "median_ms", "p95_ms", "images_per_second", "load_ms"]
            line = {key: round(found[key], 4) if isinstance(found[key], float) else found[key] for key in keys}
            operators = [(o["operator"], o["calls"], round(o["ms"], 3)) for o in found["operators"]]
            tell(**where, **line, operators=operators)


def ort(model, args, tell):
    absent = [name for name in ("numpy", "onnxruntime") if importlib.util.find_spec(name) is None]
    if absent:
        said = f"not installed: {', '.join(absent)} (pip install numpy onnxruntime-gpu)"
        return tell(part="ort", model=model.name, left_out=said)
    import numpy as np, onnxruntime
    provider = "CUDAExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        said = f"onnxruntime {onnxruntime.__version__} has no CUDA provider (pip install onnxruntime-gpu)"
        return tell(part="ort", model=model.name, left_out=said)
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA's libraries, which PyTorch's wheels bring
    session = onnxruntime.InferenceSession(str(model.file), providers=[provider])
    # It falls back to the CPU without an error.
    if session.get_providers()[0] != provider:
        return tell(part="ort", model=model.name, left_out="its CUDA provider cannot be loaded: its log above says why")
    for batch in BATCHES:
        images = np.random.default_rng(0).uniform(-2, 2, (batch, 3, model.edge, model.edge)).astype(np.float32)
        feed = {session.get_inputs()[0].name: images}
        times = timed(lambda: session.run([model.output], feed), runs_of(batch, args.runs))
        tell(part="ort", model=model.name, **figures(batch, times), version=onnxruntime.__version__)


def what_it_said(error):
    return (getattr(error, "stderr", None) or str(error)).strip()[-2000:]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--earlier", nargs="*", default=[], help="lines of earlier runs on the same card, judged with these")
    parser.add_argument("--constancy", default=TARGET / "release" / "constancy")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1; cpu tries this script where there is no GPU")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--images", type=int, default=200, help="for `agree`")
    parser.add_argument("--plain", action="store_true", help="also without our fused operators")
    parser.add_argument("--modes", default=",".join(MODES), help="of PyTorch")
    parser.add_argument("--minutes", type=float, default=judge.MINUTES, help="for `steady`")
    parser.add_argument("--cameras", type=int, default=2, help="for `steady`, whose frames go to the GPU together")
    parser.add_argument("--limit", type=float, default=900, help="seconds for one step")
    args = parser.parse_args()
    args.parts = args.parts.split(",")
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if not pathlib.Path(args.constancy).exists():
        parser.error(f"there is no {args.constancy}: cargo build --release --features cuda")
    args.constancy_run = lambda command: run([args.constancy, *map(str, command)], args.limit)
    return parser, args


def earlier(parser, args, here):
    """The lines of earlier runs, which must be of this card."""
    lines = []
    for path in args.earlier:
        read = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines() if line.startswith("{")]
        cards = {line["card"] for line in read if line["part"] == "card"}
        if cards != {here}:
            theirs = ", ".join(cards) or "no card"
            parser.error(f"{path} is of {theirs}, this is {here}: figures of two cards are not compared")
        lines += [line for line in read if line["part"] in PARTS]
    return lines


def main():
    parser, args = arguments()
    here, models = card(), [Model(m) for m in args.manifests]
    lines = earlier(parser, args, here)
    tell = lambda **line: lines.append(say(**line))
    say(part="card", card=here, device=args.device, cpus=os.cpu_count())
    twins = Twins(models if "torch" in args.parts else [], args, tell)
    for part in sorted(args.parts, key=PARTS.index):
        # While PyTorch compiles nothing is timed.
        if part != "agree":
            twins.wait()
        if part == "torch":
            twins.run()
            continue
        step = {"agree": agree, "constancy": constancy, "ort": ort, "steady": steady}[part]
        for model in models[:1] if part == "steady" else models:
            try:
                step(model, args, tell)
            except Exception as e:  # one that fails must not lose the others
                tell(part=part, model=model.name, failed=what_it_said(e))
    names = [model.name for model in models]
    judged = judge.verdicts(lines, names, args.device)
    code = judge.exit_code(judged)
    say(part="summary", exit=code, verdicts=judged)
    print(f"\n{here}, device {args.device}\n\n{judge.tables(lines, names, judged)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
