"""Tokenizers in a model folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multimodal.config import from_dict
from multimodal.files import atomic_write
from multimodal.preprocess.tokenizers.bpe import BPETokenizer
from multimodal.preprocess.tokenizers.clip import ClipTokenizer
from multimodal.preprocess.tokenizers.definition import TOKENIZER_JSON, read_text
from multimodal.preprocess.tokenizers.hf import HFSettings, HFTokenizer
from multimodal.preprocess.tokenizers.tokenizer import Tokenizer


@dataclass(frozen=True)
class Sizes:
    """What the table of a tokenizer says that has no settings of its own."""

    context_length: int
    vocab_size: int


def save_tokenizer(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Write the tokenizer's files; its `to_dict()` belongs into the folder's config."""
    for name, data in tokenizer.files().items():
        with atomic_write(Path(folder) / name) as file:
            file.write(data)


def load_tokenizer(config: dict[str, Any], folder: str | Path) -> Tokenizer:
    """The tokenizer that `config`, a `to_dict()`, describes. ValueError where it is not what it says."""
    if not isinstance(config, dict):
        raise ValueError(f"tokenizer: expected a table, got {config!r}")
    settings = {key: value for key, value in config.items() if key not in ("kind", "sha256")}
    tokenizer: Tokenizer
    if config.get("kind") == ClipTokenizer.kind:
        tokenizer = ClipTokenizer(from_dict(Sizes, settings, "tokenizer").context_length)
    elif config.get("kind") == BPETokenizer.kind:
        sizes = from_dict(Sizes, settings, "tokenizer")
        tokenizer = BPETokenizer(_definition(folder), sizes.context_length)
    elif config.get("kind") == HFTokenizer.kind:
        hf_settings = from_dict(HFSettings, settings, "tokenizer")
        tokenizer = HFTokenizer(_definition(folder), hf_settings)
    else:
        raise ValueError(f"tokenizer.kind: expected 'bpe', 'clip' or 'hf', got {config.get('kind')!r}")
    if tokenizer.to_dict() != config:
        raise ValueError(f"tokenizer: expected {config}, got {tokenizer.to_dict()}")
    return tokenizer


def _definition(folder: str | Path) -> str:
    path = Path(folder) / TOKENIZER_JSON
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: expected {TOKENIZER_JSON} beside config.json, got none")
    return read_text(path)
