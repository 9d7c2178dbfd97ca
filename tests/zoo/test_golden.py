"""Golden vectors by modality and ability; test_export.py has images, captions, matches and answers."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from multimodal.decoders import DECODERS, DecoderConfig, TextDecoderConfig
from multimodal.models import MODELS, build_model
from multimodal.preprocess import BPESettings
from multimodal.zoo import load, save_folder, verify


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    decoder: DecoderConfig


class LanguageModel(nn.Module):
    sources = ()

    def __init__(self, config):
        super().__init__()
        self.decoder = DECODERS.build(config.decoder)
        self.defaults = {}

    def memory(self, inputs):
        return None


@pytest.fixture
def language_model():
    MODELS.register("test_lm", LanguageModelConfig, LanguageModel)
    yield
    MODELS.unregister("test_lm")


def test_a_model_without_images_is_saved_loaded_and_verified(language_model, tiny_model, tmp_path):
    tokenizer = tiny_model.tokenizer
    decoder = TextDecoderConfig(
        vocab_size=tokenizer.vocab_size, context_length=tokenizer.context_length, width=32, layers=1, heads=2
    )
    torch.manual_seed(0)
    network = build_model(LanguageModelConfig(decoder=decoder))
    save_folder(tmp_path / "lm", "lm", network, {"text": tokenizer}, {})
    model = load(tmp_path / "lm", device="cpu", dtype=torch.float32, verify=True)
    assert model.can == {"generate"}
    assert set(model.card["golden"]) == {"text"}
    assert set(model.card["contract"]) == {"text", "weights_sha256"}
    with torch.no_grad():
        model.network.decoder.embedding.weight.neg_()
    with pytest.raises(ValueError, match="expected the recorded text"):
        verify(model)
    with pytest.raises(ValueError, match="image_size: expected None for this model, got 32"):
        load(tmp_path / "lm", image_size=32)


@pytest.mark.parametrize("context_length", [3, 4, 5, 8, 16, 20])
def test_golden_texts_fit_a_short_model(language_model, tmp_path, context_length):
    tokenizer = BPESettings(context_length, 300).train(["a cat", "a dog"])
    decoder = TextDecoderConfig(
        vocab_size=tokenizer.vocab_size, context_length=context_length, width=32, layers=1, heads=2
    )
    torch.manual_seed(0)
    network = build_model(LanguageModelConfig(decoder=decoder))
    save_folder(tmp_path / "lm", "lm", network, {"text": tokenizer}, {})
    load(tmp_path / "lm", device="cpu", dtype=torch.float32, verify=True)
