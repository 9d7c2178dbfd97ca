"""A tokenizer of the `tokenizers` library, as transformers folders and open_clip's text models have it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from multimodal.config import to_dict
from multimodal.preprocess.tokenizers.cleaning import cleaning
from multimodal.preprocess.tokenizers.definition import TOKENIZER_JSON, parse, refused
from multimodal.preprocess.tokenizers.tokenizer import Tokenizer

PROBE = "a"  # a text with a token in any tokenizer
SPACED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")  # in this order


@dataclass(frozen=True)
class HFSettings:
    """What a tokenizer.json does not say: how texts become rows, and rows texts.

    prefix, suffix: the ids around each text; None: those that the tokenizer.json itself puts there.
    bos_id, eos_id: what a decoder begins with, and where a text ends; None: the model has no such id.
    clean: what is done to a text first, see `cleaning`.
    blank_id: an id that becomes 0 wherever it stands, as CLIPA does with [SEP].
    clean_up: whether decoded text loses the spaces before its marks, as transformers does where a folder
        says `clean_up_tokenization_spaces`.
    vocab_size: how many ids the network has a vector for; None: as many as the tokenizer has.
    """

    context_length: int
    pad_id: int
    bos_id: int | None = None
    eos_id: int | None = None
    prefix: tuple[int, ...] | None = None
    suffix: tuple[int, ...] | None = None
    clean: str = "none"
    blank_id: int | None = None
    clean_up: bool = False
    vocab_size: int | None = None


class HFTokenizer(Tokenizer):
    """The ids that transformers and open_clip give with the same tokenizer.json, padding included.

    A text is cut, and padded, on the right. Special tokens that it spells out are such, as in those two.
    """

    kind = "hf"
    FILE = TOKENIZER_JSON

    def __init__(self, definition: str, settings: HFSettings) -> None:
        """definition: the contents of a tokenizer.json, see `read_definition`.

        Raises ValueError where it is none, for an unknown cleaning and for ids that there are not.
        """
        self._library = parse(definition)
        self._clean = cleaning(settings.clean)
        self._blank_id = settings.blank_id
        prefix, suffix = self._around()
        prefix = prefix if settings.prefix is None else settings.prefix
        suffix = suffix if settings.suffix is None else settings.suffix
        super().__init__(settings.context_length, tuple(self._blanked(prefix)), tuple(self._blanked(suffix)))
        self.tokens = max(self._library.get_vocab().values()) + 1  # that it has itself
        self.vocab_size = self.tokens if settings.vocab_size is None else settings.vocab_size
        self.pad_id, self.bos_id, self.eos_id = settings.pad_id, settings.bos_id, settings.eos_id
        ids = (self.pad_id, self.bos_id, self.eos_id, *self.prefix, *self.suffix)
        self._check(i for i in ids if i is not None)
        self.definition = definition
        self.settings = replace(settings, vocab_size=self.vocab_size)

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        rows = [self._blanked(ids) for ids in self._ids([self._clean(text) for text in texts])]
        self._check(i for row in rows for i in row)
        return rows

    def decode_ids(self, ids: list[int]) -> str:
        text = self._library.decode(ids, skip_special_tokens=True)
        suffix = getattr(self._library.model, "end_of_word_suffix", None)
        if suffix:  # CLIP's decoder leaves it there
            text = text.replace(suffix, " ").strip()
        if self.settings.clean_up:
            for spaced in SPACED:
                text = text.replace(spaced, spaced.strip())
        return text

    def files(self) -> dict[str, bytes]:
        return {self.FILE: self.definition.encode()}

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | to_dict(self.settings)

    def _ids(self, texts: list[str]) -> list[list[int]]:
        with refused("tokenizer: expected ids for any text"):
            return [one.ids for one in self._library.encode_batch(texts, add_special_tokens=False)]

    def _around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids that the tokenizer.json itself puts before and after a text."""
        [inside] = self._ids([PROBE])
        if not inside:
            raise ValueError(f"tokenizer: expected a token for {PROBE!r}, got none")
        with refused("tokenizer: expected ids around any text"):
            whole = self._library.encode(PROBE)
            start = whole.special_tokens_mask.index(0)
        return tuple(whole.ids[:start]), tuple(whole.ids[start + len(inside) :])

    def _blanked(self, ids: Iterable[int]) -> list[int]:
        return [0 if i == self._blank_id else i for i in ids]

    def _check(self, ids: Iterable[int]) -> None:
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise ValueError(f"tokenizer: expected ids of 0 to {self.vocab_size - 1}, got {i}")
