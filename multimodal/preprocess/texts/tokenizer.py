"""Texts to token ids and back: what every kind of tokenizer does.

B = batch, L = context_length
"""

import hashlib
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

ON_LONG = ("truncate", "error")


class Tokenizer(ABC):
    """A prefix such as bos, the ids of a text, a suffix such as eos, padding: always `context_length` ids.

    Attributes: `vocab_size`, `context_length`, `pad_id`; `bos_id`, with which a decoder begins, and `eos_id`,
    with which a text ends (None: there is no such id); `prefix` and `suffix`, the ids around each text; and
    `truncated`, how many texts were cut so far.
    """

    kind: str
    vocab_size: int
    pad_id: int
    bos_id: int | None
    eos_id: int | None

    def __init__(self, context_length: int, prefix: tuple[int, ...], suffix: tuple[int, ...]) -> None:
        smallest = len(prefix) + 1 + len(suffix)
        if context_length < smallest:
            raise ValueError(
                f"context_length: expected at least {smallest}, for a token and the ids around a text, "
                f"got {context_length}"
            )
        self.context_length, self.prefix, self.suffix = context_length, prefix, suffix
        self.truncated = 0

    def __call__(self, texts: str | Sequence[str], on_long: str = "truncate") -> Tensor:
        """texts -> int64 [B, L]; one text is a batch of one.

        A text with more tokens than fit is cut before the suffix ("truncate": counted, with one warning a
        call) or refused ("error"). Raises ValueError for those, and for what is not text.
        """
        if on_long not in ON_LONG:
            raise ValueError(f"on_long: expected one of {ON_LONG}, got {on_long!r}")
        texts = [texts] if isinstance(texts, str) else list(texts)
        for text in texts:
            _check_text(text)
        room = self.context_length - len(self.prefix) - len(self.suffix)
        tokens = torch.full((len(texts), self.context_length), self.pad_id, dtype=torch.long)
        long: list[int] = []
        for row, ids in enumerate(self.encode_batch(texts)):
            if len(ids) > room:
                long.append(row)
            ids = [*self.prefix, *ids[:room], *self.suffix]
            tokens[row, : len(ids)] = torch.tensor(ids)
        if long:
            first = texts[long[0]][:60]
            found = f"{len(long)} of {len(texts)} texts are longer than {room} tokens, first: {first!r}"
            if on_long == "error":
                raise ValueError(f"texts: expected at most {room} tokens each, got more: {found}")
            self.truncated += len(long)
            warnings.warn(f"{found}; they were cut", stacklevel=2)
        return tokens

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """The text of `ids` [L], up to the first eos; bos and padding are skipped."""
        values = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        if self.eos_id in values:
            values = values[: values.index(self.eos_id)]
        return self.decode_ids(values)

    @abstractmethod
    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text, without prefix, suffix and padding."""

    @abstractmethod
    def decode_ids(self, ids: list[int]) -> str:
        """The text of ids among which there is no eos."""

    def files(self) -> dict[str, bytes]:
        """What lies beside the config in a model folder."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "context_length": self.context_length,
            "vocab_size": self.vocab_size,
            "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in self.files().items()},
        }

    @property
    def fingerprint(self) -> str:
        """The sha256 of all that decides which ids a text gets."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise ValueError(f"texts: expected strings, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"texts: expected valid Unicode, got {text[:60]!r}") from error
