"""The tokenizer.json of the `tokenizers` library: reading it, or building it from files of older formats."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TOKENIZER_JSON = "tokenizer.json"
FILES = f"{TOKENIZER_JSON}, vocab.txt, or vocab.json with merges.txt"
MAX_TOKENIZER_BYTES = 64 * 2**20  # of one file
CLIP_BOS, CLIP_EOS = "<|startoftext|>", "<|endoftext|>"
CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def read_tokenizer_json(folder: str | Path, lower_case: bool = True, expected: str = FILES) -> str:
    """The contents of the tokenizer.json in `folder`, or of one built from files of older formats.

    These are BERT's vocab.txt, lower-casing or not (`lower_case`), and CLIP's vocab.json and merges.txt.
    Raises FileNotFoundError naming what was `expected` if the folder has no such file, ValueError for damaged files.
    """
    folder = Path(folder)
    if (folder / TOKENIZER_JSON).is_file():
        return read_text(folder / TOKENIZER_JSON)
    if (folder / "vocab.txt").is_file():
        return _from_bert(read_text(folder / "vocab.txt"), lower_case)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _from_clip(read_text(folder / "vocab.json"), read_text(folder / "merges.txt"))
    raise FileNotFoundError(f"{folder}: expected {expected}, got none")


def read_text(path: Path) -> str:
    """A UTF-8 file. Raises FileNotFoundError, and ValueError for other encodings and large files."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent}: expected {path.name}, got no such file")
    size = path.stat().st_size
    if size > MAX_TOKENIZER_BYTES:
        raise ValueError(f"{path}: expected at most {MAX_TOKENIZER_BYTES} bytes, got {size}")
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8, got {error}") from error


def parse(tokenizer_json: str) -> Any:
    """A `tokenizers.Tokenizer` without truncation and padding. Raises ValueError for invalid JSON."""
    import tokenizers

    size = len(tokenizer_json.encode())
    if size > MAX_TOKENIZER_BYTES:
        raise ValueError(f"tokenizer: expected at most {MAX_TOKENIZER_BYTES} bytes of JSON, got {size}")
    with raise_value_error("tokenizer: expected the JSON of `tokenizers`"):
        library = tokenizers.Tokenizer.from_str(tokenizer_json)
    library.no_truncation()
    library.no_padding()
    return library


@contextmanager
def raise_value_error(expected: str) -> Iterator[None]:
    """Turn any error of the library into a ValueError. Panics in its Rust code are no subclass of Exception."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ValueError(f"{expected}, got {error}") from error
        raise


def lower_cased(tokenizer_json: str) -> str:
    """The same tokenizer with text lower-cased first, as in transformers' tokenizer of SigLIP 2.

    Lower-cases character by character, unlike `str.lower`, which treats a final sigma differently.
    """
    from tokenizers import normalizers

    library = parse(tokenizer_json)
    before = [] if library.normalizer is None else [library.normalizer]
    library.normalizer = normalizers.Sequence([normalizers.Lowercase(), *before])
    return library.to_str()


def _from_bert(vocab: str, lower_case: bool) -> str:
    """BERT's WordPiece from its vocab.txt, one token per line."""
    from tokenizers.implementations import BertWordPieceTokenizer

    lines = vocab.replace("\r\n", "\n").removesuffix("\n").split("\n")
    ids = {token: i for i, token in enumerate(lines)}
    missing = [token for token in BERT_SPECIAL if token not in ids]
    if missing:
        raise ValueError(f"vocab.txt: expected {list(BERT_SPECIAL)}, got none of {missing}")
    return BertWordPieceTokenizer(ids, lowercase=lower_case).to_str()  # type: ignore[no-any-return]


def _from_clip(vocab: str, merges: str) -> str:
    """transformers' version of CLIP's byte-pair encoding from its vocab.json and merges.txt."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    with raise_value_error(f"expected a vocab.json with {CLIP_BOS} and {CLIP_EOS}, and the merges.txt of CLIP"):
        ids = json.loads(vocab)
        lines = [line for line in merges.split("\n") if line and not line.startswith("#version")]
        pairs = [(left, right) for left, right in (line.rstrip("\r").split(" ") for line in lines)]
        library = Tokenizer(models.BPE(ids, pairs, unk_token=CLIP_EOS, end_of_word_suffix="</w>"))
        bos, eos = ids[CLIP_BOS], ids[CLIP_EOS]
    words = Regex("|".join([re.escape(CLIP_BOS), re.escape(CLIP_EOS), CLIP_WORDS]))
    one_space = normalizers.Replace(Regex(r"\s+"), " ")
    library.normalizer = normalizers.Sequence([normalizers.NFC(), one_space, normalizers.Lowercase()])
    split = pre_tokenizers.Split(words, "removed", invert=True)
    library.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    library.post_processor = processors.RobertaProcessing(
        (CLIP_EOS, eos), (CLIP_BOS, bos), trim_offsets=False, add_prefix_space=False
    )
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([CLIP_BOS, CLIP_EOS])
    return library.to_str()
