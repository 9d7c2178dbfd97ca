"""Inputs of any modality as vectors of the shared space.

N = inputs, M = texts, D = dimensions of the space
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multimodal.encoders import pool_by_prefix
from multimodal.models import Embeds
from multimodal.results import Embedded, Rejected
from multimodal.tasks.batches import Texts, batches, check_finite, sources_of, warn_rejected
from multimodal.tasks.task_model import TaskModel, embedder, main_modality

TEXT_BATCH = 256  # larger batches share no more prefixes, and their temporaries do not fit into a cache


def embed_images(model: TaskModel, images: Any, batch_size: int | None = None) -> Tensor:
    """The embeddings of images: float32 [N, D] on the CPU, rows of unit length.

    images: one or many, see `Model`. One image gives [1, D], an empty list [0, D]. Unreadable files of a folder or
        glob have no row; `tasks.embed_named` says which.
    batch_size: images per forward pass; by default 32 on a CPU, 256 elsewhere.

    >>> model.embed_images(["a.jpg", "b.jpg"]).shape  # doctest: +SKIP
    torch.Size([2, 512])
    """
    return embed(model, images, "image", batch_size)


def embed(model: TaskModel, inputs: Any, modality: str | None = None, batch_size: int | None = None) -> Tensor:
    """The embeddings of inputs of any modality: float32 [N, D] on the CPU, rows of unit length.

    modality: "image", "text", ...; by default what the model reads beside text.
    """
    if modality == "text":
        return embed_texts(model, inputs)
    return embed_named(model, inputs, modality, batch_size).embeddings


def embed_named(
    model: TaskModel, inputs: Any, modality: str | None = None, batch_size: int | None = None, quiet: bool = False
) -> Embedded:
    """The embeddings with the names of their inputs; arguments as in `embed`.

    quiet: no progress bar, and no warning about unreadable files.
    """
    network = embedder(model)
    modality = main_modality(model) if modality is None else modality
    sources = sources_of(model, modality, inputs)
    parts, places = [torch.empty(0, network.embed_dim)], list[int]()
    rejected: list[Rejected] = []
    for found, batch in batches(model, modality, sources, rejected, batch_size, None if quiet else "embedding"):
        with torch.inference_mode():
            parts.append(network.encode(modality, batch, normalize=True).float().cpu())  # [B, D]
        check_finite(parts[-1], [sources.names[place] for place in found])
        places += found
    if not quiet:
        warn_rejected(rejected, len(sources.items), modality)
    embeddings = torch.cat(parts)  # an ordinary tensor of inference tensors, on which a user may train
    return Embedded(embeddings, [sources.names[place] for place in places], places, rejected)


def embed_texts(model: TaskModel, texts: Texts) -> Tensor:
    """The embeddings of texts: float32 [M, D] on the CPU, rows of unit length.

    One text gives [1, D], an empty list [0, D]. Texts longer than the model's context are truncated, with a warning
    that counts them. Raises ValueError for anything that is not a str.
    """
    network = embedder(model)
    texts = [texts] if isinstance(texts, str) else list(texts)
    embeddings = torch.empty(len(texts), network.embed_dim)
    if not texts:
        return embeddings
    tokens = model.tokenizer(texts)  # all at once: one warning about long texts
    encode, order = _text_encoder(model, network, tokens)
    for rows in order.split(TEXT_BATCH):
        with torch.inference_mode():
            embeddings[rows] = encode(tokens[rows].to(model.device)).float().cpu()
    check_finite(embeddings, texts)
    return embeddings


def _text_encoder(model: TaskModel, network: Embeds, tokens: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """What embeds some rows of `tokens` [M, L], and the order [M] of the rows that costs least."""
    encoder: Any = getattr(network, "encoders", {"text": None})["text"]
    if getattr(encoder, "shares_prefixes", False):

        def by_prefix(rows: Tensor) -> Tensor:
            return network.project("text", pool_by_prefix(encoder, rows), normalize=True)  # type: ignore[attr-defined]

        # Texts with equal prefixes follow each other, so that a batch shares as much as possible.
        return by_prefix, torch.from_numpy(np.lexsort(tokens.T.numpy()[::-1]))
    # Texts of similar length together: an encoder computes no further than the longest of a batch.
    lengths = (tokens != model.tokenizer.pad_id).sum(1)  # [M]
    return partial(network.encode, "text", normalize=True), lengths.argsort(stable=True)


def similarity(model: TaskModel, images: Any, texts: Texts) -> Tensor:
    """The cosine of each image with each text: float32 [N, M] on the CPU.

    >>> model.similarity(["cat.jpg", "dog.jpg"], ["a cat", "a dog"])  # doctest: +SKIP
    """
    text_embeddings = embed_texts(model, texts)  # first: mistakes in texts are found before images are read
    return embed(model, images) @ text_embeddings.T
