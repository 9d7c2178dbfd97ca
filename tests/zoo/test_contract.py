"""Towers, transform and tokenizer that contradict each other are refused with expected and got."""

from dataclasses import replace

import pytest

from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.models import DualEncoderConfig
from multimodal.preprocess import ClipTokenizer, ImageTransform
from multimodal.zoo.contract import check_contract, check_stored, contract

CONFIG = DualEncoderConfig(ImageEncoderConfig(32, patch_size=16), TextEncoderConfig())


def text(**fields):
    return replace(CONFIG, text=replace(CONFIG.text, **fields))


@pytest.mark.parametrize(
    ("config", "transform", "tokenizer", "message"),
    [
        (
            CONFIG,
            ImageTransform(48),
            ClipTokenizer(),
            "transform.image_size: expected 32, as the model has it, got 48",
        ),
        (
            text(vocab_size=49409),
            ImageTransform(32),
            ClipTokenizer(),
            "vocab_size: expected 49409, .* got 49408",
        ),
        (
            text(eos_id=2),
            ImageTransform(32),
            ClipTokenizer(),
            "eos_id: expected 2, as the model has it, got 49407",
        ),
        (CONFIG, ImageTransform(32), ClipTokenizer(78), "context_length: expected at most 77, got 78"),
        (
            *(
                text(causal=False, pooling="last", attends_padding=True),
                ImageTransform(32),
                ClipTokenizer(76),
            ),
            "context_length: expected 77, got 76",
        ),
    ],
)
def test_contradictions(config, transform, tokenizer, message):
    check_contract(CONFIG, ImageTransform(32), ClipTokenizer(60))  # which has none
    with pytest.raises(ValueError, match=message):
        check_contract(config, transform, tokenizer)


def test_what_the_contract_says_and_keeps():
    parts = (ImageTransform(32, mean=(0.1, 0.2, 0.3)), ClipTokenizer(60))
    stored = contract(CONFIG, *parts, "f00")
    assert stored["activation of the image tower"] == "gelu"
    assert (stored["mean"], stored["context length"]) == ([0.1, 0.2, 0.3], 60)
    assert stored["bos, eos and padding"] == [49406, 49407, 0]
    check_stored(stored, stored)
    check_stored({}, stored)
    other = contract(text(activation="quick_gelu"), *parts, "f00")
    message = "contract: activation of the text tower: expected 'gelu', as it was saved, got 'quick_gelu'"
    with pytest.raises(ValueError, match=message):
        check_stored(stored, other)
