"""From the config of an encoder to the encoder."""

from torch import nn

from multimodal.encoders.foreign import (
    OpenClipImageConfig,
    OpenClipImageEncoder,
    OpenClipTextConfig,
    OpenClipTextEncoder,
)
from multimodal.encoders.image import ImageEncoder, ImageEncoderConfig
from multimodal.encoders.text import TextEncoder, TextEncoderConfig

ImageConfig = ImageEncoderConfig | OpenClipImageConfig
TextConfig = TextEncoderConfig | OpenClipTextConfig

ENCODERS: dict[type, type[nn.Module]] = {
    ImageEncoderConfig: ImageEncoder,
    TextEncoderConfig: TextEncoder,
    OpenClipImageConfig: OpenClipImageEncoder,
    OpenClipTextConfig: OpenClipTextEncoder,
}


def build_encoder(config: ImageConfig | TextConfig) -> nn.Module:
    """The encoder of a config, with random weights; it has a `width` and a `config`."""
    return ENCODERS[type(config)](config)
