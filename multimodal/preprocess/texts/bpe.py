"""Byte-pair encoding trained on the captions of a run."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from multimodal.preprocess.preprocessor import PREPROCESSORS
from multimodal.preprocess.texts.cleaning import clean_caption
from multimodal.preprocess.texts.hf import HFSettings, HFTokenizer
from multimodal.preprocess.texts.tokenizer_json import TOKENIZER_JSON, read_text

SPECIAL = ["<pad>", "<bos>", "<eos>"]  # ids 0, 1 and 2


@dataclass(frozen=True)
class BPESettings:
    """Byte-level BPE (Radford et al. 2019, section 2.2) on lower-cased NFKC text, to be trained on the texts of a run.

    `clean_caption` comes first, both here and in the tokenizer.
    vocab_size: an upper bound. The ids begin with padding, bos and eos, to which no text encodes, and all bytes.
    """

    context_length: int = 32
    vocab_size: int = 4096

    def train(self, texts: Iterable[str]) -> HFTokenizer:
        """The tokenizer that a run file with these settings asks for. Raises ValueError for a small `vocab_size`."""
        from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

        smallest = len(SPECIAL) + 256
        if self.vocab_size < smallest:
            raise ValueError(f"vocab_size: expected at least {smallest}, for all bytes, got {self.vocab_size}")
        library = Tokenizer(models.BPE())
        library.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        one_line = [decoders.Replace(Regex(r"\s+"), " "), decoders.Replace(Regex(r"\A | \z"), "")]
        library.decoder = decoders.Sequence([decoders.ByteLevel(), *one_line])
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            special_tokens=SPECIAL,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        library.train_from_iterator(map(clean_caption, texts), trainer)
        # The library looks for added tokens in every text. Without them, no merge leads to the ids of SPECIAL.
        return self.tokenizer(json.dumps(json.loads(library.to_str()) | {"added_tokens": []}))

    def tokenizer(self, tokenizer_json: str) -> HFTokenizer:
        settings = HFSettings(self.context_length, 0, 1, 2, prefix=(1,), suffix=(2,), clean="caption")
        return HFTokenizer(tokenizer_json, settings)


PREPROCESSORS.register(
    "bpe", BPESettings, lambda settings, folder: settings.tokenizer(read_text(folder / TOKENIZER_JSON))
)
