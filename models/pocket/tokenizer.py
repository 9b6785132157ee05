"""Writes `tokenizer.json`: CLIP's rules with a small vocabulary of its own.

Lower case, CLIP's splitting pattern, bytes as letters, byte-pair merges learnt from the words that captions use,
`<|startoftext|>` and `<|endoftext|>` around. All 256 bytes are in it, alone and at a word's end, so that any text
has tokens; words it never saw fall into pieces that mean nothing to the model.
"""

import json
from collections import Counter
from pathlib import Path

from data import vocabulary_text

HERE = Path(__file__).resolve().parent
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def byte_letters():
    """A printable letter for every byte, in CLIP's order."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(others))]


def merges():
    """Byte-pair merges, the commonest first, until every word is one token."""
    words = Counter(word for line in vocabulary_text() for word in line.split())
    pieces = {word: [*word[:-1], word[-1] + WORD_END] for word in words}
    found = []
    while True:
        pairs = Counter()
        for word, parts in pieces.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += words[word]
        if not pairs:
            return found
        # Ties go by the alphabet, so that a second run learns the same.
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(best)
        for word, parts in pieces.items():
            pieces[word] = joined(parts, best)


def joined(parts, pair):
    out = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def tokenizer():
    letters = byte_letters()
    pairs = merges()
    tokens = list(dict.fromkeys([*letters, *(b + WORD_END for b in letters), *(a + b for a, b in pairs), START, END]))
    ids = {token: i for i, token in enumerate(tokens)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "special": True}
    level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": ids[START], "content": START, "normalized": True, **flags},
            {"id": ids[END], "content": END, "normalized": False, **flags},
        ],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Removed", "invert": True},
            {**level, "add_prefix_space": False},
        ]},
        "post_processor": {"type": "RobertaProcessing", "sep": [END, ids[END]], "cls": [START, ids[START]],
                           "trim_offsets": False, "add_prefix_space": False},
        "decoder": {**level, "add_prefix_space": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": END, "continuing_subword_prefix": "",
                  "end_of_word_suffix": WORD_END, "fuse_unk": False, "byte_fallback": False,
                  "vocab": ids, "merges": [f"{a} {b}" for a, b in pairs]},
    }


def main():
    text = json.dumps(tokenizer(), ensure_ascii=False, indent=1)
    (HERE / "tokenizer.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
