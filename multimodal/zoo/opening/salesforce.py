"""The original files of BLIP."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from multimodal.preprocess import (
    HFSettings,
    HFTokenizer,
    ImageTransform,
    read_tokenizer_json,
)
from multimodal.zoo.contract import text_part
from multimodal.zoo.formats import salesforce
from multimodal.zoo.opening.foreign import Foreign, about, check_ends, token_ids


def open_salesforce(path: Path, state: Mapping[str, Tensor], tokenizer: Path | None) -> Foreign:
    """An original BLIP file. tokenizer: the folder with the vocab.txt of bert-base-uncased; None: its own.

    Raises ValueError for a tokenizer of another vocabulary.
    """
    folder = path.parent if tokenizer is None else tokenizer
    try:
        definition = read_tokenizer_json(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path}: expected the vocab.txt or tokenizer.json of bert-base-uncased beside it, or its folder as "
            "`tokenizer`, got none"
        ) from error
    bos, eos, pad = token_ids(definition, "[CLS]", "[SEP]", "[PAD]")
    config = salesforce.network(state, eos)
    text = text_part(config)
    settings = HFSettings(
        text.context_length,
        bos_id=bos,
        eos_id=eos,
        pad_id=pad,
        clean_up_tokenization_spaces=True,
        vocab_size=text.vocab_size,
    )
    tokens = HFTokenizer(definition, settings)
    check_ends(tokens, (bos,), (eos,))
    if text.vocab_size - tokens.num_tokens not in (0, salesforce.ADDED):
        raise ValueError(
            f"{folder}: tokenizer: expected a vocabulary of {text.vocab_size - salesforce.ADDED}, to which the "
            f"model adds {salesforce.ADDED}, got {tokens.num_tokens}"
        )
    transform = ImageTransform(config.image.image_size, resize="squash")
    named = salesforce.weights(state, config)
    return Foreign(path.stem, config, named, transform, tokens, about("Salesforce BLIP", path))
