"""Renders of the workshop, and what can be said of them.

`frames` calls the renderer once per set and keeps the result, so that every script sees the same pixels. Cameras
give 640x480 and more, so a set can be rendered at another size and brought to 224 pixels as CLIP prescribes
(bicubic, antialiased), which is what the product does with a camera's frame.
"""

import json
import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 224
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

PARTS = ["bolt", "nut", "washer", "gear", "bearing", "spring", "bracket", "pipe fitting"]
CONDITIONS = ["intact", "scratched", "cracked", "rusty", "broken"]
SEEN = ["noon", "overcast", "morning", "workshop-lamp"]
# What is no part: the first three are shown in training, the others never are.
OTHERS = ["nothing", "hand", "screwdriver"]
OTHERS_UNSEEN = ["spanner", "ruler"]
SURFACES = ["steel bench", "wooden table", "concrete floor", "rubber mat", "blue cloth", "cardboard sheet"]
# The renderer's words for light, as in "dim warm light".
LIGHT_WORDS = ["dim", "bright", "hard", "soft", "hazy", "warm", "cool", "greenish", "pinkish", "plain"]
WIDE = "wide"
UNSEEN = ["dusk", "night-ir", "backlight", "red-signal", "blue-signal", "low-light"]

# Synonyms, so that a label need not use the renderer's own word.
PART_WORDS = {"gear": ["gear", "gear", "gear wheel", "cog"], "bearing": ["bearing", "bearing", "ball bearing"],
              "spring": ["spring", "spring", "coil spring"], "nut": ["nut", "nut", "hex nut"],
              "pipe fitting": ["pipe fitting", "pipe fitting", "pipe joint"]}
CONDITION_WORDS = {"intact": ["intact", "intact", "undamaged", "good"], "rusty": ["rusty", "rusty", "rusted", "corroded"],
                   "broken": ["broken", "broken", "snapped"]}
OTHER_WORDS = {"nothing": ["nothing", "no part", "an empty bench"], "hand": ["a hand", "a hand", "a person's hand"],
               "screwdriver": ["a screwdriver", "a screwdriver", "a tool"]}
OPENINGS = ["a photo of", "a photo of", "a photo of", "a picture of", "an image of", "a close photo of", "this is"]
# Share of sentences that name the surface, and share that name the light.
SAID = 0.25


def frames(constancy, folder, count, seed, environments, size=SIZE, extra=()):
    """Frames [count, 224, 224, 3] u8 and one dictionary per frame; rendered unless `folder` has them."""
    folder = Path(folder)
    done = folder / "done.json"
    # The same request gives the same pixels; another request in the same folder replaces them.
    request = json.loads(json.dumps([count, seed, environments, size, extra]))
    if not (done.exists() and json.loads(done.read_text()) == request):
        folder.mkdir(parents=True, exist_ok=True)
        done.unlink(missing_ok=True)
        render(constancy, folder, count, seed, environments, size, extra)
        done.write_text(json.dumps(request))
    pixels = np.memmap(folder / "frames.bin", np.uint8, "r", shape=(count, SIZE, SIZE, 3))
    facts = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    return pixels, facts


def render(constancy, folder, count, seed, environments, size, extra):
    width, height = size if isinstance(size, (tuple, list)) else (size, size)
    command = [str(constancy), "synth", "--format", "raw", "--out", str(folder), "--count", str(count), "--seed", str(seed)]
    command += ["--environments", ",".join(environments), "--size", f"{width}x{height}", *extra]
    subprocess.run(command, check=True)
    if (width, height) == (SIZE, SIZE):
        return
    source = np.memmap(folder / "frames.bin", np.uint8, "r", shape=(count, height, width, 3))
    target = np.memmap(folder / "small.bin", np.uint8, "w+", shape=(count, SIZE, SIZE, 3))

    def shrink(i):
        target[i] = prepared(Image.fromarray(source[i]))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(shrink, range(count)))
    target.flush()
    (folder / "small.bin").replace(folder / "frames.bin")


def prepared(image):
    """CLIP's resize of the shorter side and centre crop, [224, 224, 3] u8."""
    width, height = image.size
    short = min(width, height)
    width, height = int(SIZE * width / short), int(SIZE * height / short)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - SIZE) / 2), round((height - SIZE) / 2)
    return np.asarray(image.crop((left, top, left + SIZE, top + SIZE)))


def article(word):
    return "an" if word[0] in "aeiou" else "a"


def describe(fact, rng: random.Random):
    """A sentence about a frame, and what it claims: part, condition, surface, words for the light; None where it is
    silent."""
    surface, light = fact["surface"], fact["light"]
    if fact["part"] in OTHER_WORDS:
        text, part, condition = describe_other(fact["part"], rng), fact["part"], None
    else:
        text, part, condition = describe_part(fact, rng)
    # Often enough that surface and light have words, seldom enough that the part stays what matters.
    if rng.random() < SAID:
        text += f" on {article(surface)} {surface}"
    else:
        surface = None
    if rng.random() < SAID:
        light = said_of(light, rng)
        text += f" under {light} light"
    else:
        light = None
    return text, (part, condition, surface, light)


def describe_part(fact, rng):
    """A sentence about a part, and the part and condition that it claims."""
    part, condition = fact["part"], fact["condition"]
    kind = rng.random()
    if kind < 0.12:
        condition = None
    elif kind < 0.20:
        part = None
    thing = rng.choice(PART_WORDS.get(part, [part])) if part else rng.choice(["part", "object", "thing"])
    words = thing if condition is None else f"{rng.choice(CONDITION_WORDS.get(condition, [condition]))} {thing}"
    # People's labels come with articles of their own, and templates put another before them.
    before = rng.choices([article(words), "a", "the", "", f"a {article(words)}"], [70, 12, 6, 4, 8])[0]
    return " ".join(w for w in [opening(rng), before, words] if w), part, condition


def describe_other(thing, rng):
    """A sentence about what is no part."""
    return " ".join(w for w in [opening(rng), rng.choice(OTHER_WORDS[thing])] if w)


def opening(rng):
    return rng.choice(OPENINGS) if rng.random() < 0.85 else ""


def said_of(light, rng):
    """All words of "dim warm light" but the last, or one of them."""
    words = light.split()[:-1]
    return " ".join(words) if rng.random() < 0.5 else rng.choice(words)


def vocabulary_text():
    """Every word that the sentences are made of."""
    from itertools import chain

    things = list(chain(PARTS, *PART_WORDS.values(), ["part", "object", "thing", "parts"]))
    states = list(chain(CONDITIONS, *CONDITION_WORDS.values(), ["damaged", "worn", "clean", "dirty", "new", "old"]))
    others = [*chain(*OTHER_WORDS.values()), *OTHERS_UNSEEN, "other", "empty", "something else"]
    light = [*LIGHT_WORDS, "light", "daylight", "morning", "grey", "lamp", "dusk", "night", "infrared", "red", "blue",
             "green", "low", "dark", "backlight", "signal", "shadow", "fog"]
    general = ["photo of the", "a blurry photo", "a noisy photo", "in the", "with no", "and", "at", "is", "camera",
               "metal", "machine", "factory", "one", "two"]
    return [*things, *states, *others, *SURFACES, *light, "under", "on", *OPENINGS, *general, "a an"]
