"""Byte-pair encoding trained on the captions at hand."""

from collections.abc import Iterable

from multimodal.preprocess.tokenizers.definition import TOKENIZER_JSON, parse
from multimodal.preprocess.tokenizers.tokenizer import Tokenizer


class BPETokenizer(Tokenizer):
    """Byte-level BPE (Radford et al. 2019, section 2.2) on lower-cased NFKC text, by `tokenizers`.

    Ids 0, 1, 2 are padding, bos and eos; the library's own ids follow. No text can spell a special id.
    """

    kind = "bpe"
    pad_id, bos_id, eos_id = 0, 1, 2
    SPECIAL = 3
    FILE = TOKENIZER_JSON

    def __init__(self, definition: str, context_length: int) -> None:
        """definition: the JSON of a `tokenizers.Tokenizer`; ValueError where it is none."""
        super().__init__(context_length, (self.bos_id,), (self.eos_id,))
        self._bpe = parse(definition)
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
        ordinary = [i - self.SPECIAL for i in ids if i >= self.SPECIAL]
        return " ".join(self._bpe.decode(ordinary, skip_special_tokens=False).split())

    def files(self) -> dict[str, bytes]:
        return {self.FILE: self.definition.encode()}
