"""What the tasks need of a model. `multimodal.Model` is one; the tasks do not know that."""

from collections.abc import Hashable
from typing import Protocol

import torch
from torch import Tensor

from multimodal.models import DualEncoder, Network
from multimodal.preprocess import ImageTransform, Tokenizer


class TaskModel(Protocol):
    """A network in eval mode with the transform and the tokenizer that it was trained with."""

    name: str
    network: Network
    transform: ImageTransform
    tokenizer: Tokenizer
    class_cache: dict[Hashable, Tensor]  # of `class_embeddings`, the oldest first

    @property
    def dual(self) -> DualEncoder: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def can(self) -> set[str]: ...
    @property
    def embed_dim(self) -> int: ...
    @property
    def logit_scale(self) -> float: ...
    @property
    def fingerprint(self) -> str: ...
    def weights_version(self) -> Hashable:
        """Equal to what it was before exactly when the weights are."""
        ...


def require(model: TaskModel, ability: str) -> None:
    """Raise ValueError unless the model has the ability: "classify", "search" or "caption"."""
    if ability not in model.can:
        raise ValueError(
            f"expected a model that can {ability}, got {model.name!r}, which can {can_text(model)}"
        )


def can_text(model: TaskModel) -> str:
    return ", ".join(sorted(model.can)) or "do nothing of this kind"
