"""Writes the golden images of preprocessing: CLIP's own transform, computed by Pillow.

    python -m venv venv && venv/bin/pip install -r tests/golden/requirements.txt
    venv/bin/python tests/golden/preprocess.py

Writes to tests/fixtures/preprocess: synthetic sources in every supported format; for each `NAME.golden.png`, the 8-bit
RGB input of the tower before normalisation; and `cases.json`, which lists them. The sources are seeded: with the
pinned Pillow a second run writes the same bytes.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "preprocess"

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
ORIENTATION = 0x0112
SATURATED = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 255, 255), (255, 0, 255), (255, 255, 0)]


def scene(width, height, seed):
    """An image that reveals a wrong filter, a shifted crop and a wrong chroma upsampling.

    The pattern repeats every shorter edge, so every crop sees all of it.
    """
    rng = np.random.default_rng(seed)
    side = min(width, height)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    u, v = (x / side) % 1.0, (y / side) % 1.0

    # Smooth gradients, and their wrap-around as a sharp edge.
    rgb = np.stack([40 + 190 * u, 220 - 170 * v, 128 + 100 * np.sin(2 * np.pi * (u + v))], axis=-1)

    # Rings that get finer outwards: every filter aliases differently.
    du, dv = (u - 0.27) * side, (v - 0.27) * side
    radius = np.hypot(du, dv)
    rings = 127.5 + 127.5 * np.cos(radius**2 * np.pi / (0.5 * side))
    rgb = np.where((radius < 0.21 * side)[..., None], rings[..., None], rgb)

    # Saturated chequers whose edges lie on no multiple of 2 or 8, so that chroma bleeds visibly.
    cell = max(3, side // 37)
    inside = (u > 0.55) & (u < 0.95) & (v > 0.07) & (v < 0.45)
    colours = np.array(SATURATED, dtype=np.float64)
    index = ((x // cell) + 2 * (y // (cell + 2))).astype(int) % len(SATURATED)
    rgb = np.where(inside[..., None], colours[index], rgb)

    # Mild noise in one strip only, since noise does not compress.
    noise = rng.normal(0.0, 5.0, size=(height, width, 3))
    rgb = np.where(((v > 0.86) & (v < 0.97))[..., None], rgb + noise, rgb)

    image = Image.fromarray(np.clip(np.rint(rgb), 0, 255).astype(np.uint8), "RGB")

    # Imitates lines of text: strokes of one to four pixels, and gaps between words.
    draw = ImageDraw.Draw(image)
    for top in range(0, height, side):
        for left in range(0, width, side):
            line = max(5, side // 22)
            for row in range(5):
                at = left + round(0.06 * side)
                y0 = top + round(0.55 * side) + row * (line + 2)
                ink = SATURATED[row] if row % 2 else (15, 15, 20)
                while at < left + 0.9 * side:
                    stroke = int(rng.integers(1, 5))
                    draw.rectangle([at, y0, at + stroke - 1, y0 + line - 2], fill=ink)
                    at += stroke + int(rng.choice([1, 2, 3, 9]))
    return image


def resize(image, size, mode, kind):
    """torchvision's `Resize` on a Pillow image."""
    width, height = image.size
    if mode == "exact":
        target = (size, size)
    else:
        short, long = min(width, height), max(width, height)
        longer = int(size * long / short)
        target = (size, longer) if width <= height else (longer, size)
    return image if target == image.size else image.resize(target, FILTERS[kind])


def center_crop(image, size):
    """torchvision's `CenterCrop`; Python rounds halves to even."""
    width, height = image.size
    top = int(round((height - size) / 2.0))
    left = int(round((width - size) / 2.0))
    return image.crop((left, top, left + size, top + size))


def golden(path, case):
    with Image.open(path) as source:
        image = ImageOps.exif_transpose(source).convert("RGB")
    image = resize(image, case["size"], case["resize"], case["filter"])
    if case["crop"] == "center":
        image = center_crop(image, case["size"])
    assert image.size == (case["size"], case["size"]) and image.mode == "RGB"
    return image


def with_alpha(image):
    """Adds alpha from 0 to 255. It is dropped, not blended, so the colours must not change."""
    width, height = image.size
    ramp = np.linspace(0, 255, width).astype(np.uint8)
    image = image.convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(ramp, (height, 1)), "L"))
    return image


def turned(image, orientation):
    """Turns the image as a camera held that way stores it, and adds the EXIF orientation."""
    undo = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return image.transpose(undo[orientation]), {"exif": exif}


def same(image):
    return image


CLIP = {"size": 224, "resize": "shortest-edge", "filter": "bicubic", "crop": "center"}
SIGLIP = {"size": 224, "resize": "exact", "filter": "bilinear", "crop": "none"}
MOBILECLIP = {"size": 256, "resize": "shortest-edge", "filter": "bilinear", "crop": "center"}
FULL = {"quality": 92, "subsampling": "4:4:4"}

# File, width, height, change to the scene, options for saving, transform.
CASES = [
    ("odd-444.jpg", 333, 251, same, FULL, CLIP),
    ("odd-420.jpg", 335, 253, same, {"quality": 92, "subsampling": "4:2:0"}, CLIP),
    ("odd-422.jpg", 331, 257, same, {"quality": 92, "subsampling": "4:2:2"}, CLIP),
    ("even-420.jpg", 352, 288, same, {"quality": 90, "subsampling": "4:2:0"}, CLIP),
    ("progressive.jpg", 322, 243, same, {**FULL, "progressive": True}, CLIP),
    ("grey-jpeg.jpg", 301, 227, lambda i: i.convert("L"), {"quality": 92}, CLIP),
    ("exif-6.jpg", 240, 321, lambda i: turned(i, 6), FULL, CLIP),
    ("exif-3.jpg", 317, 240, lambda i: turned(i, 3), FULL, CLIP),
    ("wide.png", 900, 97, same, {}, CLIP),
    ("tall.jpg", 101, 640, same, FULL, CLIP),
    ("small.png", 60, 45, same, {}, CLIP),
    ("grey.png", 259, 310, lambda i: i.convert("L"), {}, CLIP),
    ("rgb.png", 256, 384, same, {}, CLIP),
    ("rgba.png", 280, 231, with_alpha, {}, CLIP),
    ("palette.png", 283, 229, lambda i: i.quantize(64, dither=Image.Dither.NONE), {}, CLIP),
    ("lossy.webp", 319, 245, same, {"quality": 85}, CLIP),
    ("lossless.webp", 271, 243, same, {"lossless": True}, CLIP),
    # The shorter edge already fits. The crop's margins are ½ and 1½, which Python rounds to 0 and 2.
    ("crop-half-down.png", 225, 224, same, {}, CLIP),
    ("crop-half-up.png", 224, 227, same, {}, CLIP),
    ("exact.png", 311, 180, same, {}, SIGLIP),
    ("exact-enlarged.jpg", 150, 190, same, FULL, SIGLIP),
    ("bilinear-256.png", 401, 300, same, {}, MOBILECLIP),
    ("bilinear-256-enlarged.jpg", 200, 151, same, FULL, MOBILECLIP),
]


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    listed = []
    for seed, (file, width, height, change, options, transform) in enumerate(CASES):
        image = change(scene(width, height, seed))
        extra = {}
        if isinstance(image, tuple):
            image, extra = image
        path = OUT / file
        image.save(path, **({"optimize": True} if path.suffix == ".png" else {}), **options, **extra)
        case = {"file": file, "golden": f"{path.stem}.golden.png", **transform}
        golden(path, case).save(OUT / case["golden"], optimize=True)
        listed.append(case)
    lines = ",\n".join("  " + json.dumps(case) for case in listed)
    (OUT / "cases.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
