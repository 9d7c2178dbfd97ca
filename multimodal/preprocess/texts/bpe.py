"""Byte-pair encoding trained on the captions of a run."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from multimodal.preprocess.preprocessor import PREPROCESSORS
from multimodal.preprocess.texts.tokenizer import Tokenizer
from multimodal.preprocess.texts.tokenizer_json import TOKENIZER_JSON, parse, read_text


@dataclass(frozen=True)
class BPESettings:
    """vocab_size: an upper bound for a tokenizer that has not been trained yet.
    sha256: of the files of the tokenizer; not checked if empty.
    """

    context_length: int = 32
    vocab_size: int = 4096
    sha256: dict[str, str] = field(default_factory=dict)

    def train(self, texts: Iterable[str]) -> "BPETokenizer":
        """The tokenizer that a run file with these settings asks for, trained on the texts of the run."""
        return BPETokenizer.train(texts, self.vocab_size, self.context_length)


class BPETokenizer(Tokenizer):
    """Byte-level BPE (Radford et al. 2019, section 2.2) on lower-cased NFKC text, by the `tokenizers` library.

    Ids 0, 1 and 2 are padding, bos and eos, followed by the library's own ids. No text encodes to a special id.
    """

    kind = "bpe"
    pad_id, bos_id, eos_id = 0, 1, 2
    NUM_SPECIAL = 3

    def __init__(self, tokenizer_json: str, context_length: int) -> None:
        """tokenizer_json: the contents of a tokenizer.json. Raises ValueError if it is invalid."""
        super().__init__(context_length, (self.bos_id,), (self.eos_id,))
        self._bpe = parse(tokenizer_json)
        self.tokenizer_json = tokenizer_json
        self.vocab_size = self._bpe.get_vocab_size() + self.NUM_SPECIAL

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int = 4096, context_length: int = 32) -> Self:
        """Train a tokenizer of at most `vocab_size` ids on `texts`. All 256 bytes are in the vocabulary."""
        from tokenizers import Tokenizer as Library
        from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

        smallest = 256 + cls.NUM_SPECIAL
        if vocab_size < smallest:
            raise ValueError(f"vocab_size: expected at least {smallest}, for all bytes, got {vocab_size}")
        library = Library(models.BPE())
        library.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        library.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - cls.NUM_SPECIAL,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        library.train_from_iterator(iter(texts), trainer)
        return cls(library.to_str(), context_length)

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        encoded = self._bpe.encode_batch(texts, add_special_tokens=False)
        return [[i + self.NUM_SPECIAL for i in one.ids] for one in encoded]

    def decode_ids(self, ids: list[int]) -> str:
        ordinary = [i - self.NUM_SPECIAL for i in ids if i >= self.NUM_SPECIAL]
        return " ".join(self._bpe.decode(ordinary, skip_special_tokens=False).split())


PREPROCESSORS.register(
    BPETokenizer.kind,
    BPESettings,
    lambda settings, folder: BPETokenizer(read_text(folder / TOKENIZER_JSON), settings.context_length).verified(
        settings.sha256
    ),
)
