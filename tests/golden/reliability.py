"""Writes answers with scores, and the figures that NumPy computes from them by their definitions.

    python -m venv venv && venv/bin/pip install -r tests/golden/requirements.txt
    venv/bin/python tests/golden/reliability.py

Writes tests/fixtures/reliability/golden.json: for each case `scores` and `right`, and

- `aurc`: the mean over k of the share of wrong answers among the k with the highest scores, and `accuracy_at_80`;
  answers of equal score take part with the share that a random order would give them;
- `calibration_error`: over 15 bins of the same number of answers, where scores are probabilities without ties;
- `wilson`: bounds of the share of right answers at 95 %, as roots of (p - share)^2 = z^2 p (1 - p) / n.

With the same libraries a second run writes the same bytes.
"""

import json
from statistics import NormalDist

import numpy as np

from common import FIXTURES

SEED = 20261130
OUT = FIXTURES / "reliability"


def expected_right(scores, right, kept):
    """How many of the `kept` highest are right, in the mean over orders of equal scores."""
    count, left = 0.0, kept
    for score in np.unique(scores)[::-1]:
        here = right[scores == score]
        taken = min(left, len(here))
        count += here.mean() * taken
        left -= taken
    return count


def calibration_error(scores, right, bins=15):
    order = np.argsort(-scores)
    parts = zip(np.array_split(scores[order], bins), np.array_split(right[order], bins))
    return sum(len(s) / len(scores) * abs(s.mean() - r.mean()) for s, r in parts)


def wilson(right):
    n, share = len(right), right.mean()
    z2 = NormalDist().inv_cdf(0.975) ** 2
    return sorted(np.roots([1 + z2 / n, -2 * share - z2 / n, share**2]).real)


def case(scores, right, probabilities):
    n = len(scores)
    risks = [1 - expected_right(scores, right, k) / k for k in range(1, n + 1)]
    kept = int(np.ceil(0.8 * n - 1e-9))
    golden = {
        "scores": [round(float(s), 6) for s in scores],
        "right": [bool(r) for r in right],
        "aurc": float(np.mean(risks)),
        "accuracy_at_80": expected_right(scores, right, kept) / kept,
        "wilson": [float(b) for b in wilson(right)],
    }
    if probabilities:
        golden["calibration_error"] = float(calibration_error(scores, right))
    return golden


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    bold = np.round(np.sort(rng.random(600)), 6)
    tied = np.round(rng.standard_normal(150), 1)
    cases = {
        "probabilities": case(bold, rng.random(600) < bold**1.5, True),
        "ties": case(tied, rng.random(150) < 1 / (1 + np.exp(-tied)), False),
        "few": case(np.array([3.0, 1.0, 2.0, 2.0, 2.0]), np.array([True, True, False, True, False]), False),
    }
    assert len(np.unique(bold)) == 600
    (OUT / "golden.json").write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
