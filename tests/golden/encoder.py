"""Writes the tiny image towers, their manifests, and ONNX Runtime's embeddings.

    python -m venv venv && venv/bin/pip install -r tests/golden/requirements.txt
    venv/bin/python tests/golden/text.py        # first: vision-fp32.toml names the text tower's hash
    venv/bin/python tests/golden/encoder.py
    venv/bin/python tests/golden/projection.py  # after it: projections name the image tower's hash

Writes to tests/fixtures/encoder: `vision-*.onnx`, CLIP's image tower in Hugging Face's structure with seeded random
weights, in f32 (by both of torch's exporters) and quantised dynamically; `wrong-shape.onnx` and
`two-inputs.onnx`, which must be refused; the manifests; and `golden.safetensors` with `input` and one tensor
of embeddings per model, each row from a run at batch 1, since dynamic quantisation scales by the whole batch.
With the pinned versions a second run writes the same bytes. The quantised embeddings need a CPU with VNNI:
without it ONNX Runtime saturates the products of signed weights, and the check at the end fails.
"""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from common import ENCODER, WIDTH, export, randomise, save_tensors, session, sha256

SEED = 20260101
ROWS = 8
CANDIDATES = 40
IMAGE = 32

MANIFEST = """\
[encoder]
name = "tiny-clip"
file = "{file}"
sha256 = "{sha256}"
licence = "MIT OR Apache-2.0"
source = "tests/golden/encoder.py, random weights"

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

TEXT = """
[text]
file = "text-fp32.onnx"
sha256 = "{sha256}"
tokenizer = "tokenizer.json"
context_length = 16
input = "input_ids"
attention_mask = "attention_mask"
output = "text_embeds"
pad_token_id = 0
"""


class Tower(torch.nn.Module):
    """Returns the projected embedding alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model(pixel_values=pixel_values).image_embeds


def tower():
    config = CLIPVisionConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=192,  # 256 would take the f32 files beyond 500 KB
        image_size=IMAGE,
        patch_size=8,
        projection_dim=WIDTH,
        hidden_act="quick_gelu",
        attn_implementation="eager",
    )
    return Tower(randomise(CLIPVisionModelWithProjection(config), SEED)).eval()


def small(path, inputs):
    """Writes a valid image model of one convolution, for tests that must refuse it before it runs."""
    rng = np.random.default_rng(SEED)
    channels = inputs[0].type.tensor_type.shape.dim[1].dim_value
    weight = rng.normal(0, 0.1, size=(WIDTH, channels, 8, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["pixel_values", "weight"], ["patches"], "conv", strides=[8, 8], kernel_shape=[8, 8]),
        helper.make_node("ReduceMean", ["patches"], ["pooled"], "pool", axes=[2, 3], keepdims=0),
    ]
    if len(inputs) == 1:
        nodes[-1].output[0] = "image_embeds"
    else:
        nodes += [
            helper.make_node("Cast", ["input_ids"], ["ids"], "cast", to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["ids"], ["bias"], "mean", axes=[1], keepdims=1),
            helper.make_node("Add", ["pooled", "bias"], ["image_embeds"], "add"),
        ]
    output = helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["batch_size", WIDTH])
    graph = helper.make_graph(nodes, path.stem, inputs, [output], [numpy_helper.from_array(weight, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


class DequantizeLinear(OpRun):
    """Per tensor. ONNX's reference implements it only from opset 19 on."""

    def _run(self, x, scale, zero, **_):
        return ((x.astype(np.int32) - zero.astype(np.int32)).astype(np.float32) * scale,)


def rows(run, images):
    return np.concatenate([run(images[i : i + 1]) for i in range(len(images))])


def steadiest(images, sessions, rng):
    """The rows whose quantised embeddings change least when the input changes in its seventh digit.

    In the others a value lies so close to the boundary between two 8-bit levels that the order of a summation decides,
    and one level moves the embedding by 0.05: engines would differ without being wrong, and no test could be strict.
    """
    moved = np.zeros(len(images))
    for session in sessions:
        def run(i):
            return session.run(["image_embeds"], {"pixel_values": i})[0]

        still = rows(run, images)
        for _ in range(16):
            trembling = (images * (1 + 1e-6 * rng.standard_normal(images.shape))).astype(np.float32)
            moved = np.maximum(moved, np.abs(rows(run, trembling) - still).max(axis=1))
    best = np.sort(np.argsort(moved, kind="stable")[:ROWS])
    print(f"kept rows {best.tolist()} of {len(images)}, moved by {moved[best].max():.1e} at most")
    return images[best]


def cosines(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def main():
    ENCODER.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    model = tower()
    rng = np.random.default_rng(SEED)
    images = rng.standard_normal((CANDIDATES, 3, IMAGE, IMAGE)).astype(np.float32)

    # Two rows: exporters treat an axis of one as fixed.
    example = (torch.from_numpy(images[:2]),)
    fp32 = ENCODER / "vision-fp32.onnx"
    export(model, example, fp32, ["pixel_values"], "image_embeds", opset=14)
    export(model, example, ENCODER / "vision-dynamo.onnx", ["pixel_values"], "image_embeds", opset=18, dynamo=True)
    quantize_dynamic(fp32, ENCODER / "vision-int8-tensor.onnx", weight_type=QuantType.QUInt8)
    quantize_dynamic(fp32, ENCODER / "vision-int8-channel.onnx", weight_type=QuantType.QInt8, per_channel=True)

    def image(channels):
        shape = ["batch_size", channels, IMAGE, IMAGE]
        return helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, shape)

    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch_size", 16])
    small(ENCODER / "wrong-shape.onnx", [image(1)])
    small(ENCODER / "two-inputs.onnx", [image(3), ids])

    quantised = [session(path) for path in sorted(ENCODER.glob("vision-int8-*.onnx"))]
    images = steadiest(images, quantised, rng)
    golden = {"input": images}
    with torch.no_grad():
        truth = rows(lambda i: model(torch.from_numpy(i)).numpy(), images)
    spread = cosines(truth[:, None], truth[None])[~np.eye(ROWS, dtype=bool)]
    assert spread.max() < 0.9, "the embeddings are nearly the same"
    print(f"between images: cosine {spread.min():.3f} to {spread.max():.3f}, norm {np.linalg.norm(truth[0]):.2f}")
    for path in sorted(ENCODER.glob("vision-*.onnx")):
        graph = onnx.load(path)
        onnx.checker.check_model(graph)
        runtime = session(path)
        found = rows(lambda i: runtime.run(["image_embeds"], {"pixel_values": i})[0], images)
        reference = ReferenceEvaluator(graph, new_ops=[DequantizeLinear])
        exact = rows(lambda i: reference.run(["image_embeds"], {"pixel_values": i})[0], images)
        golden[path.stem] = found
        to_truth, to_exact = cosines(found, truth).min(), cosines(found, exact).min()
        print(f"{path.stem}: cosine to torch {to_truth:.6f}, to ONNX's reference {to_exact:.8f}, "
              f"largest difference to it {np.abs(found - exact).max():.2e}")
        assert to_truth > 0.999 and to_exact > 0.9999
    save_tensors(ENCODER / "golden.safetensors", golden)

    for stem in ["vision-fp32", "vision-dynamo", "vision-int8-tensor", "vision-int8-channel", "wrong-shape", "two-inputs"]:
        path = ENCODER / f"{stem}.onnx"
        text = MANIFEST.format(file=path.name, sha256=sha256(path))
        if stem == "vision-fp32":
            text += TEXT.format(sha256=sha256(ENCODER / "text-fp32.onnx"))
        (ENCODER / f"{stem}.toml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
