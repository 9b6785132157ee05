"""Writes tiny convolution towers in the forms that exporters give them, and ONNX Runtime's embeddings of them.

    venv/bin/python tests/golden/convolution.py                      # after encoder.py, whose inputs it takes
    venv/bin/python tests/golden/convolution.py --full resnet OUT    # a tower of full size, for benches: OUT.onnx and OUT.toml

Writes to tests/fixtures/encoder: `conv-*.onnx` with seeded random weights, their manifests, and `convolution.safetensors`
with one tensor of embeddings per tower for the inputs of `golden.safetensors`.

- `fastvit`: MobileCLIP's and FastViT's parallel branches, layer scale, squeeze and excite, attention.
- `resnet`: bottlenecks with BatchNormalization, its stem, and the mean of windows in a shortcut.
- `convnext`: depthwise 7 x 7, LayerNormalization of channels between transposes.
- `mobilenet`: inverted residuals with SiLU, HardSwish and ReLU6.
- `forms`: what hardly anybody writes.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from common import ENCODER, WIDTH, save_tensors, session, sha256

SEED = 20260401

MANIFEST = """\
[encoder]
name = "{name}"
file = "{file}"
sha256 = "{sha256}"
licence = "MIT OR Apache-2.0"
source = "tests/golden/convolution.py, random weights"

[input]
name = "pixel_values"
size = {size}
resize = "shortest-edge"
filter = "bicubic"
crop = "center"
mean = [0.48145466, 0.4578275, 0.40821073]
std = [0.26862954, 0.26130258, 0.27577711]

[output]
name = "image_embeds"
width = {width}
logit_scale = 100.0
"""


class Builder:
    """Nodes and weights of a graph; every method returns the name of its result."""

    def __init__(self):
        self.nodes, self.weights, self.rng = [], [], np.random.default_rng(SEED)

    def node(self, kind, inputs, **attributes):
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def constant(self, values, kind=np.float32):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def normal(self, *shape, mean=0.0, std=0.1):
        return self.constant(mean + std * self.rng.standard_normal(shape))

    def conv(self, x, channels, columns, size, stride=1, pad=None, groups=1, bias=True, gain=1.4):
        pad = size // 2 if pad is None else pad
        fan_in = channels // groups * size * size
        inputs = [x, self.normal(columns, channels // groups, size, size, std=gain * fan_in**-0.5)]
        inputs += [self.normal(columns)] if bias else []
        steps = dict(kernel_shape=[size] * 2, strides=[stride] * 2, pads=[pad] * 4, group=groups, dilations=[1, 1])
        return self.node("Conv", inputs, **steps)

    def batch_norm(self, x, channels):
        gain, shift = self.normal(channels, mean=1.0), self.normal(channels)
        mean = self.normal(channels)
        variance = self.constant(1 + 0.3 * self.rng.random(channels))
        return self.node("BatchNormalization", [x, gain, shift, mean, variance], epsilon=1e-5)

    def gelu(self, x):
        erf = self.node("Erf", [self.node("Div", [x, self.constant(2**0.5)])])
        gate = self.node("Add", [erf, self.constant(1.0)])
        return self.node("Mul", [self.node("Mul", [x, gate]), self.constant(0.5)])

    def add(self, a, b):
        return self.node("Add", [a, b])

    def linear(self, x, depth, columns):
        product = self.node("MatMul", [x, self.normal(depth, columns, std=depth**-0.5)])
        return self.add(self.normal(columns), product)

    def transpose(self, x, *perm):
        return self.node("Transpose", [x], perm=list(perm))

    def reshape(self, x, *shape):
        return self.node("Reshape", [x, self.constant(shape, np.int64)])

    def gate(self, x, channels, squeezed, pool="ReduceMean"):
        mean = self.node(pool, [x], **(dict(axes=[2, 3], keepdims=1) if pool == "ReduceMean" else {}))
        inner = self.node("Relu", [self.conv(mean, channels, squeezed, 1)])
        return self.node("Mul", [x, self.node("Sigmoid", [self.conv(inner, squeezed, channels, 1)])])

    def head(self, x, channels, width):
        pooled = self.node("Flatten", [self.node("GlobalAveragePool", [x])], axis=1)
        inputs = [pooled, self.normal(width, channels, std=3 * channels**-0.5), self.constant(np.zeros(width))]
        self.nodes.append(helper.make_node("Gemm", inputs, ["image_embeds"], "head", transB=1))

    def model(self, size, width, opset=17):
        image = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch_size", 3, size, size])
        output = helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["batch_size", width])
        graph = helper.make_graph(self.nodes, "tower", [image], [output], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def branches(b, x, channels, columns, size, stride=1, groups=1):
    """A small and a large window of one input, as MobileOne's blocks have them."""
    small = b.conv(x, channels, columns, 1 if size == 3 else 3, stride, groups=groups)
    return b.add(b.add(small, b.constant(0.0)), b.conv(x, channels, columns, size, stride, groups=groups))


def mixer(b, x, channels):
    """RepMixer: x + scale (mixed − normalised)."""
    mixed = b.add(b.conv(x, channels, channels, 1, groups=channels), b.batch_norm(x, channels))
    mixed = b.add(mixed, b.conv(x, channels, channels, 3, groups=channels))
    difference = b.node("Sub", [mixed, b.batch_norm(x, channels)])
    return b.add(x, b.node("Mul", [difference, b.normal(channels, 1, 1, mean=0.5)]))


def mlp(b, x, channels):
    hidden = b.conv(x, channels, channels, 7, groups=channels)
    hidden = b.gelu(b.conv(hidden, channels, 3 * channels, 1))
    out = b.conv(hidden, 3 * channels, channels, 1)
    return b.add(x, b.node("Mul", [out, b.normal(channels, 1, 1, mean=0.5)]))


def attention(b, x, channels, edge, heads):
    """Over the pixels, with packed queries, keys and values, and a scale that is computed from a shape."""
    depth, tokens = channels // heads, edge * edge
    rows = b.transpose(b.reshape(b.batch_norm(x, channels), 0, channels, tokens), 0, 2, 1)
    qkv = b.node("MatMul", [rows, b.normal(channels, 3 * channels, std=channels**-0.5)])
    qkv = b.transpose(b.reshape(qkv, 0, tokens, 3, heads, depth), 2, 0, 3, 1, 4)
    names = [f"{part}_{len(b.nodes)}" for part in "qkv"]
    b.nodes.append(helper.make_node("Split", [qkv, b.constant([1, 1, 1], np.int64)], names, names[0], axis=0))
    q, k, v = (b.node("Squeeze", [name, b.constant([0], np.int64)]) for name in names)
    size = b.node("Slice", [b.node("Shape", [q]), b.constant([-1], np.int64), b.constant([2**63 - 1], np.int64)])
    root = b.node("Sqrt", [b.node("Cast", [size], to=TensorProto.FLOAT)])
    scale = b.node("Sqrt", [b.node("Div", [b.constant([1.0]), root])])
    scores = b.node("MatMul", [b.node("Mul", [q, scale]), b.node("Mul", [b.transpose(k, 0, 1, 3, 2), scale])])
    mixed = b.node("MatMul", [b.node("Softmax", [scores], axis=-1), v])
    mixed = b.linear(b.reshape(b.transpose(mixed, 0, 2, 1, 3), 0, tokens, channels), channels, channels)
    out = b.reshape(b.transpose(mixed, 0, 2, 1), 0, channels, edge, edge)
    return b.add(x, b.node("Mul", [out, b.normal(channels, 1, 1, mean=0.5)]))


def fastvit(size, width, channels=(24, 48), depths=(2, 1)):
    b, edge = Builder(), size // 4
    x = b.gelu(branches(b, "pixel_values", 3, channels[0], 3, stride=2))
    x = b.gelu(branches(b, x, channels[0], channels[0], 3, stride=2, groups=channels[0]))
    x = b.gelu(b.add(b.batch_norm(x, channels[0]), b.conv(x, channels[0], channels[0], 1)))
    for stage, (c, depth) in enumerate(zip(channels, depths)):
        if stage:
            before, edge = channels[stage - 1], edge // 2
            x = branches(b, x, before, c, 7, stride=2, groups=before)
            x = b.gelu(b.gate(x, c, 8))
            x = b.gelu(b.add(b.batch_norm(x, c), b.conv(x, c, c, 1)))
        for _ in range(depth):
            x = mlp(b, mixer(b, x, c), c)
    x = mlp(b, attention(b, x, channels[-1], edge, channels[-1] // 16), channels[-1])
    x = branches(b, x, channels[-1], 2 * channels[-1], 3, groups=channels[-1])
    b.head(b.gelu(b.gate(x, 2 * channels[-1], 8)), 2 * channels[-1], width)
    return b.model(size, width)


def resnet(size, width, stem=16, depths=(2, 1), normalised=True):
    b = Builder()

    def conv(x, *args, gain=1.4, **more):
        x = b.conv(x, *args, bias=not normalised, gain=gain, **more)
        return b.batch_norm(x, args[1]) if normalised else x

    x = b.node("Relu", [conv("pixel_values", 3, stem, 7, stride=2)])
    x = b.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = stem
    for stage, depth in enumerate(depths):
        inner, outer = stem << stage, 4 * stem << stage
        for block in range(depth):
            stride = 2 if stage and not block else 1
            shortcut, step = x, stride
            if stride == 2 and normalised:
                # As CLIP's ResNets have it.
                shortcut, step = b.node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2]), 1
            if not block:
                shortcut = conv(shortcut, channels, outer, 1, stride=step, gain=1.0)
            y = b.node("Relu", [conv(x, channels, inner, 1)])
            y = b.node("Relu", [conv(y, inner, inner, 3, stride=stride)])
            y = conv(y, inner, outer, 1, gain=0.5)
            x, channels = b.node("Relu", [b.add(y, shortcut)]), outer
    b.head(x, channels, width)
    return b.model(size, width)


def convnext(size, width, channels=(24, 48), depths=(2, 1)):
    b = Builder()

    def norm(x, c):
        return b.node("LayerNormalization", [x, b.normal(c, mean=1.0), b.normal(c)], axis=-1, epsilon=1e-6)

    def norm_channels(x, c):
        return b.transpose(norm(b.transpose(x, 0, 2, 3, 1), c), 0, 3, 1, 2)

    x = norm_channels(b.conv("pixel_values", 3, channels[0], 4, stride=4, pad=0), channels[0])
    for stage, (c, depth) in enumerate(zip(channels, depths)):
        if stage:
            x = b.conv(norm_channels(x, channels[stage - 1]), channels[stage - 1], c, 2, stride=2, pad=0)
        for block in range(depth):
            y = norm(b.transpose(b.conv(x, c, c, 7, groups=c), 0, 2, 3, 1), c)
            y = b.linear(b.gelu(b.linear(y, c, 4 * c)), 4 * c, c)
            # Hugging Face scales before the transpose, timm after it.
            if block % 2:
                y = b.transpose(b.node("Mul", [b.normal(c, mean=0.5), y]), 0, 3, 1, 2)
            else:
                y = b.node("Mul", [b.transpose(y, 0, 3, 1, 2), b.normal(1, c, 1, 1, mean=0.5)])
            x = b.add(x, y)
    b.head(x, channels[-1], width)
    return b.model(size, width)


def mobilenet(size, width):
    b = Builder()

    def activate(x, kind):
        if kind == "silu":
            return b.node("Mul", [x, b.node("Sigmoid", [x])])
        if kind == "relu6":
            return b.node("Clip", [x, b.constant(0.0), b.constant(6.0)])
        if kind == "hardsigmoid":
            return b.node("Mul", [x, b.node("HardSigmoid", [x], alpha=1 / 6, beta=0.5)])
        return b.node("HardSwish", [x])

    x, channels = activate(b.conv("pixel_values", 3, 20, 3, stride=2), "hardswish"), 20
    plan = [(20, 3, "relu6", 1), (20, 5, "silu", 1), (36, 5, "hardsigmoid", 2), (36, 3, "hardswish", 1)]
    for columns, window, kind, stride in plan:
        y = activate(b.conv(x, channels, 3 * channels, 1), kind)
        y = activate(b.conv(y, 3 * channels, 3 * channels, window, stride, groups=3 * channels), kind)
        y = b.gate(y, 3 * channels, 8, "GlobalAveragePool")
        y = b.conv(y, 3 * channels, columns, 1)
        x, channels = b.add(x, y) if stride == 1 and channels == columns else y, columns
    b.head(x, channels, width)
    return b.model(size, width)


def forms(size, width):
    """What no exporter of these towers writes, but an ONNX file may: an image that is read as if its last axis were lines,
    means without their axes, and names that look like those of the rewrite."""
    b = Builder()
    x = b.node("Relu", [b.conv("pixel_values", 3, size // 2, 3, stride=2)])
    turned = b.transpose(x, 0, 2, 3, 1)
    x = b.add(x, b.node("Relu", [b.conv(turned, size // 2, size // 2, 1)]))
    mean = b.node("ReduceMean", [x], axes=[2, 3], keepdims=0)
    squeezed = b.node("Mul", [mean, b.node("Sigmoid", [mean])])
    gate = b.node("Sigmoid", [b.linear(squeezed, size // 2, size // 2)])
    x = b.node("Mul", [x, b.reshape(gate, -1, size // 2, 1, 1)])
    name = f"{x}.factors"
    b.weights.append(numpy_helper.from_array(np.linspace(0.5, 1.5, size // 2, dtype=np.float32)[:, None, None], name))
    scaled = b.node("Mul", [x, name])
    b.head(b.conv(b.add(b.node("Abs", [scaled]), name), size // 2, 24, 3), 24, width)
    return b.model(size, width)


TINY = {"fastvit": fastvit, "resnet": resnet, "convnext": convnext, "mobilenet": mobilenet, "forms": forms}

# ResNet-50 as exporters write it, with the normalisation folded into the convolutions; ConvNeXt-T.
FULL = {
    "resnet": (224, lambda: resnet(224, 512, 64, (3, 4, 6, 3), normalised=False)),
    "convnext": (224, lambda: convnext(224, 512, (96, 192, 384, 768), (3, 3, 9, 3))),
}


def write(path, model, name, size, width):
    onnx.save(model, path)
    text = MANIFEST.format(name=name, file=path.name, sha256=sha256(path), size=size, width=width)
    path.with_suffix(".toml").write_text(text, encoding="utf-8")


def cosines(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def embeddings(path, images):
    runtime = session(path)
    rows = [runtime.run(["image_embeds"], {"pixel_values": image[None]})[0] for image in images]
    return np.concatenate(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", nargs=2, metavar=("TOWER", "OUT"), help=", ".join(FULL))
    args = parser.parse_args()
    if args.full:
        size, make = FULL[args.full[0]]
        write(Path(f"{args.full[1]}.onnx"), make(), args.full[0], size, 512)
        return
    from safetensors.numpy import load_file

    images = load_file(ENCODER / "golden.safetensors")["input"].reshape(-1, 3, 32, 32)
    golden = {}
    for name, make in TINY.items():
        path, model = ENCODER / f"conv-{name}.onnx", make(32, WIDTH)
        write(path, model, f"tiny-{name}", 32, WIDTH)
        # What all images have in common is most of an embedding of pooled noise, and would hide errors.
        bias = model.graph.initializer[-1]
        bias.CopyFrom(numpy_helper.from_array(-embeddings(path, images).mean(axis=0), bias.name))
        write(path, model, f"tiny-{name}", 32, WIDTH)
        golden[path.stem] = embeddings(path, images)
        spread = cosines(golden[path.stem][:, None], golden[path.stem][None])[~np.eye(len(images), dtype=bool)]
        print(f"{path.stem}: {path.stat().st_size >> 10} KB, between images: cosine {spread.min():.3f} to {spread.max():.3f}")
        assert spread.max() < 0.9, "the embeddings are nearly the same"
    save_tensors(ENCODER / "convolution.safetensors", golden)


if __name__ == "__main__":
    main()
