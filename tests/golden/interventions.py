"""Writes the golden images of the paper's interventions, computed by torchvision.

    python -m venv venv && venv/bin/pip install -r tests/golden/requirements.txt
    venv/bin/python tests/golden/interventions.py

Writes to tests/fixtures/interventions: synthetic sources; for each case `NAME.golden.png`; and `cases.json`, which lists
operation, parameters and files. The definitions are those of `torchvision.transforms.functional` on `uint8` tensors;
on Pillow images torchvision rounds some of them differently. JPEG is Pillow's libjpeg. An f32 represents all factors
exactly. A second run writes the same bytes.
"""

import io
import json
import shutil

import numpy as np
import torch
import torchvision.transforms.functional as F
from PIL import Image

from common import FIXTURES
from preprocess import scene

OUT = FIXTURES / "interventions"


def blocks(rng, width, height):
    """Grey, since decoders differ in how they upsample chroma."""
    y, x = np.mgrid[0:height, 0:width]
    light = 40.0 + 2 * x + y + 60.0 * ((x // 5 + y // 7) % 2) + 8.0 * rng.standard_normal((height, width))
    return np.repeat(np.clip(np.rint(light), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def sources():
    rng = np.random.default_rng(20260215)
    return {
        # Gradients, edges, saturated colours.
        "scene": np.array(scene(53, 41, 3)),
        # All kinds of colours, including grey.
        "colours": np.concatenate(
            [rng.integers(0, 256, (24, 32, 3)), np.repeat(rng.integers(0, 256, (4, 32, 1)), 3, axis=2)]
        ).astype(np.uint8),
        # Few and close values.
        "narrow": rng.integers(90, 110, (20, 30, 3)).astype(np.uint8),
        # Smaller than a blur's kernel, but not than half of it.
        "tiny": rng.integers(0, 256, (6, 7, 3)).astype(np.uint8),
        "blocks": blocks(rng, 53, 41),
        "flat": np.full((9, 8, 3), (12, 130, 250), np.uint8),
    }


def jpeg(image, quality):
    data = io.BytesIO()
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
    pixels.save(data, "JPEG", quality=quality, subsampling="4:2:0")
    return torch.from_numpy(np.array(Image.open(data).convert("RGB"))).permute(2, 0, 1)


OPERATIONS = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": F.adjust_hue,
    "grey-scale": lambda image: F.rgb_to_grayscale(image, 3),
    "gaussian-blur": lambda image, size, sigma: F.gaussian_blur(image, size, sigma),
    "inversion": F.invert,
    "posterise": F.posterize,
    "solarise": F.solarize,
    "equalise": F.equalize,
    "jpeg": jpeg,
}

# Operation, parameters, sources.
CASES = [
    *[("brightness", [f], ["scene", "colours"]) for f in (0.0, 0.3125, 0.875, 1.75)],
    *[("contrast", [f], ["scene", "colours", "narrow"]) for f in (0.0, 0.3125, 0.875, 1.75)],
    *[("saturation", [f], ["scene", "colours"]) for f in (0.0, 0.3125, 0.875, 1.75)],
    *[("hue", [f], ["scene", "colours", "flat"]) for f in (-0.5, -0.1875, 0.0, 0.0625, 0.25, 0.5)],
    ("grey-scale", [], ["scene", "colours"]),
    *[("gaussian-blur", p, ["scene", "colours"]) for p in ([3, 0.5], [9, 1.25], [31, 5.0])],
    ("gaussian-blur", [11, 2.5], ["tiny"]),
    ("inversion", [], ["scene"]),
    *[("posterise", [bits], ["scene"]) for bits in (1, 2, 4, 7)],
    *[("solarise", [threshold], ["scene"]) for threshold in (0, 64, 192, 255)],
    ("equalise", [], ["scene", "colours", "narrow", "tiny", "flat"]),
    *[("jpeg", [quality], ["blocks"]) for quality in (90, 50, 10)],
]


def save(name, pixels):
    Image.fromarray(pixels).save(OUT / name, optimize=True)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    torch.set_num_threads(1)
    images = sources()
    for name, pixels in images.items():
        save(f"{name}.png", pixels)
    lines = []
    for operation, parameters, names in CASES:
        for name in names:
            tensor = torch.from_numpy(images[name]).permute(2, 0, 1).contiguous()
            result = OPERATIONS[operation](tensor, *parameters)
            label = "-".join([operation, *[f"{p:g}".replace(".", "_") for p in parameters], name])
            save(f"{label}.golden.png", np.ascontiguousarray(result.permute(1, 2, 0).numpy()))
            case = {"operation": operation, "parameters": parameters, "file": f"{name}.png"}
            lines.append("  " + json.dumps({**case, "golden": f"{label}.golden.png"}))
    (OUT / "cases.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
