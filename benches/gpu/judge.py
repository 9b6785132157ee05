"""Judges measurements: goals met, missed or not judged, and tables. Nothing here measures, waits or prints."""

# The best other engine's throughput may be up to this many times ours.
BEHIND = 1.3
LEAST_COSINE = 0.999
# The least minutes and different frames of a long run that is judged.
MINUTES, FRAMES = 10, 1000
# Memory is flat if a line fitted to the samples after the first fifth of the run rises by at most this share of their
# mean, or by this many MiB, whichever is more.
GROWTH, GROWTH_MIB = 0.02, 8
# A decision agrees with the CPU's if no score differs by more than this. The two best classes may swap if the CPU's
# scores for them are closer than this.
SCORE = 0.05

MET, MISSED, OPEN = "met", "MISSED", "not judged"


def growth(samples):
    """By how much a least-squares line through `(seconds, MiB)` rises after the first fifth, and the limit."""
    settled = [s for s in samples if s[0] >= samples[0][0] + (samples[-1][0] - samples[0][0]) / 5]
    if len(settled) < 3:
        return None
    seconds, values = zip(*settled)
    mean_s, mean = sum(seconds) / len(seconds), sum(values) / len(values)
    spread = sum((s - mean_s) ** 2 for s in seconds)
    slope = sum((s - mean_s) * (v - mean) for s, v in settled) / spread
    return slope * (seconds[-1] - seconds[0]), max(GROWTH * mean, GROWTH_MIB)


def differs(event, cpu):
    """The largest difference between an event's scores and the CPU's for the frame, and whether the decisions differ."""
    scores = {c["class"]: c["score"] for c in cpu["top"]}
    worst = max((abs(c["score"] - scores[c["class"]]) for c in event["top"] if c["class"] in scores), default=1.0)
    other = event["class"] != cpu["class"] and cpu["margin"] > SCORE
    return worst, other or worst > SCORE


def rivals(lines, model, batch):
    """The best measurement of each other engine for this model and batch, by name."""
    best = {}
    for line in lines:
        if line.get("model") == model and line.get("batch") == batch and "median_ms" in line:
            name = {"torch": f"PyTorch {line.get('mode')}", "ort": "ONNX Runtime"}.get(line["part"])
            if name and (name not in best or line["median_ms"] < best[name]["median_ms"]):
                best[name] = line
    return best


def own(lines, model, batch):
    found = [l for l in lines if l["part"] == "constancy" and l["model"] == model and l.get("batch") == batch]
    return next((l for l in found if not l.get("plain")), None)


def missing(lines, model):
    """Why other engines were not measured on a model."""
    whys = (f"{l['part']}: {l.get('left_out') or l['failed']}" for l in lines
            if l["part"] in ("torch", "ort") and l.get("model", model) == model and ("left_out" in l or "failed" in l))
    return list(dict.fromkeys(whys))


def speed(lines, model, batch):
    """One verdict: latency of one image, or throughput of several."""
    goals = {1: "one image: no slower than the best rival"}
    goal = goals.get(batch, f"{batch} images: within {BEHIND} times of the best rival")
    ours, others = own(lines, model, batch), rivals(lines, model, batch)
    if ours is None:
        return verdict(model, goal, OPEN, "constancy was not timed")
    if "failed" in ours:
        return verdict(model, goal, MISSED, f"constancy failed: {ours['failed']}")
    key, unit = ("median_ms", "ms") if batch == 1 else ("images_per_second", "images/s")
    found, absent = f"{ours[key]:g} {unit}", missing(lines, model)
    if not others:
        return verdict(model, goal, OPEN, f"{found}; no rival was timed: {'; '.join(absent) or 'none was asked for'}")
    name, best = (min if batch == 1 else max)(others.items(), key=lambda item: item[1][key])
    good = ours[key] <= best[key] if batch == 1 else ours[key] * BEHIND >= best[key]
    detail = f"{found}, {name} {best[key]:g}" + (f"; without {'; '.join(absent)}" if absent else "")
    return verdict(model, goal, (OPEN if absent else MET) if good else MISSED, detail)


def cosine(lines, model):
    goal = f"embeddings are the CPU's: cosine {LEAST_COSINE} at least"
    found = next((l for l in lines if l["part"] == "agree" and l["model"] == model), None)
    if found is None:
        return verdict(model, goal, OPEN, "it was not compared")
    if "failed" in found:
        return verdict(model, goal, MISSED, found["failed"])
    detail = f"{found['least']:.6f} at least, {found['median']:.6f} in the median, {found['images']} images"
    return verdict(model, goal, MET if found["least"] >= LEAST_COSINE else MISSED, detail)


def steady(lines):
    """The verdicts on the long run."""
    found = next((l for l in lines if l["part"] == "steady" and ("frames" in l or "failed" in l)), None)
    goals = [f"{MINUTES} minutes: memory flat", f"{MINUTES} minutes: {FRAMES} frames decided as by the CPU"]
    if found is None or "failed" in found:
        why = "it was not run" if found is None else found["failed"]
        return [verdict("steady", goal, OPEN if found is None else MISSED, why) for goal in goals]
    short = "" if found["minutes"] >= MINUTES else f"only {found['minutes']:g} minutes; "
    samples = [l for l in lines if l["part"] == "steady" and "seconds" in l]
    memory, unknown = {}, []
    for key in ("daemon", "worker", "gpu"):
        seen = [(l["seconds"], l[key]) for l in samples if l.get(key) is not None]
        grown = growth(seen) if seen else None
        (unknown.append(key) if grown is None else memory.update({key: grown}))
    flat = all(grown <= limit for grown, limit in memory.values())
    detail = ", ".join(f"{key} {grown:+.1f} MiB of {limit:.0f} allowed" for key, (grown, limit) in memory.items())
    detail += "".join(f"; {key} not seen" for key in unknown)
    held = [] if found["held"] else ["the CPU stood in for the GPU"]
    held += [f"the daemon ended with {found['exit']}"] if found["exit"] else []
    wrong = [f"{found['differing']} events differ"] if found["differing"] else []
    few = found["frames"] < FRAMES
    counted = f"{found['events']} events of {found['frames']} frames, scores within {found['worst']:.4f} of {SCORE}"
    results = [MISSED if not flat or held else OPEN if short or unknown else MET,
               MISSED if held or wrong else OPEN if short or few else MET]
    details = [held + [detail], held + wrong + [counted]]
    return [verdict("steady", goal, result, short + "; ".join(said)) for goal, result, said in zip(goals, results, details)]


def verdict(model, goal, result, detail):
    return {"model": model, "goal": goal, "verdict": result, "detail": detail.replace("\n", " ").strip()}


def verdicts(lines, models, device):
    each = [v for m in models for v in (cosine(lines, m), speed(lines, m, 1), speed(lines, m, 32))]
    judged = each + steady(lines)
    if device == "cpu":
        return [{**v, "verdict": OPEN, "detail": f"this is the CPU; {v['detail']}"} for v in judged]
    return judged


def exit_code(judged):
    """0 if all goals are met, 1 if one is missed, 3 if one could not be judged."""
    results = {v["verdict"] for v in judged}
    return 1 if MISSED in results else 3 if OPEN in results else 0


def row(cells):
    return "| " + " | ".join(str(c).replace("|", "/") for c in cells) + " |"


def figure(line, key):
    return "-" if line is None or key not in line else f"{line[key]:g}"


def tables(lines, models, judged):
    """Speed, profile and verdicts as Markdown tables."""
    names = sorted({name for m in models for b in (1, 32) for name in rivals(lines, m, b)})
    out = [row(["tower", "batch", "unit", "constancy", *names]), row(["---"] * (4 + len(names)))]
    for model in models:
        for batch, key, unit in ((1, "median_ms", "ms"), (32, "images_per_second", "images/s")):
            others = rivals(lines, model, batch)
            cells = [figure(others.get(name), key) for name in names]
            out.append(row([model, batch, unit, figure(own(lines, model, batch), key), *cells]))
    out += ["", row(["tower", "batch", "operators", "launches", "ms, each waited for", "most of it"]), row(["---"] * 6)]
    for model in models:
        for batch in (1, 32):
            operators = (own(lines, model, batch) or {}).get("operators", [])
            most = ", ".join(f"{name} {calls} x {ms:g} ms" for name, calls, ms in operators[:4])
            total = sum(ms for _, _, ms in operators)
            out.append(row([model, batch, len(operators), sum(c for _, c, _ in operators), f"{total:.3f}", most]))
    out += ["", row(["tower", "goal", "verdict", "found"]), row(["---"] * 4)]
    out += [row([v["model"], v["goal"], v["verdict"], v["detail"]]) for v in judged]
    return "\n".join(out)
