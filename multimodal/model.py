"""`Model`: a network with everything that is needed to use it. `multimodal.load()` returns one."""

import html

import torch

import multimodal.tasks as tasks
from multimodal.models import cast


class Model(tasks.TaskModel):
    """Classify, embed, search, caption and generate with one network.

    network: put into eval mode. inputs: the preprocessors by modality ("image", "text", ...).
    card: what is known of the model: data, figures, terms.

    Wherever a method takes `images`, it takes one image: a path, bytes, an open file, a PIL image, an array [H, W, 3]
    or [H, W], a tensor [3, H, W]; or many: an iterable of those, a tensor [N, 3, H, W], a folder (with all its
    subfolders) or a glob such as "photos/*.jpg"; `preprocess.resolve` lists all kinds. One image gives one result;
    anything else gives a list of results, which is empty for an empty list. An unreadable image that was given by name
    or in a list raises `ImageError` with its name; in a folder or a glob it is skipped, listed in `.rejected` of the
    results, and counted in one warning. A model of another modality takes that modality in the same ways.

    As with PyTorch alone, a process forked after an inference in several threads hangs: start worker processes with
    `multiprocessing.get_context("spawn")`.

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

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> "Model":
        """Move the network, in place; returns the model itself. Learned scalars (logit_scale) keep float32 at least."""
        cast(self.network, dtype, device)
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
