"""Writes the tiny text tower, its tokenizer, and the token ids and embeddings of some prompts.

    python -m venv venv && venv/bin/pip install -r tests/golden/requirements.txt
    venv/bin/python tests/golden/text.py
    venv/bin/python tests/golden/encoder.py     # after it: vision-fp32.toml names the text tower's hash
    venv/bin/python tests/golden/projection.py

Writes to tests/fixtures/encoder: `text-fp32.onnx`, CLIP's text tower in Hugging Face's structure with seeded random
weights; `tokenizer.json` with CLIP's rules and a vocabulary trained on the words below; and `text.json`, prompts
with their token ids and embeddings, and class embeddings averaged over templates. Token ids come from
`tokenizer.json` and are checked against CLIP's own tokenizer, written out below. With the pinned versions a
second run writes the same bytes.
"""

import json
import unicodedata
from collections import Counter

import numpy as np
import regex
import torch
from tokenizers import Tokenizer
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from common import ENCODER, WIDTH, export, numbers, randomise, session

SEED = 20260102
CONTEXT = 16
MERGES = 86
START, END = "<|startoftext|>", "<|endoftext|>"
PAD = 0
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

CORPUS = """
a photo of a gear, a photo of the spring, a dark photo of the bolt, a bright photo of a nut
a blurry photo of a washer, a close photo of the screw, a photo of one bearing on the belt
gears, springs, bolts, nuts, washers, screws, bearings, brackets, hinges and flanges lie in the tray
the conveyor carries steel parts past the camera; the camera looks down at the moving conveyor
a rusty bracket, a broken gear, a bent spring, a missing screw, a scratched plate, a cracked housing
turned shafts and milled plates leave the machine; the machine stamps a number on every part
the light is dim in the morning, harsh at noon, warm in the evening and gone at night
a lamp above the bench, a lantern by the door, daylight through the window, sunlight on the floor
bright light, dark light, low light, flickering light, shadow and glare on the shiny metal
rain, snow, fog, frost, hail, thunder, wind and sunshine; the weather changes while the camera watches
it is raining in the yard, it was snowing in the field, the fog is lifting over the meadow
a dog, a cat, a horse, a cow, a sheep, a goat, a hen, a fox, a hare, a badger and an otter
the dog sleeps by the gate, the cat watches the birds, the birds feed on the fence
a photo of a dog in the snow, a photo of the cat in the dark, a dark photo of an owl
a heron stands in the shallow water and the ducks swim past it; the swallows nest under the roof
the tractor ploughs the field, the lorry waits at the gate, the van is parked in the yard
an empty pallet, a full pallet, a stack of boxes, a crate of apples, a barrel of oil
the door is open, the door is closed, the gate isn't closed, the valve doesn't leak, we've seen it
red, green, blue, yellow, orange, purple, black, white, grey and brown boxes
the fitter tightens the bolts, the welder's torch glows, the turner's lathe hums
"""

PROMPTS = [
    "a photo of a gear",
    "A Dark Photo of THE Spring",
    "Nuts & bolts!!! (M8x25)",
    "  the dog's\tin   the\nsnow ",
    "isn't it? we've...",
    "Café, naïve",
    # The same accents as combining marks, which NFC composes.
    "Cafe\u0301, nai\u0308ve",
    "ж 歯車 🔩½",
    "the fitter tightens the bolts, the welder's torch glows, the turner's lathe hums and the heron stands still",
    # One fills the context exactly; the next is one token too long and is truncated to the same ids.
    "a a a a a a a a a a a a a a",
    "a a a a a a a a a a a a a a a",
    "!",
    "",
]
LABELS = ["gear", "spring", "a dog"]
TEMPLATES = ["a photo of a {}", "a dark photo of the {}"]


def byte_letters():
    """A printable character for every byte, in CLIP's order."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + n) for n, b in enumerate(rest)}}


LETTERS = byte_letters()


def words(text):
    """Normalises and splits text. Yields each word as its byte characters, the last one with `</w>`."""
    text = " ".join(unicodedata.normalize("NFC", text).split()).lower()
    for word in regex.findall(SPLIT, text):
        letters = [LETTERS[b] for b in word.encode()]
        yield (*letters[:-1], letters[-1] + "</w>")


def merged(word, pair):
    out, i = [], 0
    while i < len(word):
        if tuple(word[i : i + 2]) == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def train():
    """Trains byte-pair merges. Ties are broken alphabetically, so every run gives the same."""
    counts = Counter(words(CORPUS))
    merges = []
    while len(merges) < MERGES:
        pairs = Counter()
        for word, n in counts.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        learnt = Counter()
        for word, n in counts.items():
            learnt[merged(word, best)] += n
        counts = learnt
    letters = list(LETTERS.values())
    pieces = [*letters, *(c + "</w>" for c in letters), *("".join(m) for m in merges), START, END]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    assert len(vocabulary) == len(pieces)
    return vocabulary, merges


def tokenizer_json(vocabulary, merges):
    def special(text, normalized):
        return {
            "id": vocabulary[text],
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": normalized,
            "special": True,
        }

    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special(START, True), special(END, False)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
                {"type": "Lowercase"},
            ],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Removed", "invert": True},
                byte_level,
            ],
        },
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [END, vocabulary[END]],
            "cls": [START, vocabulary[START]],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": END,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": [" ".join(m) for m in merges],
        },
    }


def clip_ids(text, vocabulary, merges):
    """CLIP's tokenizer: merges within each word, in the order of training."""
    ranks = {pair: i for i, pair in enumerate(merges)}
    ids = [vocabulary[START]]
    for word in words(text):
        while pairs := [p for p in zip(word, word[1:]) if p in ranks]:
            word = merged(word, min(pairs, key=ranks.get))
        ids += [vocabulary[piece] for piece in word]
    return [*ids, vocabulary[END]]


def fed(ids):
    """Truncates to the context and keeps the end token, or pads. Returns the ids and how many are used."""
    if len(ids) > CONTEXT:
        ids = [*ids[: CONTEXT - 1], ids[-1]]
    return ids + [PAD] * (CONTEXT - len(ids)), min(len(ids), CONTEXT)


class Tower(torch.nn.Module):
    """Returns the projected embedding alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).text_embeds


def tower(vocabulary):
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=CONTEXT,
        projection_dim=WIDTH,
        hidden_act="quick_gelu",
        bos_token_id=vocabulary[START],
        eos_token_id=vocabulary[END],
        pad_token_id=PAD,
        attn_implementation="eager",
    )
    return Tower(randomise(CLIPTextModelWithProjection(config), SEED)).eval()


def unit(v):
    v = np.asarray(v, dtype=np.float64)
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def main():
    ENCODER.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    vocabulary, merges = train()
    path = ENCODER / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_json(vocabulary, merges), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    tokenizer = Tokenizer.from_file(str(path))

    def tokenised(text):
        ids = tokenizer.encode(text).ids
        assert ids == clip_ids(text, vocabulary, merges), text
        return fed(ids)

    model = tower(vocabulary)
    example = [tokenised(text) for text in PROMPTS[:2]]

    def inputs(prompts):
        ids = np.array([ids for ids, _ in prompts], dtype=np.int64)
        mask = np.array([[int(i < used) for i in range(CONTEXT)] for _, used in prompts], dtype=np.int64)
        return ids, mask

    onnx = ENCODER / "text-fp32.onnx"
    names = ["input_ids", "attention_mask"]
    export(model, tuple(map(torch.from_numpy, inputs(example))), onnx, names, "text_embeds", opset=14)
    runtime = session(onnx)

    def embed(text):
        prompt = tokenised(text)
        fed_inputs = inputs([prompt])
        (row,) = runtime.run(["text_embeds"], dict(zip(names, fed_inputs)))[0]
        with torch.no_grad():
            truth = model(*map(torch.from_numpy, fed_inputs))[0].numpy()
        assert np.abs(row - truth).max() < 1e-4, text
        return prompt[0], row

    prompts = []
    for text in PROMPTS:
        ids, row = embed(text)
        prompts.append({"text": text, "ids": ids, "embedding": numbers(row)})
    classes = []
    for label in LABELS:
        rows = [unit(embed(template.replace("{}", label))[1]) for template in TEMPLATES]
        classes.append({"label": label, "embedding": numbers(unit(np.mean(rows, axis=0)))})

    assert prompts[5]["ids"] == prompts[6]["ids"], "NFC has no effect"
    distinct = unit([*{tuple(p["ids"]): p["embedding"] for p in prompts}.values()])
    spread = (distinct @ distinct.T)[~np.eye(len(distinct), dtype=bool)]
    assert spread.max() < 0.98, "the embeddings are nearly the same"
    print(f"{len(vocabulary)} pieces; between prompts: cosine {spread.min():.3f} to {spread.max():.3f}")

    def listed(items):
        return "[\n" + ",\n".join("  " + json.dumps(item, ensure_ascii=False) for item in items) + "\n ]"

    text = f'{{\n "prompts": {listed(prompts)},\n "templates": {json.dumps(TEMPLATES)},\n "classes": {listed(classes)}\n}}\n'
    (ENCODER / "text.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
