"""Writes the shipped towers from what `train.py` left.

    venv/bin/python models/pocket/export.py --work FOLDER --constancy PATH

Into FOLDER: `vision-fp32.onnx` and `text-fp32.onnx`. Beside this script: `vision-int8.onnx`, `text-int8.onnx` and
the manifest `pocket.toml`. The int8 files hold the weights of matrix products as signed 8-bit numbers, one scale
per output; activations are quantised as they come. The patch embedding's convolution stays in f32.

Checks at the end: on fresh renders, int8 and fp32 agree with a cosine of 0.995 or more in the median, and name the
same of the 40 classes on 98 % or more.
"""

import argparse
import hashlib
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from data import CONDITIONS, PARTS, SEEN, frames
from model import CONTEXT, HERE, WIDTH, Words, build, image_embeds
from run import Towers, unit

OPSET = 17
ALIKE, SAME = 0.995, 0.98

MANIFEST = """\
# pocket: a small CLIP of factory parts in a rendered workshop. MODEL_CARD.md says what it can do and what not.
[encoder]
name = "pocket"
file = "vision-int8.onnx"
sha256 = "{vision}"
licence = "MIT OR Apache-2.0"
source = "models/pocket/train.py"

[input]
name = "pixel_values"
size = 224
resize = "shortest-edge"
filter = "bicubic"
crop = "center"
mean = [0.48145466, 0.4578275, 0.40821073]
std = [0.26862954, 0.26130258, 0.27577711]

[output]
name = "image_embeds"
width = {width}
logit_scale = {scale:.4f}

[text]
file = "text-int8.onnx"
sha256 = "{text}"
tokenizer = "tokenizer.json"
context_length = {context}
input = "input_ids"
output = "text_embeds"
pad_token_id = 0
"""


class Vision(torch.nn.Module):
    """Pixels to the embedding."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return image_embeds(self.model, pixel_values)


class Text(torch.nn.Module):
    """Token ids to the embedding: causal attention, pooled at the first end token, so padding has no say."""

    def __init__(self, model, end):
        super().__init__()
        self.text, self.projection, self.end = model.text_model, model.text_projection, end
        # Written out, since the library builds its mask in ways that exporters spell at length.
        self.register_buffer("mask", torch.full((CONTEXT, CONTEXT), -1e4).triu(1)[None, None])
        self.register_buffer("places", torch.arange(CONTEXT)[None])

    def forward(self, input_ids):
        embeddings = self.text.embeddings
        hidden = embeddings.token_embedding(input_ids) + embeddings.position_embedding(self.places)
        for layer in self.text.encoder.layers:
            hidden = hidden + attention(layer.self_attn, layer.layer_norm1(hidden), self.mask)
            hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
        hidden = self.text.final_layer_norm(hidden)
        ends = (input_ids == self.end).to(hidden.dtype)
        # The first end token: nothing before it ended.
        first = ends * (torch.cumsum(ends, 1) == 1).to(hidden.dtype)
        return self.projection((hidden * first.unsqueeze(-1)).sum(1))


def attention(layer, hidden, mask):
    """CLIP's multi-head attention in plain steps."""
    length, heads = hidden.shape[1], layer.num_heads
    split = [p(hidden).view(-1, length, heads, layer.head_dim).transpose(1, 2) for p in (layer.q_proj, layer.k_proj, layer.v_proj)]
    query, key, value = split
    weights = torch.softmax(query @ key.transpose(2, 3) * layer.head_dim**-0.5 + mask, -1)
    return layer.out_proj((weights @ value).transpose(1, 2).reshape(-1, length, heads * layer.head_dim))


def export(module, example, path, inputs, output):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (example,), str(path), dynamo=False, opset_version=OPSET, input_names=[inputs],
                          output_names=[output], dynamic_axes={inputs: {0: "batch_size"}, output: {0: "batch_size"}})
    save(onnx.load(path), path)


def save(graph, path):
    """Without notes on the machine and the build that made it."""
    graph.producer_version = ""
    for part in [graph, graph.graph, *graph.graph.node, *graph.graph.value_info, *graph.graph.input]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def quantise(source, target):
    quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
    save(onnx.load(target), target)


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def compare(work, constancy, words):
    images, _ = frames(constancy, work / "int8-check", 500, 4242, SEEN, (640, 480))
    full = Towers(work / "vision-fp32.onnx", work / "text-fp32.onnx", words)
    small = Towers(HERE / "vision-int8.onnx", HERE / "text-int8.onnx", words)
    a, b = full.images(images), small.images(images)
    labels = [f"a photo of a {c} {p}" for p in PARTS for c in CONDITIONS]
    s, t = full.texts(labels), small.texts(labels)
    cosine, cosine_text = (unit(a) * unit(b)).sum(1), (unit(s) * unit(t)).sum(1)
    same = np.mean((unit(a) @ unit(s).T).argmax(1) == (unit(b) @ unit(t).T).argmax(1))
    print(f"int8 against fp32, 500 renders: cosine median {np.median(cosine):.4f}, least {cosine.min():.4f}; "
          f"text median {np.median(cosine_text):.4f}; same of 40 classes {same:.3f}")
    assert np.median(cosine) >= ALIKE and np.median(cosine_text) >= ALIKE and same >= SAME


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=Path, help="folder with pocket.pt")
    parser.add_argument("--constancy", default="constancy", help="the program that renders")
    options = parser.parse_args()
    words = Words()
    state = torch.load(options.work / "pocket.pt", weights_only=True)
    model = build(words)
    model.set_attn_implementation("eager")
    model.load_state_dict(state["model"])
    model.eval()
    vision, text = options.work / "vision-fp32.onnx", options.work / "text-fp32.onnx"
    export(Vision(model), torch.zeros(1, 3, 224, 224), vision, "pixel_values", "image_embeds")
    export(Text(model, words.end).eval(), words(["a photo of a gear"], CONTEXT), text, "input_ids", "text_embeds")
    quantise(vision, HERE / "vision-int8.onnx")
    quantise(text, HERE / "text-int8.onnx")
    manifest = MANIFEST.format(vision=sha256(HERE / "vision-int8.onnx"), text=sha256(HERE / "text-int8.onnx"),
                               width=WIDTH, scale=min(state["scale"], 100.0), context=CONTEXT)
    (HERE / "pocket.toml").write_text(manifest)
    same_as_trained(model, words, text)
    compare(options.work, options.constancy, words)
    for file in sorted(HERE.glob("*.onnx")):
        print(f"{file.name}: {file.stat().st_size} bytes")


def same_as_trained(model, words, path):
    """The written-out text tower against the library's, which takes no padding here."""
    from model import text_embeds

    towers = Towers(None, path, words)
    for text in ["a photo of a rusty gear", "gear", "a cracked pipe fitting on a steel bench under soft grey daylight"]:
        with torch.no_grad():
            expected = text_embeds(model, words([text])).numpy()
        assert np.allclose(expected, towers.texts([text]), atol=1e-3), text


if __name__ == "__main__":
    main()
