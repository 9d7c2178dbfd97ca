"""Small tokenizers of the kinds used by checkpoints, built and saved by transformers."""

import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from multimodal.preprocess import HFSettings

SENTENCES = [
    "A dog runs on the beach.",
    "Two men's bikes, they've said, aren't red!",
    "a photo of a cat . it does n't move , does it ?",
    "THE QUICK BROWN FOX jumps over the lazy dog; 12,345.67 times",
    "ein Löwe und ein Käfer, façade, naïve",
    "狮子在草地上睡觉。",
    "דלת ירוקה, باب أخضر",
    "Οδυσσεύς ΟΔΥΣΣΕΥΣ İstanbul STRASSE ß",
    "🦁🏳️‍🌈 👩🏽‍🚀 emoji",
    "e\u0301 and \u00e9, ﬁ ½ Ⅷ １２",
]
ODD = [
    "",
    " ",
    "  two\t\ttabs \r\n and\x0blines\u2028here\u3000 ",
    "zero\x00 byte \x07\x1b[31m \x7f \ufeffbom \u200bzero\u200dwidth \u202eleft",
    "&lt;b&gt;tags&amp;amp;&lt;/b&gt; &#128512; â€œbrokenâ€\x9d",
    "under_score __init__ {}()*&^%$#@!~`'\"",
    "[CLS] in the [SEP] text [PAD] [UNK] [MASK] [sep]",
    "<s> in the </s> text <pad> <unk> <eos> <BOS> <|endoftext|> <|STARTOFTEXT|> <end_of_text>",
    "▁under ▁ lower one eighth block",
    "x" * 150,
    "\U0010ffff \ue000 \ufffd \U00020000",
    "##ing ##",
    "word " * 90,
]


def sentences(count: int = 300) -> list[str]:
    """All of the above, and random combinations of their words."""
    rng = random.Random(0)
    words = [word for text in SENTENCES + ODD for word in text.split(" ")]
    mixed = [
        rng.choice([" ", "", "  ", "-", "\n"]).join(rng.choices(words, k=rng.randrange(1, 14)))
        for _ in range(count - len(SENTENCES) - len(ODD))
    ]
    return SENTENCES + ODD + mixed


class Peer(NamedTuple):
    make: Callable[[], Any]  # a tokenizer of transformers
    settings: HFSettings  # with which ours returns the same ids


def learned(model: Any, trainer: Any, pre_tokenizer: Any) -> dict[str, Any]:
    """The JSON of the model after training on the sentences."""
    library = Tokenizer(model)
    library.pre_tokenizer = pre_tokenizer
    library.train_from_iterator(SENTENCES * 5, trainer)
    return json.loads(library.to_str())["model"]


@cache
def wordpiece() -> dict[str, int]:
    """Built, not trained: a trainer breaks ties randomly, and captions written by random networks would change."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    words = {word for text in SENTENCES for case in (text, text.lower()) for word, _ in split(case)}
    letters = {letter for word in words for letter in word}
    pieces = sorted(letters) + sorted(f"##{letter}" for letter in letters) + sorted(words - letters)
    return {piece: number for number, piece in enumerate([*special, *pieces])}


@cache
def unigram() -> list[tuple[str, float]]:
    trainer = trainers.UnigramTrainer(
        vocab_size=300, show_progress=False, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>"
    )
    return [tuple(piece) for piece in learned(models.Unigram(), trainer, pre_tokenizers.Metaspace())["vocab"]]


def pairs(special: list[str], pre_tokenizer: Any, alphabet: list[str]) -> dict[str, Any]:
    """Vocabulary and merges of byte-pair encoding."""
    trainer = trainers.BpeTrainer(
        vocab_size=600, show_progress=False, special_tokens=special, initial_alphabet=alphabet
    )
    model = learned(models.BPE(), trainer, pre_tokenizer)
    return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


def bert(**options: Any) -> Any:
    from transformers import BertTokenizer

    return BertTokenizer(vocab=wordpiece(), **options)


def roberta() -> Any:
    from transformers import RobertaTokenizer

    special, alphabet = (["<s>", "<pad>", "</s>", "<unk>", "<mask>"], sorted(pre_tokenizers.ByteLevel.alphabet()))
    return RobertaTokenizer(**pairs(special, pre_tokenizers.ByteLevel(add_prefix_space=False), alphabet))


def t5() -> Any:
    """SigLIP's tokenizer, which pads with eos."""
    from transformers import T5Tokenizer

    return T5Tokenizer(vocab=unigram(), extra_ids=0, pad_token="</s>")


def siglip2() -> Any:
    from transformers import Siglip2Tokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{i:02X}>" for i in range(256))]
    files = pairs(special, pre_tokenizers.Metaspace(prepend_scheme="never"), [])
    return Siglip2Tokenizer(**files, add_bos_token=False, add_eos_token=True, padding_side="right")


def nllb() -> Any:
    """A language token before the text, and a normalizer of its own."""
    from transformers import PreTrainedTokenizerFast

    library = Tokenizer(models.Unigram(unigram(), unk_id=2))
    library.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    library.decoder = decoders.Metaspace()
    library.add_special_tokens([AddedToken("eng_Latn", normalized=False)])
    library.post_processor = processors.TemplateProcessing(
        single="eng_Latn $A </s>", special_tokens=[("eng_Latn", library.token_to_id("eng_Latn")), ("</s>", 1)]
    )
    library.enable_padding(length=99)  # ignored by transformers and by us
    library.enable_truncation(5)
    return PreTrainedTokenizerFast(tokenizer_object=library, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def clip_files() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's vocabulary and merges from open_clip, with transformers' names for bos and eos."""
    from open_clip.tokenizer import SimpleTokenizer

    theirs = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocab = {names.get(token, token): i for token, i in theirs.encoder.items()}
    return vocab, sorted(theirs.bpe_ranks, key=theirs.bpe_ranks.__getitem__)


def clip() -> Any:
    from transformers import CLIPTokenizer

    vocab, merges = clip_files()
    return CLIPTokenizer(vocab=vocab, merges=merges)


PEERS = {
    "bert": Peer(bert, HFSettings(32, pad_id=0, bos_id=2, eos_id=3)),
    "bert, cased": Peer(lambda: bert(do_lower_case=False), HFSettings(32, pad_id=0, bos_id=2, eos_id=3)),
    "roberta": Peer(roberta, HFSettings(77, pad_id=1, bos_id=0, eos_id=2)),
    "t5": Peer(t5, HFSettings(16, pad_id=1, eos_id=1)),
    "siglip2": Peer(siglip2, HFSettings(64, pad_id=0, eos_id=1)),
    "nllb": Peer(nllb, HFSettings(20, pad_id=0, eos_id=1)),
    "clip": Peer(clip, HFSettings(77, pad_id=49407, bos_id=49406, eos_id=49407)),
}


def saved_peer(name: str, folder: Path) -> Path:
    """`folder / name`, to which the tokenizer has been saved."""
    if not (folder / name).exists():
        PEERS[name].make().save_pretrained(folder / name)
    return folder / name
