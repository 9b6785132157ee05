"""Zero-shot accuracy of the shipped files on fresh renders, per environment, raw and projected.

    venv/bin/python models/pocket/evaluate.py --constancy PATH --work FOLDER [--count 500]

Frames are 640x480, as a camera gives them. The prompt is "a photo of a {}"; labels are the 8 parts, and the 40
pairs of condition and part. Intervals are Wilson's, 95 %. Writes FOLDER/evaluation.json and prints a table.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from data import CONDITIONS, PARTS, SEEN, UNSEEN, frames
from model import HERE, Words
from run import Towers, labels_to_classes, unit

SEED = 909
FRAME = (640, 480)


def wilson(hits, count):
    """Share and its 95 % interval."""
    z = 1.959964
    share = hits / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return share, centre - half, centre + half


def projected(v, projection):
    return unit((unit(v) - projection["mean"].astype(np.float64)) @ projection["projection"].astype(np.float64))


def hits(z, labels, classes, truth, projection):
    """How many images are nearest to their own label; without a projection in the whole space."""
    place = (lambda v: projected(v, projection)) if projection else unit
    best = (place(z) @ place(classes).T).argmax(1)
    return sum(labels[b] == t for b, t in zip(best, truth))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--constancy", default="constancy", help="the program that renders")
    parser.add_argument("--work", required=True, type=Path, help="folder for renders and the result")
    parser.add_argument("--count", type=int, default=500, help="renders per environment")
    options = parser.parse_args()
    towers = Towers(HERE / "vision-int8.onnx", HERE / "text-int8.onnx", Words())
    both = [f"{c} {p}" for p in PARTS for c in CONDITIONS]
    tasks = {"part": (PARTS, lambda f: f["part"]), "part x condition": (both, lambda f: f"{f['condition']} {f['part']}")}
    classes = {name: labels_to_classes(towers, labels) for name, (labels, _) in tasks.items()}
    file = HERE / "projection.safetensors"
    maps = {"raw": None} | ({"projected": load_file(file)} if file.exists() else {})
    counts = {}
    for i, environment in enumerate(SEEN + UNSEEN):
        images, facts = frames(options.constancy, options.work / "eval" / environment, options.count, SEED + i, [environment], FRAME)
        z = towers.images(images)
        for name, (labels, of) in tasks.items():
            for how, projection in maps.items():
                counts[environment, name, how] = hits(z, labels, classes[name], [of(f) for f in facts], projection)
    report(counts, tasks, maps, options)


def report(counts, tasks, maps, options):
    groups = [([e], e) for e in SEEN] + [(SEEN, "all seen")] + [([e], e) for e in UNSEEN] + [(UNSEEN, "all unseen")]
    columns = [(task, how) for task in tasks for how in maps]
    result = {}
    print("| environment | " + " | ".join(f"{task}, {how}" for task, how in columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for members, name in groups:
        row = result[name] = {}
        for task, how in columns:
            total = options.count * len(members)
            share, low, high = wilson(sum(counts[e, task, how] for e in members), total)
            row[f"{task}, {how}"] = {"accuracy": round(share, 4), "low": round(low, 4), "high": round(high, 4), "count": total}
        cells = [f"{100 * v['accuracy']:.1f} ({100 * v['low']:.1f} to {100 * v['high']:.1f})" for v in row.values()]
        print(f"| {name} | " + " | ".join(cells) + " |")
    (options.work / "evaluation.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
