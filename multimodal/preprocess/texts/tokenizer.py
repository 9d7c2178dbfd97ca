"""What all tokenizers share: texts to rows of token ids, and ids back to text.

B = batch, L = context_length
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from multimodal.preprocess.preprocessor import InputError, Preprocessor


class Tokenizer(Preprocessor, ABC):
    """A row is a prefix such as bos, the ids of a text, a suffix such as eos, and padding: `context_length` ids.

    Attributes: `vocab_size`, `context_length`, `pad_id`; `bos_id` and `eos_id`, with which a decoder begins and ends a
    text (None if the model has no such id); `prefix` and `suffix`, the ids around each text.
    """

    vocab_size: int
    pad_id: int
    bos_id: int | None
    eos_id: int | None
    modality = "text"
    suffixes: tuple[str, ...] = ()
    item_ndim = 0
    error = InputError

    def __init__(self, context_length: int, prefix: Sequence[int], suffix: Sequence[int]) -> None:
        self.context_length, self.prefix, self.suffix = context_length, tuple(prefix), tuple(suffix)
        around = len(prefix) + len(suffix)
        self.room = context_length - around  # for the ids of a text
        if self.room < 1:
            expected = f"expected at least {around + 1}, for a token and the ids around a text"
            raise ValueError(f"context_length: {expected}, got {context_length}")

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """texts -> int64 [B, L]. A single string is a batch of one. Long texts are truncated, with one warning.

        Raises InputError for anything but strings of valid Unicode.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"texts: expected strings, got {type(text).__name__}")
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InputError(f"texts: expected valid Unicode, got {text[:60]!r}") from error
        tokens = torch.full((len(texts), self.context_length), self.pad_id, dtype=torch.long)
        long = []
        for row, text, ids in zip(tokens, texts, self.encode_batch(texts), strict=True):
            if len(ids) > self.room:
                long.append(text)
            ids = [*self.prefix, *ids[: self.room], *self.suffix]
            row[: len(ids)] = torch.tensor(ids)
        if long:
            found = f"{len(long)} of {len(texts)} texts are longer than {self.room} tokens, first: {long[0][:60]!r}"
            warnings.warn(f"{found}; they were truncated", stacklevel=2)
        return tokens

    def read(self, source: Any) -> Tensor:
        """One text -> int64 [L]. Raises InputError for anything but a string of valid Unicode."""
        return self([source])[0]

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """ids [L] -> the text up to the first eos, without bos and padding"""
        values = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        if self.eos_id in values:
            values = values[: values.index(self.eos_id)]
        return self.decode_ids(values)

    @abstractmethod
    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text, without prefix, suffix and padding."""

    @abstractmethod
    def decode_ids(self, ids: list[int]) -> str:
        """The text of `ids`, which contain no eos."""
