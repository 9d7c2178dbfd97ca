"""What tasks need of a model. `multimodal.Model` is one; tasks only know this protocol."""

from collections.abc import Hashable
from typing import Protocol

import torch
from torch import Tensor, nn

from multimodal.models import Embeds
from multimodal.preprocess import Tokenizer
from multimodal.preprocess.preprocessor import Preprocessor


class TaskModel(Protocol):
    """A network in eval mode with the preprocessors that it was trained with, by modality."""

    name: str
    network: nn.Module
    inputs: dict[str, Preprocessor]
    class_cache: dict[Hashable, Tensor]  # of `class_embeddings`, the oldest first

    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def can(self) -> set[str]: ...
    @property
    def logit_scale(self) -> float: ...
    @property
    def fingerprint(self) -> str: ...
    def weights_key(self) -> Hashable | None:
        """Equal as long as the weights are; None if they may change unnoticed, as in training."""


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
