"""`Model`: a network with everything that is needed to use it. `multimodal.load()` returns one."""

import hashlib
import html
import json
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import multimodal.tasks as tasks
from multimodal.encoders import ENCODERS
from multimodal.models import abilities, encoder_configs
from multimodal.preprocess import ImageTransform, Tokenizer
from multimodal.preprocess.preprocessor import Preprocessor


class Model:
    """Classify, embed, search, caption and generate with one network.

    network: put into eval mode. inputs: the preprocessors by modality ("image", "text", ...).
    card: what is known of the model: data, figures, terms.

    Wherever a method takes `images`, it takes one image: a path, bytes, a PIL image, an array [H, W, 3] or [H, W], a
    tensor [3, H, W]; or many: a list of those, a tensor [N, 3, H, W], a folder (with all its subfolders) or a glob such
    as "photos/*.jpg". One image gives one result; anything else gives a list of results, which is empty for an empty
    list. An unreadable image that was given by name or in a list raises `ImageError` with its name; in a folder or a
    glob it is skipped, listed in `.rejected` of the results, and counted in one warning. A model of another modality
    takes that modality in the same ways.

    >>> model = multimodal.load()  # doctest: +SKIP
    >>> model.classify("cat.jpg", ["cat", "dog"]).label  # doctest: +SKIP
    'cat'
    """

    answer = tasks.answer
    caption = tasks.caption
    class_embeddings = tasks.class_embeddings
    classify = tasks.classify
    embed = tasks.embed
    embed_images = tasks.embed_images
    embed_texts = tasks.embed_texts
    generate = tasks.generate
    index = tasks.index_folder
    match = tasks.match
    similarity = tasks.similarity

    def __init__(
        self,
        network: nn.Module,
        inputs: Mapping[str, Preprocessor],
        *,
        name: str = "unnamed",
        card: dict[str, Any] | None = None,
    ) -> None:
        self.network = network.eval()
        self.inputs = dict(inputs)
        self.name = name
        self.card = {} if card is None else card
        self.class_cache: dict[Hashable, Tensor] = {}
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
            raise ValueError(
                f"model: expected one that reads {modality}, got {self.name!r}, which reads {list(self.inputs)}"
            )
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
        return tasks.embedder(self).embed_dim

    @property
    def logit_scale(self) -> float:
        """The learned parameter, in log space: a cosine times exp(logit_scale) is a logit."""
        return float(tasks.embedder(self).logit_scale.detach().float())

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())

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
        tasks.embedder(self)
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

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> "Model":
        """Move the network, in place; returns the model itself."""
        self.network.to(device=device, dtype=dtype)
        return self

    def _facts(self) -> dict[str, str]:
        facts = {"can": ", ".join(sorted(self.can)), "parameters": f"{self.num_parameters / 1e6:.1f} M"}
        if "image" in self.inputs:
            facts["images"] = f"{self.transform.image_size} px"
        if "search" in self.can:
            facts["embeddings"] = f"{self.embed_dim} dimensions"
        return facts | {"runs on": f"{self.device}, {str(self.dtype).removeprefix('torch.')}"}

    def __repr__(self) -> str:
        return f"Model({self.name!r}: {'; '.join(f'{key} {value}' for key, value in self._facts().items())})"

    def _repr_html_(self) -> str:
        short = {key: value for key, value in self.card.items() if isinstance(value, str | int | float)}
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(key)}</th>"
            f"<td style='text-align:left'>{html.escape(str(value))}</td></tr>"
            for key, value in (self._facts() | short).items()
        )
        return f"<table><caption><b>{html.escape(self.name)}</b></caption>{rows}</table>"
