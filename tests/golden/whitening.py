"""Writes the whitenings that NumPy fits to the embeddings of icm.py.

    python -m venv venv && venv/bin/pip install -r tests/golden/requirements.txt
    venv/bin/python tests/golden/whitening.py

Reads tests/fixtures/icm/embeddings.safetensors and writes whitening.safetensors next to it, f64: `map.A-B` [D, D], the
matrix (I + A Delta + B S)^(-1/2), and `eigenvalues.A-B`, largest first, of -(A Delta + B S). Delta is the mean over
families of E[d d'] / tr E[d d'], S the covariance of unit embeddings about the mean of their class, and both are scaled
to the trace D.
"""

import numpy as np
from safetensors.numpy import load_file

from common import FIXTURES, save_tensors

OUT = FIXTURES / "icm"
STRENGTHS = [(0.0, 3.0), (1.0, 0.3), (3.0, 10.0), (10.0, 0.0)]


def unit(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def scaled(matrix):
    return matrix * len(matrix) / np.trace(matrix)


def main():
    given = load_file(OUT / "embeddings.safetensors")
    z, labels = unit(given["images"].astype(np.float64)), given["labels"]
    moved = []
    for name in sorted(given):
        if name.startswith("changed."):
            changed = unit(given[name].astype(np.float64))
            d = z[: len(changed)] - changed
            moved.append(d.T @ d / np.trace(d.T @ d))
    delta = scaled(sum(moved))
    about = np.concatenate([z[labels == c] - z[labels == c].mean(0) for c in np.unique(labels)])
    within = scaled(about.T @ about)
    golden = {}
    for a, b in STRENGTHS:
        values, vectors = np.linalg.eigh(a * delta + b * within)
        golden[f"map.{a:g}-{b:g}"] = vectors * (1 + values) ** -0.5 @ vectors.T
        golden[f"eigenvalues.{a:g}-{b:g}"] = -values
    save_tensors(OUT / "whitening.safetensors", {k: np.ascontiguousarray(v) for k, v in golden.items()})


if __name__ == "__main__":
    main()
