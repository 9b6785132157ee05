"""Writes embeddings with interventions, and the maps and probes that NumPy and scikit-learn fit to them.

    python -m venv venv && venv/bin/pip install -r tests/golden/requirements.txt
    venv/bin/python tests/golden/icm.py

Writes to tests/fixtures/icm: `embeddings.safetensors` with f32 `images` [n, D], which are not normalised, f32
`changed.FAMILY` [m, D], the first m images under a family of interventions, and i64 `labels` [n]; and
`golden.safetensors`, f64:

- `second` E[z z'] and `mean` E[z] of unit embeddings z, `delta.FAMILY` E[d d'] of differences;
- `map.NAME`: the projector A A' of a hard map, or the soft map itself, [D, D], and `eigenvalues.NAME`, largest first,
  of C / tr C - lambda' Delta / tr Delta, or of -Delta / tr Delta where lambda' is infinite; Delta is the mean over
  families of E[d d'] / tr E[d d'];
- `probe.NAME.weights` [classes, D], `.biases` [classes], `.probabilities` [n, classes]: logistic regression with
  C = 0.316 on unit embeddings as they are (`raw`), under a soft map (`soft`), and with two classes (`two`), where
  scikit-learn has one row of weights.

With the same libraries a second run writes the same bytes.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression

from common import FIXTURES, save_tensors

SEED = 20260201
IMAGES, WIDTH, CLASSES = 60, 24, 3
FAMILIES = {"blur": 60, "dark": 40, "tint": 25}
OUT = FIXTURES / "icm"
# Name: lambda' (None is infinite), directions removed, whether centred.
HARD = {"penalty-1": (1.0, 4, False), "penalty-10": (10.0, 5, False), "penalty-10-centred": (10.0, 5, True),
        "without-5": (None, 5, False)}
SOFT = {"soft-1": 1.0, "soft-10": 10.0}


def unit(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def embeddings(rng):
    labels = np.arange(IMAGES) % CLASSES
    classes = 2 * rng.standard_normal((CLASSES, WIDTH))
    common = 4 * rng.standard_normal(WIDTH)
    images = common + classes[labels] + rng.standard_normal((IMAGES, WIDTH))
    tensors = {"images": images.astype(np.float32), "labels": labels}
    for family, count in FAMILIES.items():
        directions = rng.standard_normal((3, WIDTH))
        moved = rng.standard_normal((count, 3)) @ directions + 0.2 * rng.standard_normal((count, WIDTH))
        tensors[f"changed.{family}"] = (7 * (images[:count] + moved)).astype(np.float32)
    return tensors


def spectrum(matrix):
    values, vectors = np.linalg.eigh(matrix)
    order = np.argsort(values)[::-1]
    return values[order], vectors[:, order]


def probe(x, labels):
    model = LogisticRegression(C=0.316, max_iter=100_000, tol=1e-10).fit(x, labels)
    return {"weights": model.coef_, "biases": model.intercept_, "probabilities": model.predict_proba(x)}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    given = embeddings(np.random.default_rng(SEED))
    save_tensors(OUT / "embeddings.safetensors", given)
    z = unit(given["images"].astype(np.float64))
    labels = given["labels"]
    golden = {"second": z.T @ z / len(z), "mean": z.mean(0)}
    for family in FAMILIES:
        changed = unit(given[f"changed.{family}"].astype(np.float64))
        d = z[: len(changed)] - changed
        golden[f"delta.{family}"] = d.T @ d / len(d)
    moved = [golden[f"delta.{family}"] for family in FAMILIES]
    delta = np.mean([m / np.trace(m) for m in moved], 0)
    for name, (weight, removed, centred) in HARD.items():
        second = golden["second"] - centred * np.outer(z.mean(0), z.mean(0))
        scaled = -delta / np.trace(delta)
        values, vectors = spectrum(scaled if weight is None else second / np.trace(second) + weight * scaled)
        kept = vectors[:, : WIDTH - removed]
        golden[f"map.{name}"], golden[f"eigenvalues.{name}"] = kept @ kept.T, values
    for name, strength in SOFT.items():
        values, vectors = spectrum(-delta / np.trace(delta))
        shares = (1 - strength * WIDTH * values) ** -0.5
        golden[f"map.{name}"], golden[f"eigenvalues.{name}"] = vectors * shares @ vectors.T, values
    probes = {"raw": (z, labels), "soft": (unit(z @ golden["map.soft-1"]), labels), "two": (z, labels % 2)}
    for name, (x, y) in probes.items():
        for part, value in probe(x, y).items():
            golden[f"probe.{name}.{part}"] = value
    save_tensors(OUT / "golden.safetensors", {k: np.ascontiguousarray(v, np.float64) for k, v in golden.items()})


if __name__ == "__main__":
    main()
