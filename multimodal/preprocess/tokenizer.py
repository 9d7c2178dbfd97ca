"""Texts to token ids and back: CLIP's byte-pair encoding, and one trained on the captions at hand.

B = batch, L = context_length
"""

import hashlib
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multimodal.files import atomic_write

ON_LONG = ("truncate", "error")


class Tokenizer(ABC):
    """bos, the ids of a text, eos, padding: always `context_length` ids.

    Attributes: `vocab_size`, `context_length`, `bos_id`, `eos_id`, `pad_id`, and `truncated`, how many texts
    were cut so far.
    """

    kind: str
    vocab_size: int
    bos_id: int
    eos_id: int
    pad_id: int

    def __init__(self, context_length: int) -> None:
        if context_length < 3:
            raise ValueError(
                f"context_length: expected at least 3, for bos, a token and eos, got {context_length}"
            )
        self.context_length = context_length
        self.truncated = 0

    def __call__(self, texts: str | Sequence[str], on_long: str = "truncate") -> Tensor:
        """texts -> int64 [B, L]; one text is a batch of one.

        A text of more than L - 2 tokens is cut and still ends with eos ("truncate": counted, with one warning
        a call) or refused ("error"). Raises ValueError for those, and for what is not text.
        """
        if on_long not in ON_LONG:
            raise ValueError(f"on_long: expected one of {ON_LONG}, got {on_long!r}")
        texts = [texts] if isinstance(texts, str) else list(texts)
        for text in texts:
            _check_text(text)
        room = self.context_length - 2
        tokens = torch.full((len(texts), self.context_length), self.pad_id, dtype=torch.long)
        long: list[int] = []
        for row, ids in enumerate(self.encode_batch(texts)):
            if len(ids) > room:
                long.append(row)
            ids = [self.bos_id, *ids[:room], self.eos_id]
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
        values = [value for value in values if value not in (self.bos_id, self.pad_id)]
        return " ".join(self.decode_ids(values).split())

    @abstractmethod
    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text, without bos, eos and padding."""

    @abstractmethod
    def decode_ids(self, ids: list[int]) -> str:
        """The text of ordinary ids."""

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


class ClipTokenizer(Tokenizer):
    """The tokenizer of CLIP (Radford et al. 2021), from open_clip: the same ids, cut the same way."""

    kind = "clip"
    vocab_size, bos_id, eos_id, pad_id = 49408, 49406, 49407, 0

    def __init__(self, context_length: int = 77) -> None:
        super().__init__(context_length)
        from open_clip.tokenizer import SimpleTokenizer

        self._clip = SimpleTokenizer(context_length=context_length)

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [self._clip.encode(text) for text in texts]

    def decode_ids(self, ids: list[int]) -> str:
        return self._clip.decode(ids)

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """The text of `ids` [L], up to the first eos. Padding is 0, also "!", and follows eos only."""
        values = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        if self.eos_id in values:
            values = values[: values.index(self.eos_id)]
        return " ".join(self.decode_ids([value for value in values if value != self.bos_id]).split())


class BPETokenizer(Tokenizer):
    """Byte-level BPE (Radford et al. 2019, section 2.2) on lower-cased NFKC text, by `tokenizers`.

    Ids 0, 1, 2 are padding, bos and eos; the library's own ids follow. No text can spell a special id.
    """

    kind = "bpe"
    pad_id, bos_id, eos_id = 0, 1, 2
    SPECIAL = 3
    FILE = "tokenizer.json"

    def __init__(self, definition: str, context_length: int) -> None:
        """definition: the JSON of a `tokenizers.Tokenizer`; ValueError where it is none."""
        super().__init__(context_length)
        import tokenizers

        try:
            self._bpe = tokenizers.Tokenizer.from_str(definition)
        except Exception as error:  # the library raises plain Exception
            raise ValueError(f"tokenizer: expected the JSON of a BPE tokenizer, got {error}") from error
        self.definition = definition
        self.vocab_size = self._bpe.get_vocab_size() + self.SPECIAL

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int = 4096, context_length: int = 32) -> "BPETokenizer":
        """A tokenizer of at most `vocab_size` ids, all 256 bytes included, learned from `texts`."""
        from tokenizers import Tokenizer as Library
        from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

        smallest = 256 + cls.SPECIAL
        if vocab_size < smallest:
            raise ValueError(f"vocab_size: expected at least {smallest}, for all bytes, got {vocab_size}")
        library = Library(models.BPE())
        library.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        library.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - cls.SPECIAL,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        library.train_from_iterator(iter(texts), trainer)
        return cls(library.to_str(), context_length)

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        encoded = self._bpe.encode_batch(texts, add_special_tokens=False)
        return [[i + self.SPECIAL for i in one.ids] for one in encoded]

    def decode_ids(self, ids: list[int]) -> str:
        return self._bpe.decode([i - self.SPECIAL for i in ids], skip_special_tokens=False)

    def files(self) -> dict[str, bytes]:
        return {self.FILE: self.definition.encode()}


def save_tokenizer(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Write the tokenizer's files; its `to_dict()` belongs into the folder's config."""
    for name, data in tokenizer.files().items():
        with atomic_write(Path(folder) / name) as file:
            file.write(data)


def load_tokenizer(config: dict[str, Any], folder: str | Path) -> Tokenizer:
    """The tokenizer that `config`, a `to_dict()`, describes. ValueError where it is not what it says."""
    keys = {"kind", "context_length", "vocab_size", "sha256"}
    if not isinstance(config, dict) or set(config) != keys:
        got = sorted(config) if isinstance(config, dict) else config
        raise ValueError(f"tokenizer: expected a table with {sorted(keys)}, got {got}")
    length = config["context_length"]
    if not isinstance(length, int) or isinstance(length, bool):
        raise ValueError(f"tokenizer.context_length: expected a whole number, got {length!r}")
    tokenizer: Tokenizer
    if config["kind"] == BPETokenizer.kind:
        path = Path(folder) / BPETokenizer.FILE
        if not path.is_file():
            raise FileNotFoundError(f"{folder}: expected {BPETokenizer.FILE} beside config.json, got none")
        try:
            tokenizer = BPETokenizer(path.read_bytes().decode(), length)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: expected UTF-8, got {error}") from error
    elif config["kind"] == ClipTokenizer.kind:
        tokenizer = ClipTokenizer(length)
    else:
        raise ValueError(f"tokenizer.kind: expected 'bpe' or 'clip', got {config['kind']!r}")
    if tokenizer.to_dict() != config:
        raise ValueError(f"tokenizer: expected {config}, got {tokenizer.to_dict()}")
    return tokenizer


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise ValueError(f"texts: expected strings, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"texts: expected valid Unicode, got {text[:60]!r}") from error
