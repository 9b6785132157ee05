"""The two towers: Hugging Face's `CLIPModel` with a small configuration, and how prompts become tokens."""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel

from data import MEAN, STD

HERE = Path(__file__).resolve().parent
CONTEXT = 32
WIDTH = 256
PAD = 0


class Words:
    """`tokenizer.json` with the text tower's length."""

    def __init__(self, path=HERE / "tokenizer.json"):
        self.inner = Tokenizer.from_file(str(path))
        self.end = self.inner.token_to_id("<|endoftext|>")
        self.size = self.inner.get_vocab_size()

    def __call__(self, texts, length=None):
        """Ids [N, length] int64; `length` defaults to that of the longest text."""
        rows = [e.ids for e in self.inner.encode_batch(list(texts))]
        rows = [r if len(r) <= CONTEXT else r[: CONTEXT - 1] + [self.end] for r in rows]
        length = length or max(map(len, rows))
        return torch.tensor([r + [PAD] * (length - len(r)) for r in rows])


def build(words):
    """An untrained pocket."""
    vision = dict(image_size=224, patch_size=32, hidden_size=192, intermediate_size=768, num_hidden_layers=6,
                  num_attention_heads=3, hidden_act="quick_gelu")
    text = dict(vocab_size=words.size, max_position_embeddings=CONTEXT, hidden_size=128, intermediate_size=512,
                num_hidden_layers=2, num_attention_heads=2, hidden_act="quick_gelu", bos_token_id=words.end - 1,
                eos_token_id=words.end, pad_token_id=PAD)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))


def pixels(frames, device="cpu"):
    """u8 [N, 224, 224, 3] to the vision tower's input [N, 3, 224, 224]."""
    values = torch.as_tensor(frames).to(device).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) * 255 for v in (MEAN, STD))
    return (values - mean) / std


def image_embeds(model, values):
    return model.visual_projection(model.vision_model(pixel_values=values).pooler_output)


def text_embeds(model, ids):
    return model.text_projection(model.text_model(input_ids=ids).pooler_output)


def unit(v):
    return functional.normalize(v.float(), dim=-1)
