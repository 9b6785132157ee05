"""Shared by the golden scripts: the fixtures' folder, seeded weights, ONNX export, reproducible files."""

import hashlib
import json
import logging
import os
import struct
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Silences advice on speed and on optional packages.
logging.getLogger().setLevel(logging.ERROR)
logging.getLogger("torch.onnx").setLevel(logging.ERROR)

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
ENCODER = FIXTURES / "encoder"
WIDTH = 48


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def save_tensors(path, tensors, metadata=None):
    """Writes a safetensors file with a sorted header: the library's order of metadata varies from run to run."""
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
    """The shortest decimal that parses to the same f32."""
    import numpy as np

    return float(str(np.float32(value)))


def numbers(values):
    return [number(v) for v in values]


def randomise(model, seed):
    """Draws weights that keep the signal's magnitude, gains other than 1 and biases other than 0.

    The library's own initialisation gives nearly every image the same embedding, and hides a swapped gain or a
    forgotten bias.
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
    """Exports as common exporters do: symbolic batch axis, intermediate shapes in the file."""
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
    """Removes source locations and build names, which differ between machines."""
    graph = model.graph
    model.producer_version = model.producer_version.split("+")[0]
    for part in [model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for function in model.functions:
        function.ClearField("metadata_props")
        function.ClearField("doc_string")


def session(path):
    """A session on one thread: it sums in a fixed order, so results are reproducible."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
