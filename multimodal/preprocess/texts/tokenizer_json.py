"""The `tokenizer.json` of the `tokenizers` library: read, or built from the files of older folders."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TOKENIZER_JSON = "tokenizer.json"
MAX_BYTES = 64 * 2**20  # of one file
CLIP_START, CLIP_END = "<|startoftext|>", "<|endoftext|>"
CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
BERT_NEEDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def read_definition(folder: str | Path, lower_case: bool = True) -> str:
    """The JSON of the tokenizer in `folder`: its tokenizer.json, or one built from older files.

    Those are the vocab.txt of BERT, uncased or not (`lower_case`), and the vocab.json and merges.txt of CLIP.
    Raises FileNotFoundError where there is nothing of this, and ValueError for what is damaged.
    """
    folder = Path(folder)
    if (folder / TOKENIZER_JSON).is_file():
        return read_text(folder / TOKENIZER_JSON)
    if (folder / "vocab.txt").is_file():
        return bert_definition(read_text(folder / "vocab.txt"), lower_case)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return clip_definition(read_text(folder / "vocab.json"), read_text(folder / "merges.txt"))
    raise FileNotFoundError(
        f"{folder}: expected {TOKENIZER_JSON}, vocab.txt, or vocab.json with merges.txt, got none of them"
    )


def read_text(path: Path) -> str:
    """A file of UTF-8 text. ValueError for another encoding and for more than MAX_BYTES."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path}: expected at most {MAX_BYTES} bytes, got {size}")
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8, got {error}") from error


def parse(definition: str) -> Any:
    """The `tokenizers.Tokenizer` of a definition, without cutting or padding. ValueError where it is none."""
    import tokenizers

    size = len(definition.encode())
    if size > MAX_BYTES:
        raise ValueError(f"tokenizer: expected at most {MAX_BYTES} bytes of JSON, got {size}")
    with refused("tokenizer: expected the JSON of `tokenizers`"):
        library = tokenizers.Tokenizer.from_str(definition)
    library.no_truncation()
    library.no_padding()
    return library


@contextmanager
def refused(expected: str) -> Iterator[None]:
    """Whatever the library raises inside, as ValueError: plain Exception, and a panic of Rust, which is none."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ValueError(f"{expected}, got {error}") from error
        raise


def lower_cased(definition: str) -> str:
    """The same tokenizer, reading all text in lower case, as transformers does for SigLIP 2.

    Letter by letter, and not as `str.lower`, which knows two lower-case sigmas.
    """
    from tokenizers import normalizers

    library = parse(definition)
    before = [] if library.normalizer is None else [library.normalizer]
    library.normalizer = normalizers.Sequence([normalizers.Lowercase(), *before])
    return library.to_str()


def bert_definition(vocab: str, lower_case: bool = True) -> str:
    """The WordPiece of BERT from its vocab.txt, a token a line. ValueError where its special tokens miss."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    lines = vocab.replace("\r\n", "\n").removesuffix("\n").split("\n")
    ids = {token: i for i, token in enumerate(lines)}
    missing = [token for token in BERT_NEEDS if token not in ids]
    if missing:
        raise ValueError(f"vocab.txt: expected {list(BERT_NEEDS)}, got none of {missing}")
    library = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer(lowercase=lower_case)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    library.decoder = decoders.WordPiece()
    library.add_special_tokens([token for token in (*BERT_NEEDS, "[MASK]") if token in ids])
    return library.to_str()


def clip_definition(vocab: str, merges: str) -> str:
    """The byte-pair encoding of CLIP, as transformers has it, from vocab.json and merges.txt.

    Raises ValueError for what is damaged, and for a vocabulary without the two ends of CLIP.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    with refused(f"expected a vocab.json with {CLIP_START} and {CLIP_END}, and the merges.txt of CLIP"):
        ids = json.loads(vocab)
        lines = [line for line in merges.split("\n") if line and not line.startswith("#version")]
        pairs = [(left, right) for left, right in (line.rstrip("\r").split(" ") for line in lines)]
        library = Tokenizer(models.BPE(ids, pairs, unk_token=CLIP_END, end_of_word_suffix="</w>"))
        start, end = ids[CLIP_START], ids[CLIP_END]
    words = "|".join([re.escape(CLIP_START), re.escape(CLIP_END), CLIP_WORDS])
    library.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    library.post_processor = processors.RobertaProcessing(
        (CLIP_END, end), (CLIP_START, start), trim_offsets=False, add_prefix_space=False
    )
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([CLIP_START, CLIP_END])
    return library.to_str()
