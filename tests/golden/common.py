"""What the golden scripts share: the fixtures' folder, seeded weights, ONNX export, files with stable bytes."""

import hashlib
import json
import logging
import os
import struct
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# They advise on speed and on packages that are not wanted here.
logging.getLogger().setLevel(logging.ERROR)
logging.getLogger("torch.onnx").setLevel(logging.ERROR)

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
ENCODER = FIXTURES / "encoder"
WIDTH = 48


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def save_tensors(path, tensors, metadata=None):
    """A safetensors file whose header is sorted: the library's own order of metadata changes from run to run."""
    from safetensors.numpy import save

    data = save(tensors, metadata=metadata)
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    if metadata is not None:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def number(value):
    """The shortest decimal that gives the same f32 again."""
    import numpy as np

    return float(str(np.float32(value)))


def numbers(values):
    return [number(v) for v in values]


def randomise(model, seed):
    """Weights that keep the signal's size, gains and biases that are not the neutral 1 and 0.

    The library's own start leaves every image with nearly the same embedding, and an exchanged gain or
    a forgotten bias unseen.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)

    def normal(tensor, mean, std):
        tensor.copy_(mean + std * torch.randn(tensor.shape, generator=generator))

    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "norm" in name or "layrnorm" in name:
                normal(parameter, 1.0 if name.endswith("weight") else 0.0, 0.2)
            elif name.endswith("bias"):
                normal(parameter, 0.0, 0.1)
            elif "embedding" in name and parameter.dim() < 4:
                normal(parameter, 0.0, 0.5)
            else:
                fan_in = parameter[0].numel()
                normal(parameter, 0.0, 1.3 * fan_in**-0.5)
    return model.eval()


def export(model, args, path, inputs, output, opset, dynamo=False):
    """As exporters do it: symbolic batch, intermediate shapes left in the file."""
    import onnx
    import torch

    batch = "batch_size"
    options = {"input_names": inputs, "output_names": [output], "opset_version": opset}
    if dynamo:
        options["dynamic_shapes"] = tuple({0: torch.export.Dim(batch)} for _ in inputs)
        options["external_data"] = False
    else:
        options["dynamic_axes"] = {name: {0: batch} for name in [*inputs, output]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, args, str(path), dynamo=dynamo, verbose=False, **options)
    graph = onnx.load(path)
    strip(graph)
    if not graph.graph.value_info:
        graph = onnx.shape_inference.infer_shapes(graph)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def strip(model):
    """Drops notes on where in whose source tree each node came from, and the build: they differ between machines."""
    graph = model.graph
    model.producer_version = model.producer_version.split("+")[0]
    for part in [model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for function in model.functions:
        function.ClearField("metadata_props")
        function.ClearField("doc_string")


def session(path):
    """One thread: sums in one order, so the same numbers every time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
