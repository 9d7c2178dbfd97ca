"""From the config of an encoder to the encoder."""

from collections.abc import Callable

from multimodal.encoders.encoder import Encoder
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

ENCODERS: dict[type, Callable[..., Encoder]] = {
    ImageEncoderConfig: ImageEncoder,
    TextEncoderConfig: TextEncoder,
    OpenClipImageConfig: OpenClipImageEncoder,
    OpenClipTextConfig: OpenClipTextEncoder,
}


def build_encoder(config: ImageConfig | TextConfig) -> Encoder:
    """The encoder of a config, with random weights."""
    return ENCODERS[type(config)](config)
