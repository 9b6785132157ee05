"""Writes answers of a made-up classifier, and the temperature and regression that SciPy fits to them.

    python -m venv venv && venv/bin/pip install -r tests/golden/requirements.txt
    venv/bin/python tests/golden/confidence.py

Writes to tests/fixtures/confidence: `answers.safetensors` with f32 `logits` [n, C], i64 `truth` [n], i64 `image` [n],
i64 `changed` [n], and f32 `places` [n, 4], which are cosine, relative Mahalanobis distance, its background and drift;
and `golden.safetensors`, f64:

- `temperature` [1]: of greatest likelihood, with clean and changed answers weighed equally, and half a right and half a
  wrong answer with the mean gap between the largest and the mean logit added;
- `features` [n, 7] at that temperature: log-odds, margin, entropy / ln C, energy, cosine, Mahalanobis, ln(1 + drift);
- `light` [4]: intercept and weights of the regression of "was changed" with C = 1 on standardised ln(1 + drift), distance
  to the nearest class, and background, none of which may speak for known light;
- `strengths` [3] and, for each C of them, `weights.I` [2, 7] per standard deviation in known and in changed light,
  `intercepts.I` [2] of both, and `loss.I` [1], the objective's value: the regression of "was right" on the standardised
  features, offset by the log-odds, none of whose weights may have the wrong sign. Each answer's score lies between those
  of both lights, at the probability of changed light that `light` gives.

With the same libraries a second run writes the same bytes.
"""

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import expit, logsumexp, softmax

from common import FIXTURES, save_tensors

SEED = 20260202
IMAGES, VERSIONS, CLASSES = 150, 4, 6
STRENGTHS = [0.1, 1.0, 100.0]
SIGNS = np.array([1, 1, -1, 1, 1, -1, -1])
LIGHT_SIGNS = np.array([-1, -1, -1])
TAIL, WIDENED = 0.005, 0.5
OUT = FIXTURES / "confidence"


def answers(rng):
    image = np.repeat(np.arange(IMAGES), VERSIONS)
    changed = (np.arange(len(image)) % VERSIONS > 0).astype(np.int64)
    truth = (image * 7 + image // 11) % CLASSES
    drift = np.exp(rng.normal(0.6 * changed, 0.4))
    # What interventions move farther is told apart less well.
    signal = 9 / (1 + 0.5 * drift)
    logits = rng.normal(0, 3, (len(image), CLASSES))
    logits[np.arange(len(image)), truth] += signal
    cosine = 0.8 - 0.1 * drift + rng.normal(0, 0.05, len(image))
    mahalanobis = 0.3 * drift + rng.normal(0, 0.2, len(image))
    background = 1 + 0.2 * changed + rng.normal(0, 0.2, len(image))
    return {"logits": logits.astype(np.float32), "truth": truth.astype(np.int64), "image": image.astype(np.int64),
            "changed": changed, "places": np.stack([cosine, mahalanobis, background, drift], 1).astype(np.float32)}


def fit_temperature(logits, truth, weight):
    gap = np.sum(weight * (logits.max(1) - logits.mean(1))) / weight.sum()

    def slope(inverse):
        p = softmax(inverse * logits, axis=1)
        excess = (p * logits).sum(1) - logits[np.arange(len(truth)), truth]
        return (weight * excess).sum() + gap * (0.5 - expit(-inverse * gap))

    return 1 / brentq(slope, 1e-4, 1e4, xtol=1e-14)


def features(logits, places, temperature):
    scaled = logits / temperature
    order = np.sort(scaled, 1)[:, ::-1]
    p = softmax(scaled, axis=1)
    log_odds = order[:, 0] - logsumexp(order[:, 1:], axis=1)
    entropy = -(p * np.log(p)).sum(1) / np.log(CLASSES)
    return np.stack([log_odds, order[:, 0] - order[:, 1], entropy, logsumexp(scaled, axis=1), places[:, 0], places[:, 1],
                     np.log1p(places[:, 3])], 1)


def light_features(places):
    return np.stack([np.log1p(places[:, 3]), np.maximum(places[:, 1] + places[:, 2], 0), places[:, 2]], 1)


def standardise(x, weight, signs):
    center = np.average(x, axis=0, weights=weight)
    scale = np.sqrt(np.average((x - center) ** 2, axis=0, weights=weight))
    low, high = np.quantile(x, [TAIL, 1 - TAIL], axis=0)
    wide = WIDENED * (high - low)
    low, high = np.where(signs > 0, low - wide, low), np.where(signs > 0, high, high + wide)
    return (np.clip(x, low, high) - center) / scale, center, scale


def fit(x, offset, right, weight, strength, bounds):
    """Intercept and weights within bounds, the best of all such."""

    def objective(v):
        score = offset + v[0] + x @ v[1:]
        loss = (weight * (np.logaddexp(0, score) - right * score)).sum() + (v[1:] ** 2).sum() / (2 * strength)
        error = weight * (expit(score) - right)
        return loss, np.concatenate([[error.sum()], x.T @ error + v[1:] / strength])

    bounds = [(None, None), *bounds]
    found = minimize(objective, np.zeros(len(bounds)), jac=True, bounds=bounds, method="L-BFGS-B",
                     options={"ftol": 1e-16, "gtol": 1e-10, "maxiter": 100_000, "maxfun": 1_000_000})
    return found.x, found.fun


def changed_light(places, changed, weight):
    x, _, _ = standardise(light_features(places), weight, LIGHT_SIGNS)
    v, _ = fit(x, np.zeros(len(x)), changed.astype(np.float64), weight, 1.0, [(0, None)] * 3)
    return v, expit(v[0] + x @ v[1:])


def regression(x, scale, share, offset, right, weight, strength):
    """The slope of the log-odds is 1 and a weight more, in either light."""
    signs = [(0, None) if s > 0 else (None, 0) for s in SIGNS]
    signs[0] = (-scale[0], None)
    share = share[:, None]
    parts = np.concatenate([share, (1 - share) * x, share * x], 1)
    v, loss = fit(parts, offset, right, weight, strength, [(None, None), *signs, *signs])
    return [v[0], v[0] + v[1]], v[2:].reshape(2, -1), loss


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    given = answers(np.random.default_rng(SEED))
    save_tensors(OUT / "answers.safetensors", given)
    logits, places = given["logits"].astype(np.float64), given["places"].astype(np.float64)
    changed = given["changed"] == 1
    weight = len(changed) / 2 / np.where(changed, changed.sum(), (~changed).sum())
    right = (logits.argmax(1) == given["truth"]).astype(np.float64)
    temperature = fit_temperature(logits, given["truth"], weight)
    found = features(logits, places, temperature)
    x, center, scale = standardise(found, weight, SIGNS)
    light, share = changed_light(places, changed, weight)
    offset = center[0] + scale[0] * x[:, 0]
    golden = {"temperature": [temperature], "features": found, "light": light, "strengths": STRENGTHS}
    for i, strength in enumerate(STRENGTHS):
        intercepts, weights, loss = regression(x, scale, share, offset, right, weight, strength)
        golden[f"intercepts.{i}"], golden[f"weights.{i}"], golden[f"loss.{i}"] = intercepts, weights, [loss]
        print(strength, "accuracy", right.mean(), "temperature", temperature, intercepts, weights, loss)
    save_tensors(OUT / "golden.safetensors", {k: np.ascontiguousarray(v, np.float64) for k, v in golden.items()})


if __name__ == "__main__":
    main()
