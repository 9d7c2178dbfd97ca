"""Encoders, decoder and preprocessors that contradict each other are refused with expected and got."""

from dataclasses import dataclass, replace

import pytest

from multimodal.decoders import TextDecoderConfig
from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.models import CoCaConfig, DualEncoderConfig, EncoderDecoderConfig
from multimodal.preprocess import ClipTokenizer, ImageTransform
from multimodal.zoo.contract import check_contract, check_stored, contract, encoder_configs

IMAGE, TEXT = ImageEncoderConfig(image_size=32, patch_size=16), TextEncoderConfig()
CONFIG = DualEncoderConfig(encoders={"image": IMAGE, "text": TEXT})
CLIP = ClipTokenizer()


def text(**fields):
    return replace(CONFIG, encoders={"image": IMAGE, "text": replace(TEXT, **fields)})


def inputs(image_size=32, tokenizer=CLIP):
    return {"image": ImageTransform(image_size), "text": tokenizer}


@pytest.mark.parametrize(
    ("config", "inputs", "message"),
    [
        (CONFIG, inputs(48), "inputs.image.image_size: expected 32 as in the model, got 48"),
        (text(vocab_size=49409), inputs(), "inputs.text.vocab_size: expected 49409 .* got 49408"),
        (text(eos_id=2), inputs(), "eos_id: expected 2 as in the model, got 49407"),
        (text(eos_id=2, causal=False, pooling="mean"), inputs(), "eos_id: expected 2 .*, got 49407"),
        (CONFIG, inputs(tokenizer=ClipTokenizer(78)), "context_length: expected at most 77, got 78"),
        (
            text(causal=False, pooling="last", attends_padding=True),
            inputs(tokenizer=ClipTokenizer(76)),
            "context_length: expected 77, got 76",
        ),
        (
            CoCaConfig(encoders=CONFIG.encoders, decoder=TextDecoderConfig(vocab_size=9)),
            inputs(),
            "inputs.text.vocab_size: expected 9 as in the model, got 49408",
        ),
        (
            EncoderDecoderConfig(encoder=IMAGE, decoder=TextDecoderConfig(vocab_size=9)),
            inputs(48),
            "inputs.image.image_size: expected 32 as in the model, got 48",
        ),
        (CONFIG, {"text": CLIP}, r"inputs: expected a preprocessor for 'image', got only \['text'\]"),
    ],
)
def test_contradictions(config, inputs, message):
    with pytest.raises(ValueError, match=message):
        check_contract(config, inputs)


def test_what_fits_is_accepted():
    check_contract(CONFIG, inputs(tokenizer=ClipTokenizer(60)))
    check_contract(text(eos_id=2, causal=False, pooling="last", attends_padding=True), inputs())
    check_contract(EncoderDecoderConfig(encoder=IMAGE, decoder=TextDecoderConfig()), inputs())


def test_contract_contains_the_facts_and_is_compared():
    parts = inputs(tokenizer=ClipTokenizer(60))
    parts["image"] = ImageTransform(32, mean=(0.1, 0.2, 0.3))
    stored = contract(CONFIG, parts, "f00")
    assert stored["weights_sha256"] == "f00"
    image, words = stored["image"], stored["text"]
    assert (image["activation"], image["pooling"], image["mean"]) == ("gelu", "token", [0.1, 0.2, 0.3])
    assert (words["context_length"], words["pooling"], words["prefix"]) == (60, "eos", [49406])
    assert (words["bos_id"], words["eos_id"], words["pad_id"]) == (49406, 49407, 0)
    check_stored(stored, stored)
    check_stored({}, stored)
    other = contract(text(activation="quick_gelu"), parts, "f00")
    message = r"contract\.text\.activation: expected 'gelu' as saved, got 'quick_gelu'"
    with pytest.raises(ValueError, match=message):
        check_stored(stored, other)


@dataclass(frozen=True)
class SoundConfig:
    sample_rate: int = 16000


class Sound:
    modality = "sound"
    fingerprint = "0ff"

    def to_dict(self):
        return {"kind": "test sound", "sample_rate": 16000}


def test_an_unknown_modality_and_a_model_without_images():
    config = replace(CONFIG, encoders={"sound": SoundConfig(), "text": TEXT})
    parts = {"sound": Sound(), "text": CLIP}
    check_contract(config, parts)
    assert set(encoder_configs(config)) == {"sound", "text"}
    assert contract(config, parts, "f00")["sound"] == Sound().to_dict() | {"fingerprint": "0ff"}
