"""What every registered encoder has in common, and an encoder from outside the package."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from multimodal.decoders import TextDecoder, TextDecoderConfig
from multimodal.encoders import (
    ENCODERS,
    Encoder,
    ImageEncoderConfig,
    OpenClipImageConfig,
    OpenClipTextConfig,
    TextEncoderConfig,
    TimmConfig,
)
from multimodal.layers import Encoded

SIZES = {"width": 16, "layers": 1, "heads": 2}
CONFIGS = {
    "vit": ImageEncoderConfig(image_size=32, patch_size=8, stem_channels=(), **SIZES),
    "text": TextEncoderConfig(vocab_size=20, context_length=8, eos_id=3, attention_scale=1.0, **SIZES),
    "timm": TimmConfig(name="test_vit", image_size=160),
    "open_clip_image": OpenClipImageConfig(
        vision_cfg={"image_size": 32, "patch_size": 8, "width": 16, "head_width": 8, "layers": 1}, embed_dim=12
    ),
    "open_clip_text": OpenClipTextConfig(
        text_cfg={"context_length": 8, "vocab_size": 20, **SIZES},
        embed_dim=12,
        vocab_size=20,
        context_length=8,
        eos_id=3,
    ),
}


def make_inputs(encoder: Encoder) -> torch.Tensor:
    if encoder.modality == "text":
        return torch.tensor([[4, 5, 3, 0, 0, 0, 0, 0], [4, 5, 6, 7, 8, 9, 10, 3]])
    return torch.randn(2, 3, encoder.config.image_size, encoder.config.image_size)


@pytest.mark.parametrize("kind", ENCODERS.names())
def test_every_kind_keeps_the_contract(kind):
    config = CONFIGS[kind]
    assert ENCODERS.kind_of(config) == kind
    assert ENCODERS.from_dict(ENCODERS.to_dict(config)) == config
    encoder = ENCODERS.build(config).eval()
    assert isinstance(encoder, Encoder)
    assert encoder.config is config
    inputs = make_inputs(encoder)
    encoded = encoder(inputs)
    assert encoded.pooled.shape == (2, encoder.width)
    if encoded.features is not None:
        assert encoded.features.shape[::2] == (2, encoder.width)
        assert encoded.mask is None or encoded.mask.shape == encoded.features.shape[:2]
    for row in range(2):  # an input does not depend on its neighbours
        alone = encoder(inputs[row : row + 1]).pooled
        torch.testing.assert_close(alone, encoded.pooled[row : row + 1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["open_clip_image", "open_clip_text"])
def test_an_encoder_that_only_pools_is_no_memory_for_a_decoder(kind):
    encoder = ENCODERS.build(CONFIGS[kind]).eval()
    decoder = TextDecoder(TextDecoderConfig(vocab_size=20, context_length=8, memory_width=12, **SIZES))
    with pytest.raises(ValueError, match=r"memory: expected a sequence of features .*, got only a pooled vector"):
        decoder.project_memory(encoder(make_inputs(encoder)))


def test_an_encoder_from_outside_is_registered_like_our_own():
    @dataclass(frozen=True)
    class SignalConfig:
        width: int = 6

    class SignalEncoder(Encoder):
        modality = "signal"

        def __init__(self, config):
            super().__init__()
            self.config, self.width = config, config.width
            self.linear = nn.Linear(3, config.width)

        def forward(self, inputs, mask=None):
            features = self.linear(inputs)
            return Encoded(features, features.mean(1), mask)

    ENCODERS.register("signal", SignalConfig, SignalEncoder)
    try:
        config = ENCODERS.from_dict({"kind": "signal", "width": 5})
        encoder = ENCODERS.build(config)
        assert encoder(torch.randn(2, 4, 3)).pooled.shape == (2, 5)
        assert ENCODERS.to_dict(config) == {"kind": "signal", "width": 5}
    finally:
        ENCODERS.unregister("signal")
