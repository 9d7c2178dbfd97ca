"""A model as small as possible, with random weights, and a folder of images drawn for it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

if TYPE_CHECKING:
    from multimodal.model import Model

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores: one thread each
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for processes that tests start

TEXTS = ["a photo of a cat.", "the quick brown fox jumps over the lazy dog", "two red squares on green grass"]


def _make_model(seed: int = 0, decoder: bool = True, name: str = "tiny") -> "Model":
    """A real network of 0.1 M parameters; its weights spread, so that different inputs differ clearly."""
    # imported here, so that the tests of one room do not import all the others
    from multimodal.decoders import TextDecoderConfig
    from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
    from multimodal.model import Model
    from multimodal.models import CoCaConfig, DualEncoderConfig, build_model
    from multimodal.preprocess import BPESettings, ImageTransform

    tokenizer = BPESettings(64, 300).train(TEXTS)
    size = {"width": 32, "layers": 2, "heads": 2}
    tokens = {"vocab_size": tokenizer.vocab_size, "context_length": tokenizer.context_length}
    encoders = {
        "image": ImageEncoderConfig(image_size=32, patch_size=16, **size),
        "text": TextEncoderConfig(eos_id=tokenizer.eos_id, **tokens, **size),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if decoder:
            text_decoder = TextDecoderConfig(**tokens, **size)
            network = build_model(CoCaConfig(encoders=encoders, embed_dim=16, decoder=text_decoder))
        else:
            network = build_model(DualEncoderConfig(encoders=encoders, embed_dim=16))
        torch.manual_seed(seed)  # the encoders come first: they are the same with and without a decoder
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.3)
    transform = ImageTransform(32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    inputs = {"image": transform, "text": tokenizer}
    return Model(network, inputs, name=name, card={"data": "none", "figures": {"top-1": 0.5}})


@pytest.fixture(scope="session")
def make_model() -> Callable[..., "Model"]:
    """make_model(seed=0, decoder=True, name="tiny"): a new model, for tests that change it."""
    return _make_model


@pytest.fixture(scope="session")
def tiny_model() -> "Model":
    """Embeds and captions. Shared by all tests: do not change it."""
    return _make_model()


@pytest.fixture
def draw():
    """draw(path, seed): a different image for each seed, written to `path`."""

    def draw(path: Path, seed: int, size: tuple[int, int] = (40, 48)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(path)
        return path

    return draw


@pytest.fixture
def photos(tmp_path, draw) -> Path:
    """A folder of six images, two of them in a subfolder."""
    for i in range(4):
        draw(tmp_path / "photos" / f"{i}.png", i)
    for i in range(4, 6):
        draw(tmp_path / "photos" / "sub folder" / f"{i}.png", i)
    return tmp_path / "photos"
