"""What a network can do, as protocols. Tasks ask for these and never for a class.

B = batch, D = width of the shared space
"""

from collections.abc import Mapping
from typing import Annotated, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from multimodal.config import Registry
from multimodal.decoders import Decoder
from multimodal.encoders import ENCODERS
from multimodal.layers import Encoded, Memory

Inputs = Mapping[str, Tensor]  # by modality: images [B, 3, S, S], token ids [B, L], ...

# A builder takes the config; the network keeps it as `config`.
MODELS: Registry[nn.Module] = Registry("model")
ModelConfig = Annotated[Any, MODELS]  # the type of config fields that hold the table of a model


@runtime_checkable
class Embeds(Protocol):
    """Maps every modality into one space: CLIP, SigLIP, CLAP, CoCa, BLIP's retrieval model."""

    modalities: tuple[str, ...]
    embed_dim: int  # D
    logit_scale: nn.Parameter  # a scalar in log space: a cosine times exp(logit_scale) is a logit

    def encode(self, modality: str, inputs: Tensor, normalize: bool = False) -> Tensor:
        """A batch of one modality -> [B, D]"""


@runtime_checkable
class Generates(Protocol):
    """Writes text with a decoder: CoCa, BLIP, GPT, T5.

    sources: the modalities that `memory` reads: ("image",) for captions, ("image", "text") for answers to
    questions, ("text",) for text-to-text models, () for a decoder alone.
    defaults: values for the settings that a decoding strategy leaves open, such as {"max_new_tokens": 20}.
    """

    decoder: Decoder
    sources: tuple[str, ...]
    defaults: Mapping[str, Any]

    def memory(self, inputs: Inputs) -> Memory | None:
        """What the decoder attends to, for a batch of the `sources`; None for a decoder alone."""


@runtime_checkable
class Matches(Protocol):
    """Judges whether a text describes an image, from both together: BLIP's matching head."""

    def match(self, inputs: Inputs) -> Tensor:
        """{"image", "text"}, row b of one with row b of the other -> logits [B, 2]: no match, match"""

    def match_encoded(self, image: Encoded, tokens: Tensor) -> Tensor:
        """The same for images that are encoded already: tokens [B, L] -> logits [B, 2]"""


def encoder_configs(config: Any) -> dict[str, Any]:
    """The configs of the encoders in the config of a model, by modality."""
    if hasattr(config, "encoders"):
        return dict(config.encoders)
    if hasattr(config, "encoder"):
        return {ENCODERS.builder(config.encoder).modality: config.encoder}  # type: ignore[union-attr]
    return {}


def abilities(network: nn.Module) -> frozenset[str]:
    """The tasks that a network can be used for: some of "classify", "search", "caption", "match", "answer",
    "generate". "search" is for any two modalities, of which one is text; "caption" for any source but text.
    """
    can: set[str] = set()
    if isinstance(network, Embeds) and "text" in network.modalities and len(network.modalities) > 1:
        can |= {"classify", "search"}
    if isinstance(network, Generates):
        if set(network.sources) <= {"text"}:
            can.add("generate")
        else:
            can.add("answer" if "text" in network.sources else "caption")
    if isinstance(network, Matches):
        can.add("match")
    return frozenset(can)


def compute_dtype(tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The type of a tensor in a network that computes in `dtype`: learned scalars, such as a logit_scale, have at least
    float32, because exp(logit_scale) multiplies their rounding error; what is not floating point keeps its type."""
    if not tensor.is_floating_point():
        return tensor.dtype
    return dtype if tensor.ndim else torch.promote_types(dtype, torch.float32)


def cast(network: nn.Module, dtype: torch.dtype | None = None, device: str | torch.device | None = None) -> None:
    """Convert a network, in place; None keeps its dtype or device. For learned scalars see `compute_dtype`."""
    network._apply(lambda each: each.to(device=device, dtype=None if dtype is None else compute_dtype(each, dtype)))


def build_model(config: Any) -> nn.Module:
    """The network of a registered config, with random weights; it keeps the config as `config`."""
    network = MODELS.build(config)
    network.config = config
    return network
