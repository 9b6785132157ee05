"""Writes tests/fixtures/cameras: JPEGs as cameras really send them, each beside what must be seen in it.

    python -m venv venv && venv/bin/pip install -r tests/golden/requirements.txt
    venv/bin/python tests/golden/cameras.py

`clean.jpg` is a picture that this script draws. Every other file is made from the same coefficients, so it must decode
to the same pixels, or be refused: `cases.json` says which, and README.md which devices send it. With the pinned Pillow a
second run writes the same bytes.
"""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "cameras"
WIDTH, HEIGHT = 104, 72
SOI, EOI = b"\xff\xd8", b"\xff\xd9"
ZIGZAG_END = 64


def drawing():
    """Gradients, rings and a saturated square: every block has coefficients of its own."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    rgb = np.stack([40 + 2 * x, 230 - 2.5 * y, 128 + 90 * np.sin((x + 2 * y) / 9)], axis=-1)
    rings = 127.5 + 100 * np.cos(np.hypot(x - 30, y - 30) ** 2 / 60)
    rgb[:, : WIDTH // 2] = 0.5 * rgb[:, : WIDTH // 2] + 0.5 * rings[:, : WIDTH // 2, None]
    rgb[40:60, 70:95] = (220, 20, 60)
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))


def jpeg(image, **options):
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80, subsampling="4:2:0", **options)
    return out.getvalue()


def parts(data):
    """The segments up to the scan as (marker, body), and the scan without the end marker."""
    at, segments = 2, []
    while True:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        segments.append((marker, data[at + 4 : at + 2 + length]))
        at += 2 + length
        if marker == 0xDA:
            return segments, data[at : data.rindex(EOI)]


def segment(marker, body):
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def joined(segments, scan, end=EOI):
    return SOI + b"".join(segment(*s) for s in segments) + scan + end


class Codes:
    """A Huffman table of a DHT segment."""

    def __init__(self, counts, symbols):
        self.code, code, at = {}, 0, 0
        for length, count in enumerate(counts, 1):
            for symbol in symbols[at : at + count]:
                self.code[symbol] = format(code, f"0{length}b")
                code += 1
            at += count
            code <<= 1
        self.symbol = {bits: symbol for symbol, bits in self.code.items()}


def tables(segments):
    found = {}
    for marker, body in segments:
        while marker == 0xC4 and body:
            counts = body[1:17]
            symbols = body[17 : 17 + sum(counts)]
            found[body[0]] = Codes(counts, symbols)
            body = body[17 + len(symbols) :]
    return found


def read_block(bits, at, dc, ac):
    """A block as its codes, DC first, and the index behind them."""

    def code(table):
        nonlocal at
        length = next(n for n in range(1, 17) if bits[at : at + n] in table.symbol)
        at += length
        return table.symbol[bits[at - length : at]]

    start, seen = at, 1
    size = code(dc)
    at += size
    while seen < ZIGZAG_END:
        symbol = code(ac)
        if symbol == 0:
            break
        at += symbol & 15
        seen += (symbol >> 4) + 1
    return bits[start:at], at


def to_bits(scan):
    return "".join(format(byte, "08b") for byte in scan.replace(b"\xff\x00", b"\xff"))


def to_scan(bits):
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")


def separate_scans(data):
    """One scan per component. The differences of DC values follow another order there, so they are coded anew."""
    segments, scan = parts(data)
    table, bits, at = tables(segments), to_bits(scan), 0
    across, down = -(-WIDTH // 16), -(-HEIGHT // 16)
    blocks = {0: {}, 1: {}, 2: {}}
    last = [0, 0, 0]
    for unit in range(across * down):
        x, y = unit % across, unit // across
        places = [(0, 2 * x + i % 2, 2 * y + i // 2) for i in range(4)] + [(1, x, y), (2, x, y)]
        for component, bx, by in places:
            dc, ac = (table[0x00], table[0x10]) if component == 0 else (table[0x01], table[0x11])
            block, at = read_block(bits, at, dc, ac)
            size_bits = next(block[:n] for n in range(1, 17) if block[:n] in dc.symbol)
            size = dc.symbol[size_bits]
            raw = block[len(size_bits) : len(size_bits) + size]
            value = int(raw, 2) if raw else 0
            last[component] += value if not raw or raw[0] == "1" else value - (1 << size) + 1
            blocks[component][by, bx] = last[component], block[len(size_bits) + size :]
    out = [segment(*s) for s in segments[:-1]]
    sizes = {0: (-(-WIDTH // 8), -(-HEIGHT // 8)), 1: (across, down), 2: (across, down)}
    for component, (wide, high) in sizes.items():
        dc = table[0x00] if component == 0 else table[0x01]
        own, before = "", 0
        for by in range(high):
            for bx in range(wide):
                value, rest = blocks[component][by, bx]
                step, before = value - before, value
                size = abs(step).bit_length()
                raw = step if step > 0 else step + (1 << size) - 1
                own += dc.code[size] + (format(raw, f"0{size}b") if size else "") + rest
        selector = bytes([component + 1, 0x00 if component == 0 else 0x11])
        out += [segment(0xDA, b"\x01" + selector + b"\x00\x3f\x00"), to_scan(own)]
    return SOI + b"".join(out) + EOI


def replaced(segments, marker, body, new=None):
    return [(marker if new is None else new, body(b)) if m == marker else (m, b) for m, b in segments]


def with_strays(scan, stray):
    """The scan with stray bytes before each restart marker."""
    for n in range(8):
        scan = scan.replace(bytes([0xFF, 0xD0 + n]), stray + bytes([0xFF, 0xD0 + n]))
    return scan


def without_part(scan, number):
    """The scan with the second half of a part between restart markers lost."""
    marks = [i for i in range(len(scan) - 1) if scan[i] == 0xFF and 0xD0 <= scan[i + 1] <= 0xD7]
    start, end = marks[number] + 2, marks[number + 1]
    return scan[: (start + end) // 2].rstrip(b"\xff") + scan[end:]


def cases():
    """File name: (bytes, what must be seen, which devices send it)."""
    image = drawing()
    clean = jpeg(image)
    segments, scan = parts(clean)
    restart, restart_scan = parts(jpeg(image, restart_marker_blocks=5))
    progressive = jpeg(image, progressive=True)
    separate = separate_scans(clean)
    noise = np.random.default_rng(7).integers(0, 255, 90, dtype=np.uint8).tobytes()
    bare = [s for s in segments if s[0] != 0xC4]
    half = clean[: len(clean) * 2 // 3]
    small = io.BytesIO()
    image.resize((26, 18)).save(small, "JPEG")
    grey = io.BytesIO()
    image.convert("L").save(grey, "JPEG", quality=80)
    grey_segments, grey_scan = parts(grey.getvalue())
    exif = segment(0xE1, b"Exif\0\0" + small.getvalue())
    renumbered = bytes([0, 1, 2])

    def ids(body, offset, step):
        body = bytearray(body)
        for i, name in enumerate(renumbered):
            body[offset + i * step] = name
        return bytes(body)

    from_zero = replaced(replaced(segments, 0xC0, lambda b: ids(b, 6, 3)), 0xDA, lambda b: ids(b, 1, 2))
    return {
        "zeros-behind": (clean + bytes(400), "clean", "UVC webcams whose driver reports the whole buffer as used (uvcvideo, fixed `sizeimage`)"),
        "noise-behind": (clean + noise, "clean", "UVC webcams that send the rest of their last USB packet (Logitech C270, no-name modules)"),
        "old-frame-behind": (clean + clean[-300:], "clean", "drivers that reuse buffers: the tail of a longer, older frame follows (Raspberry Pi's bcm2835-v4l2, HDMI grabbers)"),
        "line-feed-behind": (clean + b"\r\n", "clean", "IP cameras' snapshots and mjpg-streamer's multipart parts, cut by their separators"),
        "end-twice": (clean + EOI, "clean", "ESP32-CAM (OV2640): the sensor and the driver each write an end marker"),
        "no-end-marker": (clean[:-2], "clean", "HDMI grabbers (MS2109, MS2130) and some OV2640 boards: no end marker"),
        "no-end-marker-zeros": (clean[:-2] + bytes(400), "clean", "the same behind a driver that fills the buffer with zeros"),
        "start-twice": (SOI + clean, "clean", "HDMI grabbers and Sonix webcams: the start marker is sent twice"),
        "begins-twice": (half + clean, "clean", "UVC webcams that lose the end of a frame, and put the next into the same buffer"),
        "begins-twice-in-the-header": (clean[:300] + clean, "clean", "the same, lost inside a table"),
        "noise-before": (b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + clean, "clean", "multipart streams of IP cameras, read as they are"),
        "stray-before-end": (joined(segments, scan + b"\x1f\x00\x55"), "clean", "Logitech C270 and C910: stray bytes before the end marker in nearly every frame"),
        "stray-before-restart": (joined(restart, with_strays(restart_scan, b"\x3c")), "clean", "the same cameras in modes with restart markers"),
        "restart-markers": (joined(restart, restart_scan), "clean", "most UVC webcams with hardware encoders: restart markers"),
        "no-huffman-tables": (joined(bare, scan), "clean", "UVC webcams that follow AVI's Motion JPEG: Huffman tables are left out (Microsoft LifeCam, Creative)"),
        "no-huffman-tables-no-end": (joined(bare, scan, b""), "clean", "the same without an end marker (older GSPCA devices)"),
        "fill-bytes": (SOI + b"".join(b"\xff\xff\xff" + segment(*s) for s in segments) + scan + b"\xff\xff" + EOI, "clean", "dashcams and thermal cameras that align segments with fill bytes"),
        "bytes-between-segments": (SOI + b"".join(segment(*s) + b"\0" * 6 for s in segments[:-1]) + segment(*segments[-1]) + scan + EOI, "clean", "action cameras that pad their segments"),
        "thumbnail": (SOI + exif + clean[2:], "clean", "phones and trail cameras: a thumbnail with its own end marker in the EXIF segment"),
        "comment-of-a-start": (SOI + segment(0xFE, b"\xff\xd8\xff\xd9") + clean[2:], "clean", "Axis cameras: binary data in comments"),
        "components-from-zero": (joined(from_zero, scan), "clean", "Allwinner and Rockchip boards' hardware encoders: components 0, 1, 2"),
        "extended": (joined(replaced(segments, 0xC0, lambda b: b, 0xC1), scan), "clean", "medical and document cameras: the header of extended sequential JPEG"),
        "progressive": (progressive, "clean", "web services and phones that save snapshots as progressive JPEG"),
        "separate-scans": (separate, "clean", "scanners and some Sony cameras: one scan per component"),
        "grey-no-huffman-tables": (joined([s for s in grey_segments if s[0] != 0xC4], grey_scan), "grey", "thermal cameras: grey Motion JPEG without tables"),
        "cut": (joined(segments, scan[: len(scan) // 2]), "damaged", "IP cameras over radio: a packet is lost, the end marker comes"),
        "cut-at-the-end": (joined(segments, scan[:-24]), "damaged", "the same: only the last packet is lost"),
        "cut-no-end-marker": (joined(segments, scan[: len(scan) // 2], b""), "damaged", "USB cameras on overloaded hubs"),
        "cut-zeros-behind": (joined(segments, scan[: len(scan) // 2], bytes(3000)), "damaged", "the same behind a driver that fills the buffer with zeros"),
        "cut-part": (joined(restart, without_part(restart_scan, 2)), "damaged", "USB cameras that lose a packet between two restart markers"),
        "cut-last-part": (joined(restart, restart_scan[: restart_scan.rindex(b"\xff")]), "damaged", "the same: the last part is lost"),
        "cut-progressive": (progressive[: len(progressive) * 3 // 4] + EOI, "damaged", "snapshots whose download broke off"),
        "cut-separate-scans": (separate[: len(separate) * 3 // 4] + EOI, "damaged", "the same of a picture with one scan per component"),
        "cut-twice": (half + half, "damaged", "USB cameras on overloaded hubs, two frames in one buffer"),
        "no-picture": (SOI + EOI, "damaged", "UVC webcams while they start: markers, and nothing between them"),
        "arithmetic": (joined(replaced(segments, 0xC0, lambda b: b, 0xC9), scan), "arithmetic-coded", "archives compressed with jpegtran -arithmetic"),
        "lossless": (joined(replaced(segments, 0xC0, lambda b: b, 0xC3), scan), "lossless", "DNG and medical recordings"),
        "twelve-bit": (joined(replaced(segments, 0xC0, lambda b: b"\x0c" + b[1:], 0xC1), scan), "12-bit", "medical and thermal recordings"),
    }, clean, grey.getvalue()


README = """# What cameras send

JPEGs with the deviations of real devices, made by `tests/golden/cameras.py` from one drawing. `cases.json` says what must
be seen in each: the pixels of `clean.jpg` or `grey.jpg`, that it is damaged, or which kind is refused.

| file | seen as | sent by |
| --- | --- | --- |
"""


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    made, clean, grey = cases()
    (OUT / "clean.jpg").write_bytes(clean)
    (OUT / "grey.jpg").write_bytes(grey)
    for name, (data, _, _) in made.items():
        (OUT / f"{name}.jpg").write_bytes(data)
    expected = {name: seen for name, (_, seen, _) in made.items()}
    (OUT / "cases.json").write_text(json.dumps(expected, indent=1) + "\n")
    rows = "".join(f"| `{name}.jpg` | {seen} | {who} |\n" for name, (_, seen, who) in made.items())
    (OUT / "README.md").write_text(README + rows)
    # libjpeg agrees on those that every program shows.
    for name in ["separate-scans", "progressive", "restart-markers", "extended", "components-from-zero", "stray-before-restart"]:
        seen = np.asarray(Image.open(OUT / f"{name}.jpg").convert("RGB")).astype(int)
        reference = np.asarray(Image.open(OUT / "clean.jpg").convert("RGB")).astype(int)
        assert np.array_equal(seen, reference), name


if __name__ == "__main__":
    main()
