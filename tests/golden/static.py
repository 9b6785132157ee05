"""Writes tiny image towers that are quantised statically, and ONNX Runtime's embeddings of them.

    venv/bin/python tests/golden/static.py    # after encoder.py, whose vision-fp32.onnx it quantises

Writes to tests/fixtures/encoder: `vision-static-qdq.onnx` (QuantizeLinear and DequantizeLinear around every operator, signed
activations, weights with a scale per channel), `vision-static-qlinear.onnx` (integer operators such as QLinearMatMul,
unsigned activations), their manifests, and `static.safetensors` with one tensor of embeddings per model for the inputs of
`golden.safetensors`. ONNX Runtime computes them without its optimisations, that is, as ONNX defines the operators; its
fused integer kernels round differently (cosine 0.998 to 0.9995 on these towers).
"""

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from safetensors.numpy import load_file

from common import ENCODER, save_tensors, sha256

MANIFEST = """\
[encoder]
name = "tiny-clip"
file = "{file}"
sha256 = "{sha256}"
licence = "MIT OR Apache-2.0"
source = "tests/golden/static.py, random weights"

[input]
name = "pixel_values"
size = 32
resize = "shortest-edge"
filter = "bicubic"
crop = "center"
mean = [0.48145466, 0.4578275, 0.40821073]
std = [0.26862954, 0.26130258, 0.27577711]

[output]
name = "image_embeds"
width = 48
logit_scale = 100.0
"""

FORMS = {
    "vision-static-qdq": dict(
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    ),
    "vision-static-qlinear": dict(
        quant_format=QuantFormat.QOperator,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    ),
}


class Inputs(CalibrationDataReader):
    def __init__(self, images):
        self.images = iter([{"pixel_values": image[None]} for image in images])

    def get_next(self):
        return next(self.images, None)


def embeddings(path, images):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rows = [session.run(["image_embeds"], {"pixel_values": image[None]})[0] for image in images]
    return np.concatenate(rows)


def main():
    images = load_file(ENCODER / "golden.safetensors")["input"].reshape(-1, 3, 32, 32)
    tensors = {}
    for name, form in FORMS.items():
        path = ENCODER / f"{name}.onnx"
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "made.onnx"
            quantize_static(str(ENCODER / "vision-fp32.onnx"), str(made), Inputs(images), **form)
            path.write_bytes(made.read_bytes())
        manifest = MANIFEST.format(file=path.name, sha256=sha256(path))
        (ENCODER / f"{name}.toml").write_text(manifest)
        tensors[name] = embeddings(path, images)
    save_tensors(ENCODER / "static.safetensors", tensors)


if __name__ == "__main__":
    main()
