"""Checks the files of `constancy model quantise` with ONNX and ONNX Runtime.

    cargo build --release
    venv/bin/python tests/golden/quantise.py --constancy target/release/constancy [--model FP32.onnx]

Quantises the tiny tower that `encoder.py` writes, or MODEL. The files must be valid ONNX, and their embeddings in ONNX
Runtime must be close to those of the fp32 file. With a few channels of the normalisations 25 times larger, the smoothed
file must be closer than that of ONNX Runtime's own `quantize_dynamic`. Writes temporary files only.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from common import ENCODER, session

LEAST = {"int8": 0.9985, "fp16": 0.99999}
OUTLIER = 25.0
ROWS = 16


def embeddings(path, images):
    """Runs the images one at a time: dynamic quantisation scales by the whole batch."""
    runtime = session(path)
    name = runtime.get_inputs()[0].name
    return np.concatenate([runtime.run(["image_embeds"], {name: i[None]})[0] for i in images])


def least_cosine(a, b):
    return ((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)).min()


def with_outliers(source, path):
    model = onnx.load(source)
    for tensor in model.graph.initializer:
        if "layer_norm" in tensor.name and tensor.name.endswith("weight"):
            gain = numpy_helper.to_array(tensor).copy()
            gain[5::16] *= OUTLIER
            tensor.CopyFrom(numpy_helper.from_array(gain, tensor.name))
    onnx.save(model, path)


def quantised(constancy, source, out, *more):
    subprocess.run([constancy, "model", "quantise", source, out, *more], check=True, stdout=subprocess.DEVNULL)
    onnx.checker.check_model(str(out), full_check=True)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--constancy", required=True)
    parser.add_argument("--model", type=Path, default=ENCODER / "vision-fp32.onnx")
    args = parser.parse_args()
    size = onnx.load(args.model, load_external_data=False).graph.input[0].type.tensor_type.shape.dim[3].dim_value
    images = np.random.default_rng(7).standard_normal((ROWS, 3, size, size)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        truth = embeddings(args.model, images)
        for form, least in LEAST.items():
            found = embeddings(quantised(args.constancy, args.model, folder / f"{form}.onnx", "--format", form), images)
            print(f"{form}: least cosine in ONNX Runtime {least_cosine(found, truth):.6f}")
            assert least_cosine(found, truth) >= least
        hard = folder / "hard.onnx"
        with_outliers(args.model, hard)
        truth = embeddings(hard, images)
        ours = embeddings(quantised(args.constancy, hard, folder / "ours.onnx"), images)
        quantize_dynamic(hard, folder / "theirs.onnx", weight_type=QuantType.QInt8, per_channel=True)
        theirs = embeddings(folder / "theirs.onnx", images)
        print(f"outliers: least cosine in ONNX Runtime {least_cosine(ours, truth):.6f}, of quantize_dynamic's file "
              f"{least_cosine(theirs, truth):.6f}")
        assert least_cosine(ours, truth) > least_cosine(theirs, truth)


if __name__ == "__main__":
    main()
