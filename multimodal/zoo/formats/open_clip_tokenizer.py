"""open_clip: CLIP's own tokenizer, or the files of one of transformers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal.preprocess import ClipTokenizer, HFSettings, HFTokenizer, Tokenizer, read_tokenizer_json
from multimodal.preprocess.texts.tokenizer_json import parse
from multimodal.zoo.formats.format import read_json
from multimodal.zoo.formats.hf_tokenizer import token_ids
from multimodal.zoo.weights import CheckpointError

# A network may have more embeddings than there are tokens (CLIPA: 32,000 for the 30,522 of BERT), and a tokenizer may
# have marks that no text contains. Vocabularies that differ by more belong to different models.
MAX_DIFFERENCE = 0.05


def read_tokenizer(text_cfg: Mapping[str, Any], beside: Path, given: Path | None, text: Any) -> Tokenizer:
    """CLIP's tokenizer or, if text_cfg names one of the hub, the tokenizer.json in the folder `given` or `beside`.

    text: the config of the text encoder. Raises CheckpointError if the tokenizer does not fit it.
    """
    name = text_cfg.get("hf_tokenizer_name")
    if not name:
        if given is not None:
            raise ValueError(f"tokenizer: expected None, because the model has CLIP's own, got {given}")
        return ClipTokenizer(text.context_length)
    folder = beside if given is None else given
    try:
        tokenizer_json = read_tokenizer_json(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{folder}: expected the tokenizer.json of {name} beside the weights, got none"
        ) from error
    tokens = parse(tokenizer_json).get_vocab_size()
    if abs(tokens - text.vocab_size) > MAX_DIFFERENCE * text.vocab_size:
        raise CheckpointError(
            f"tokenizer: expected about {text.vocab_size} tokens as in the model, got {tokens} in {folder}"
        )
    settings, kwargs = read_json(folder / "tokenizer_config.json", {}), text_cfg.get("tokenizer_kwargs") or {}
    [pad_id] = token_ids(
        tokenizer_json, settings.get("pad_token") or ("[PAD]" if "[PAD]" in tokenizer_json else "<pad>")
    )
    eos_token = settings.get("eos_token")
    [eos_id] = token_ids(tokenizer_json, eos_token) if eos_token else [None]
    expected = getattr(text, "hf_config", {}).get("pad_token_id", pad_id)
    if pad_id != expected:
        raise CheckpointError(f"tokenizer.pad_id: expected {expected} as in the model, got {pad_id}")
    return HFTokenizer(
        tokenizer_json,
        HFSettings(
            text.context_length,
            pad_id=pad_id,
            eos_id=eos_id,
            clean=kwargs.get("clean", "whitespace"),
            zeroed_id=token_ids(tokenizer_json, "[SEP]")[0] if kwargs.get("strip_sep_token") else None,
            vocab_size=text.vocab_size,
        ),
    )
