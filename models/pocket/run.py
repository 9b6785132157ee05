"""The exported towers in ONNX Runtime, and what evaluation and projection share."""

import numpy as np
import onnxruntime

from data import MEAN, STD
from model import CONTEXT


def unit(v):
    v = np.asarray(v, np.float64)
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Towers:
    """Images and texts to embeddings; either tower may be None."""

    def __init__(self, vision, text, words):
        self.vision = session(vision) if vision else None
        self.text = session(text) if text else None
        self.words = words

    def images(self, frames):
        """u8 [N, 224, 224, 3] to [N, D]; one by one, as on the device: dynamic quantisation sees a whole batch."""
        mean, std = np.float32(MEAN), np.float32(STD)
        rows = []
        for frame in frames:
            values = (np.asarray(frame, np.float32) / 255 - mean) / std
            feed = {"pixel_values": values.transpose(2, 0, 1)[None]}
            rows.append(self.vision.run(["image_embeds"], feed)[0][0])
        return np.stack(rows)

    def texts(self, texts):
        """Prompts to [N, D], one by one."""
        ids = self.words(texts, CONTEXT).numpy()
        return np.concatenate([self.text.run(["text_embeds"], {"input_ids": i[None]})[0] for i in ids])


def labels_to_classes(towers, labels, template="a photo of a {}"):
    """Unit class embeddings [C, D]."""
    return unit(towers.texts([template.replace("{}", label) for label in labels]))
