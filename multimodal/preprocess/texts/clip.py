"""The tokenizer of CLIP."""

from dataclasses import dataclass
from typing import Any

from multimodal.preprocess.preprocessor import PREPROCESSORS
from multimodal.preprocess.texts.tokenizer import Tokenizer


@dataclass(frozen=True)
class ClipSettings:
    context_length: int = 77


class ClipTokenizer(Tokenizer):
    """The tokenizer of CLIP (Radford et al. 2021). Ids and truncation match open_clip's.

    The padding id, 0, is also the id of "!". It is only used after eos.
    """

    vocab_size, bos_id, eos_id, pad_id = 49408, 49406, 49407, 0

    def __init__(self, context_length: int = 77) -> None:
        super().__init__(context_length, (self.bos_id,), (self.eos_id,))
        from open_clip.tokenizer import SimpleTokenizer

        self._clip = SimpleTokenizer(context_length=context_length)

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [self._clip.encode(text) for text in texts]

    def decode_ids(self, ids: list[int]) -> str:
        return " ".join(self._clip.decode([i for i in ids if i != self.bos_id]).split())

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "clip", "context_length": self.context_length}


PREPROCESSORS.register("clip", ClipSettings, lambda settings, folder: ClipTokenizer(settings.context_length))
