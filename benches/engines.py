#!/usr/bin/env python3
"""Times constancy and ONNX Runtime on the same towers, alternating, one thread each unless told; prints ratios.

    cargo build --release
    pip install numpy onnxruntime
    benches/engines.py MANIFEST.toml…                  medians of several rounds, and constancy ÷ ONNX Runtime
    benches/engines.py --threads 2 MANIFEST.toml…

constancy's figure is `constancy bench`, the median of its runs; ONNX Runtime's is the median of as many runs in this
process. The order changes from round to round, so that a machine that slows down slows both.
"""
import argparse, json, os, pathlib, statistics, subprocess, time, tomllib

import numpy as np
import onnxruntime as ort

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def constancy(manifest, args):
    command = [TARGET / "release" / "constancy", "bench", "--model", manifest, "--json"]
    command += ["--threads", str(args.threads), "--runs", str(args.runs)]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return report["median_ms"], report["isa"]


class OnnxRuntime:
    def __init__(self, manifest, args):
        described = tomllib.loads(pathlib.Path(manifest).read_text())
        options = ort.SessionOptions()
        options.intra_op_num_threads = args.threads
        options.inter_op_num_threads = 1
        file = pathlib.Path(manifest).parent / described["encoder"]["file"]
        self.session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        edge = described["input"]["size"]
        noise = np.random.default_rng(0).uniform(-2, 2, (1, 3, edge, edge)).astype(np.float32)
        self.feed = {described["input"].get("name") or self.session.get_inputs()[0].name: noise}
        self.output = [described["output"]["name"]]

    def time(self, runs):
        times = []
        for run in range(runs + 3):
            start = time.perf_counter()
            self.session.run(self.output, self.feed)
            times.append((time.perf_counter() - start) * 1e3)
        return statistics.median(times[3:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=20, help="of each engine in a round")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    if not (TARGET / "release" / "constancy").exists():
        parser.error(f"{TARGET}/release/constancy is not there: cargo build --release")
    print(f"ONNX Runtime {ort.__version__}, {args.threads} thread(s), {args.rounds} rounds of {args.runs} runs")
    print(f"{'model':28} {'constancy':>10} {'ORT':>10} {'ratio':>7}  (least to most)")
    for manifest in args.manifests:
        other = OnnxRuntime(manifest, args)
        ours, theirs = [], []
        for number in range(args.rounds):
            steps = [lambda: ours.append(constancy(manifest, args)), lambda: theirs.append(other.time(args.runs))]
            for step in steps if number % 2 == 0 else reversed(steps):
                step()
        ratios = sorted(a / b for (a, _), b in zip(ours, theirs))
        print(
            f"{pathlib.Path(manifest).stem:28} {statistics.median(a for a, _ in ours):7.2f} ms"
            f" {statistics.median(theirs):7.2f} ms {statistics.median(ratios):7.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f}) {ours[0][1]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
