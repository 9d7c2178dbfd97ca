"""Tokenizers of the `tokenizers` library, as used by transformers and by open_clip's text models."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from multimodal.config import to_dict
from multimodal.preprocess.preprocessor import PREPROCESSORS
from multimodal.preprocess.texts.cleaning import cleaning
from multimodal.preprocess.texts.tokenizer import Tokenizer
from multimodal.preprocess.texts.tokenizer_json import TOKENIZER_JSON, parse, raise_value_error, read_text

PROBE = "a"  # a text for which every tokenizer has a token
# The spaces that clean_up_tokenization_spaces removes in transformers, in this order.
SPACED_TOKENS = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


@dataclass(frozen=True)
class HFSettings:
    """What a tokenizer.json does not contain: how texts become rows of ids, and ids become text.

    prefix, suffix: the ids around each text. Default to the ones in the tokenizer.json.
    bos_id, eos_id: the ids with which a decoder begins and ends a text; None if the model has no such id.
    clean: what is done to a text first, see `cleaning`.
    zeroed_id: an id that is replaced by 0 everywhere, as CLIPA does with [SEP].
    clean_up_tokenization_spaces: remove spaces before punctuation from decoded text, as transformers does.
    vocab_size: number of token embeddings of the network. Defaults to the size of the tokenizer's vocabulary.
    sha256: of the tokenizer.json, by its name; not checked if empty.
    """

    context_length: int
    pad_id: int
    bos_id: int | None = None
    eos_id: int | None = None
    prefix: tuple[int, ...] | None = None
    suffix: tuple[int, ...] | None = None
    clean: str = "none"
    zeroed_id: int | None = None
    clean_up_tokenization_spaces: bool = False
    vocab_size: int | None = None
    sha256: dict[str, str] = field(default_factory=dict)


class HFTokenizer(Tokenizer):
    """Ids and padding match transformers' and open_clip's for the same contents of a tokenizer.json.

    Texts are truncated and padded on the right. As in both libraries, a text may spell out special tokens.
    Raises ValueError for an invalid file, another sha256, an unknown cleaning, and ids outside the vocabulary.
    """

    def __init__(self, tokenizer_json: str, settings: HFSettings) -> None:
        self._library = parse(tokenizer_json)
        self._clean = cleaning(settings.clean)
        self.num_tokens = max(self._library.get_vocab().values(), default=-1) + 1  # of the tokenizer.json
        self.vocab_size = self.num_tokens if settings.vocab_size is None else settings.vocab_size
        sha256 = {TOKENIZER_JSON: hashlib.sha256(tokenizer_json.encode()).hexdigest()}
        if settings.sha256 not in ({}, sha256):
            raise ValueError(f"tokenizer.sha256: expected {settings.sha256}, got {sha256}")
        self.tokenizer_json = tokenizer_json
        self.settings = replace(settings, vocab_size=self.vocab_size, sha256=sha256)
        prefix, suffix = self._ids_around()
        prefix = self._row(prefix if settings.prefix is None else settings.prefix)
        suffix = self._row(suffix if settings.suffix is None else settings.suffix)
        super().__init__(settings.context_length, prefix, suffix)
        self.pad_id, self.bos_id, self.eos_id = settings.pad_id, settings.bos_id, settings.eos_id
        self._row(i for i in (self.pad_id, self.bos_id, self.eos_id) if i is not None)

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [self._row(ids) for ids in self._ids([self._clean(text) for text in texts])]

    def decode_ids(self, ids: list[int]) -> str:
        ids = [i for i in ids if i not in (self.bos_id, self.pad_id)]
        text: str = self._library.decode(ids, skip_special_tokens=True)
        suffix = getattr(self._library.model, "end_of_word_suffix", None)
        if suffix:  # CLIP's decoder leaves it in the text
            text = text.replace(suffix, " ").strip()
        if self.settings.clean_up_tokenization_spaces:
            for spaced in SPACED_TOKENS:
                text = text.replace(spaced, spaced.strip())
        return text

    def files(self) -> dict[str, bytes]:
        return {TOKENIZER_JSON: self.tokenizer_json.encode()}

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "hf"} | to_dict(self.settings)

    def _ids(self, texts: list[str]) -> list[list[int]]:
        with raise_value_error("tokenizer: expected ids for any text"):
            return [one.ids for one in self._library.encode_batch(texts, add_special_tokens=False)]

    def _ids_around(self) -> tuple[list[int], list[int]]:
        """The ids that the tokenizer.json puts before and after a text."""
        [inside] = self._ids([PROBE])
        if not inside:
            raise ValueError(f"tokenizer: expected a token for {PROBE!r}, got none")
        with raise_value_error("tokenizer: expected ids around any text"):
            whole = self._library.encode(PROBE)
            start = whole.special_tokens_mask.index(0)
        return whole.ids[:start], whole.ids[start + len(inside) :]

    def _row(self, ids: Iterable[int]) -> list[int]:
        """`ids` with 0 for `zeroed_id`. Raises ValueError for ids outside the vocabulary."""
        zeroed_id, size = self.settings.zeroed_id, self.vocab_size
        row = [0 if i == zeroed_id else i for i in ids]
        outside = [i for i in row if not 0 <= i < size]
        if outside:
            raise ValueError(f"tokenizer: expected ids of 0 to {size - 1}, got {outside[0]}")
        return row


PREPROCESSORS.register(
    "hf", HFSettings, lambda settings, folder: HFTokenizer(read_text(folder / TOKENIZER_JSON), settings)
)
