"""Writes two random projections, and the projected embeddings and probabilities that follow from them.

    python -m venv venv && venv/bin/pip install -r tests/golden/requirements.txt
    venv/bin/python tests/golden/text.py
    venv/bin/python tests/golden/encoder.py     # both first: projections name the image tower's hash
    venv/bin/python tests/golden/projection.py

Writes to tests/fixtures/projection: `tiny.safetensors` with a mean of zero, `tiny-centred.safetensors` with another, and
`golden.json`: image embeddings `z`, class embeddings `t`, and for each file their projections `z_projected` and
`t_projected` (normalised to unit length, the mean subtracted, projected, normalised again), the `logits`
(`logit_scale` times their cosines) and the `probabilities` (softmax). Computed in f64 from the f32 numbers in
the files. A second run writes the same bytes.
"""

import json

import numpy as np

from common import ENCODER, FIXTURES, WIDTH, number, numbers, save_tensors, sha256

SEED = 20260103
RANK = 40
SCALE = 100.0
OUT = FIXTURES / "projection"


def unit(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def f32(v):
    return np.asarray(v).astype(np.float32)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    q, r = np.linalg.qr(rng.standard_normal((WIDTH, RANK)))
    # QR determines columns only up to their sign.
    projection = f32(q * np.sign(np.diag(r)))
    eigenvalues = f32(np.sort(rng.uniform(0.01, 30.0, size=WIDTH))[::-1])
    means = {
        "tiny.safetensors": f32(np.zeros(WIDTH)),
        "tiny-centred.safetensors": f32(0.05 * rng.standard_normal(WIDTH)),
    }

    # Close to one another, like CLIP's embeddings; otherwise every probability would be 0 or 1.
    common = rng.standard_normal(WIDTH)
    z = f32(9.0 * unit(common + 0.5 * rng.standard_normal((4, WIDTH))))
    t = f32(3.0 * unit(common + 0.12 * rng.standard_normal((5, WIDTH))))

    metadata = {
        "format": "constancy-projection",
        "version": "1",
        "encoder_sha256": sha256(ENCODER / "vision-fp32.onnx"),
        "width": str(WIDTH),
        "rank": str(RANK),
        "lambda": "10",
        "fitted": '{"note":"random, for tests"}',
        "created": "2026-01-01T00:00:00Z",
        "tool": "tests/golden/projection.py",
    }
    files = {}
    for file, mean in means.items():
        tensors = {"projection": projection, "mean": mean, "eigenvalues": eigenvalues}
        save_tensors(OUT / file, tensors, metadata)

        def project(v):
            return unit((unit(v.astype(np.float64)) - mean) @ projection.astype(np.float64))

        y, c = project(z), project(t)
        logits = SCALE * y @ c.T
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = e / e.sum(axis=1, keepdims=True)
        assert 0.2 < probabilities.max(axis=1).min() and probabilities.max() < 0.999, probabilities
        files[file] = {"z_projected": y, "t_projected": c, "logits": logits, "probabilities": probabilities}
        print(file, "\n", probabilities.round(4))

    def listed(rows, indent):
        return "[\n" + ",\n".join(f"{indent} {json.dumps(numbers(row))}" for row in rows) + f"\n{indent}]"

    parts = []
    for file, values in files.items():
        inner = ",\n".join(f'   "{name}": {listed(rows, "   ")}' for name, rows in values.items())
        parts.append(f'  "{file}": {{\n{inner}\n  }}')
    text = f' "logit_scale": {number(SCALE)},\n "z": {listed(z, " ")},\n "t": {listed(t, " ")},\n'
    text += ' "files": {\n' + ",\n".join(parts) + "\n }"
    (OUT / "golden.json").write_text(f"{{\n{text}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
