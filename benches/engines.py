#!/usr/bin/env python3
"""Compares the latency of constancy with other engines on the same towers, in alternating runs.

    cargo build --release
    pip install numpy onnxruntime openvino             openvino is optional
    cargo install rten-cli                             optional
    benches/engines.py MANIFEST.toml…                  prints medians over rounds, and constancy ÷ each engine
    benches/engines.py --threads 2 MANIFEST.toml…      threads per engine; defaults to 1
    benches/engines.py --precision int8 MANIFEST.toml… constancy computes in int8, the others as the file is

The figure for constancy is the median that `constancy bench` reports. Those for ONNX Runtime and OpenVINO are medians of
the same number of runs in this process; that for rten is the median of the runs that `rten` prints. The order of the
engines is reversed every round, so that a machine that slows down affects all of them. `tract` is
`constancy bench --plain`: the same file on plain tract.
"""
import argparse, importlib.util, json, os, pathlib, re, shutil, statistics, subprocess, time, tomllib

import numpy as np
import onnxruntime as ort

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def constancy(manifest, args, *more):
    command = [TARGET / "release" / "constancy", "bench", "--model", manifest, "--json", *more]
    command += ["--threads", str(args.threads), "--runs", str(args.runs)]
    if args.precision and "--plain" not in more:
        command += ["--precision", args.precision]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return report["median_ms"], report["device"]


class Tower:
    """A model file, and a random input for it."""

    def __init__(self, manifest):
        described = tomllib.loads(pathlib.Path(manifest).read_text())
        self.file = str(pathlib.Path(manifest).parent / described["encoder"]["file"])
        edge = described["input"]["size"]
        self.noise = np.random.default_rng(0).uniform(-2, 2, (1, 3, edge, edge)).astype(np.float32)
        self.output = described["output"]["name"]
        self.input = described["input"].get("name")


def median_ms(run, runs):
    times = []
    for _ in range(runs + 3):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[3:])


def onnx_runtime(tower, args):
    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(tower.file, options, providers=["CPUExecutionProvider"])
    feed = {tower.input or session.get_inputs()[0].name: tower.noise}
    return lambda: median_ms(lambda: session.run([tower.output], feed), args.runs)


def openvino(tower, args):
    import openvino as ov

    model = ov.Core().read_model(tower.file)
    model.reshape(list(tower.noise.shape))
    settings = {"INFERENCE_NUM_THREADS": args.threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    request = ov.compile_model(model, "CPU", settings).create_infer_request()
    return lambda: median_ms(lambda: request.infer([tower.noise]), args.runs)


def rten(tower, args):
    command = ["rten", "-k", "-n", str(args.runs + 3), "-t", str(args.threads), tower.file]

    def run():
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return statistics.median(float(ms) for ms in re.findall(r" in ([0-9.]+)ms", printed)[3:])

    return run


def others(manifest, args):
    """The installed engines by name. Prints and leaves out an engine that cannot run this file."""
    tower, engines = Tower(manifest), {}
    makers = {"ORT": onnx_runtime}
    if importlib.util.find_spec("openvino"):
        makers["OpenVINO"] = openvino
    if shutil.which("rten"):
        makers["rten"] = rten
    for name, make in makers.items():
        try:
            engines[name] = make(tower, args)
            engines[name]()
        except Exception as error:  # engines raise errors of their own for a file that they cannot run
            print(f"{name} cannot run {tower.file}: {str(error).splitlines()[0]}")
            engines.pop(name, None)
    engines["tract"] = lambda: constancy(manifest, args, "--plain")[0]
    return engines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", help="number format of constancy's products: file, int8 or fp32")
    parser.add_argument("--runs", type=int, default=20, help="runs of each engine per round")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    if not (TARGET / "release" / "constancy").exists():
        parser.error(f"{TARGET}/release/constancy does not exist; run cargo build --release")
    print(f"ONNX Runtime {ort.__version__}, {args.threads} thread(s), {args.rounds} rounds of {args.runs} runs")
    for manifest in args.manifests:
        engines = others(manifest, args)
        ours, theirs, isa = [], {name: [] for name in engines}, ""
        for number in range(args.rounds):
            steps = [("", None), *engines.items()]
            for name, run in steps if number % 2 == 0 else reversed(steps):
                if run:
                    theirs[name].append(run())
                else:
                    latency, isa = constancy(manifest, args)
                    ours.append(latency)
        print(f"{pathlib.Path(manifest).stem:20} {statistics.median(ours):8.2f} ms on {isa}")
        for name, times in theirs.items():
            ratios = sorted(a / b for a, b in zip(ours, times))
            print(
                f"  {name:18} {statistics.median(times):8.2f} ms  ratio {statistics.median(ratios):.2f}"
                f"  ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
