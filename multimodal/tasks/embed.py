"""Images and texts as vectors of the shared space.

N images, M texts, D dimensions
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multimodal.encoders import TextEncoder
from multimodal.encoders.prefixes import pool_by_prefix, shareable
from multimodal.preprocess import Sources, resolve
from multimodal.results import Embedded
from multimodal.tasks.batches import image_batches, warn_rejected
from multimodal.tasks.protocol import TaskModel

TEXT_BATCH = 256  # larger ones share no more, and their temporaries do not stay in a cache


def embed_images(model: TaskModel, images: Any, batch_size: int | None = None) -> Tensor:
    """The embeddings of `images`, float32 [N, D] on the CPU, of unit length; see `Model.embed_images`."""
    return embed_named_images(model, images, batch_size).embeddings


def embed_named_images(model: TaskModel, images: Any, batch_size: int | None = None) -> Embedded:
    """The embeddings with the names they belong to: of a folder, only what could be read has a row."""
    sources = resolve(images)
    embedded = embed_sources(model, sources, batch_size)
    warn_rejected(embedded.rejected, len(sources.items))
    return embedded


def embed_sources(
    model: TaskModel, sources: Sources, batch_size: int | None = None, bar: bool = True
) -> Embedded:
    """The same for images that are resolved already, and without the warning."""
    embedded = Embedded(torch.empty(0, model.embed_dim), [], [], [])
    parts = [embedded.embeddings]
    for places, batch in image_batches(model, sources, embedded.rejected, batch_size, "embedding", bar):
        parts.append(encode_images(model, batch))
        embedded.places.extend(places)
        embedded.names.extend(sources.names[place] for place in places)
    return embedded._replace(embeddings=torch.cat(parts))


@torch.inference_mode()
def encode_images(model: TaskModel, batch: Tensor) -> Tensor:
    """[B, 3, S, S] -> [B, D], an inference tensor: `torch.cat` outside makes an ordinary one."""
    return model.dual.encode_image(batch, normalize=True).float().cpu()


def embed_texts(model: TaskModel, texts: str | Sequence[str]) -> Tensor:
    """The embeddings of `texts`, float32 [M, D] on the CPU, of unit length; see `Model.embed_texts`."""
    texts = [texts] if isinstance(texts, str) else list(texts)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"texts[{i}]: expected a str, got {text!r} ({type(text).__name__})")
    embeddings = torch.empty(len(texts), model.embed_dim)
    if not texts:
        return embeddings
    tokens = model.tokenizer(texts)  # all at once: one warning about long ones
    encode, order = _text_encoder(model, tokens)
    for rows in order.split(TEXT_BATCH):
        with torch.inference_mode():
            embeddings[rows] = encode(tokens[rows].to(model.device)).cpu()
    return embeddings


def _text_encoder(model: TaskModel, tokens: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """What embeds some rows of `tokens` [M, L], and the order [M] in which that is least work."""
    dual, encoder = model.dual, model.dual.text_encoder
    if shareable(encoder):
        assert isinstance(encoder, TextEncoder)

        def by_prefix(rows: Tensor) -> Tensor:
            return dual.project_text(pool_by_prefix(encoder, rows), normalize=True)

        # Texts that begin alike together: what they share is computed once.
        return by_prefix, torch.from_numpy(np.lexsort(tokens.T.numpy()[::-1]))
    # Texts of like length together: an encoder computes no further than the longest of a batch.
    lengths = (tokens != model.tokenizer.pad_id).sum(1)  # [M]
    return partial(dual.encode_text, normalize=True), lengths.argsort(stable=True)


def similarity(model: TaskModel, images: Any, texts: str | Sequence[str]) -> Tensor:
    """The cosine of each image with each text, float32 [N, M]; see `Model.similarity`."""
    text_embeddings = embed_texts(model, texts)  # first: a mistake there costs nothing
    return embed_images(model, images) @ text_embeddings.T
