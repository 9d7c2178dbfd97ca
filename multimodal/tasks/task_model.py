"""A network with everything that tasks need of it. `multimodal.Model` adds the tasks as methods."""

import hashlib
import json
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.encoders import ENCODERS
from multimodal.models import Embeds, abilities, encoder_configs
from multimodal.preprocess import ImageTransform, Tokenizer
from multimodal.preprocess.preprocessor import Preprocessor


class TaskModel:
    """A network in eval mode with the preprocessors that it was trained with, by modality; see `Model`."""

    def __init__(
        self, network: nn.Module, inputs: Mapping[str, Preprocessor], *, name: str = "unnamed", card: dict | None = None
    ) -> None:
        self.network = network.eval()
        self.inputs = dict(inputs)
        self.name = name
        self.card: dict[str, Any] = {} if card is None else card
        self.class_cache: dict[Hashable, Tensor] = {}  # of `class_embeddings`, the oldest first
        self._fingerprint: tuple[Hashable, str] | None = None  # of which weights, and what it is

    @property
    def transform(self) -> ImageTransform:
        """The preprocessor of images."""
        return self._input("image")

    @property
    def tokenizer(self) -> Tokenizer:
        """The preprocessor of texts."""
        return self._input("text")

    def _input(self, modality: str) -> Any:
        if modality not in self.inputs:
            got = f"{self.name!r}, which reads {list(self.inputs)}"
            raise ValueError(f"model: expected one that reads {modality}, got {got}")
        return self.inputs[modality]

    @property
    def can(self) -> set[str]:
        """The tasks of the model: some of "classify", "search", "caption", "match", "answer", "generate"."""
        return set(abilities(self.network))

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type in which the network computes; results are always float32."""
        return next(parameter.dtype for parameter in self.network.parameters() if parameter.ndim)

    @property
    def embed_dim(self) -> int:
        """Dimensions of the shared space."""
        return embedder(self).embed_dim

    @property
    def logit_scale(self) -> float:
        """The learned parameter, in log space: a cosine times exp(logit_scale) is a logit."""
        return float(embedder(self).logit_scale.detach().float())

    @property
    def fingerprint(self) -> str:
        """The sha256 of the embedding space: encoders, projections, their weights and the preprocessors.

        Embeddings of models with equal fingerprints can be compared. Weights count as rounded to bfloat16, so that the
        fingerprint does not depend on `dtype`; a decoder does not count.
        """
        key = self.weights_key()
        if key is None or self._fingerprint is None or self._fingerprint[0] != key:
            self._fingerprint = (key, self._hash_space())
        return self._fingerprint[1]

    def _hash_space(self) -> str:
        embedder(self)
        facts = {name: each.fingerprint for name, each in sorted(self.inputs.items())}
        digest = hashlib.sha256(json.dumps(facts).encode())
        for modality, config in sorted(encoder_configs(getattr(self.network, "config", None)).items()):
            digest.update(f"{modality} {json.dumps(ENCODERS.to_dict(config), sort_keys=True)}".encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            if name.startswith(("decoder.", "matching_head.", "logit_")):  # they leave embeddings alone
                continue
            tensor = tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
            digest.update(f"{name} {list(tensor.shape)}\n".encode())
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def weights_key(self) -> Hashable | None:
        """Equal as long as the weights are; None for a network in training, whose weights may change unnoticed.

        PyTorch counts the writes to a tensor, except by its fused optimizers, which need `requires_grad`.
        """
        parameters = list(self.network.parameters())
        if any(parameter.requires_grad for parameter in parameters):
            return None
        return tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in parameters)


def require(model: TaskModel, ability: str) -> None:
    """Raise ValueError unless the model has the ability, such as "classify", "search" or "caption"."""
    if ability not in model.can:
        raise _unable(model, ability)


def embedder(model: TaskModel) -> Embeds:
    """The network, which must embed. Raises ValueError."""
    if not isinstance(model.network, Embeds):
        raise _unable(model, "search")
    return model.network


def _unable(model: TaskModel, ability: str) -> ValueError:
    can = ", ".join(sorted(model.can)) or "do none of the tasks"
    return ValueError(f"model: expected one that can {ability}, got {model.name!r}, which can {can}")


def main_modality(model: TaskModel) -> str:
    """What the model reads beside text: "image" for CLIP. Raises ValueError for a model of text alone."""
    for modality in model.inputs:
        if modality != "text":
            return modality
    raise ValueError(f"model: expected one that reads more than text, got {model.name!r}")
