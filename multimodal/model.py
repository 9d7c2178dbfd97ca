"""`Model`: a network with everything it takes to use it. `multimodal.load()` returns one.

N images, M texts, C classes, D dimensions of the shared space
"""

import hashlib
import html
import json
from collections.abc import Hashable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import multimodal.tasks as tasks
from multimodal.generation import Strategy
from multimodal.models import Answerer, DualEncoder, ImageCaptioner, Network
from multimodal.preprocess import ImageTransform, Tokenizer
from multimodal.tasks.classify import ClassNames, Templates

SMALL = 1 << 16  # values: a tensor so small is read to notice a change


class Model:
    """Classify, embed, search and caption pictures.

    Attributes: `network` (put into eval mode), `transform`, `tokenizer`, `name`, `card` (what is known of
    the model: data, figures, terms), `can` (a set of "classify", "search", "caption", "match", "answer"),
    `device`, `dtype`, `embed_dim`, `logit_scale`, `fingerprint`.

    Wherever a method takes `images`, it takes one picture: a path, bytes, a PIL image, an array [H, W, 3]
    or [H, W], a tensor [3, H, W]; or many: a list of those, a tensor [N, 3, H, W], a folder (with all its
    subfolders) or a glob such as "photos/*.jpg". One picture gives one result; anything else gives a list
    of results, which is empty for an empty list. A broken picture given by name or in a list raises
    `ImageError`, which names it; in a folder or a glob it is left out, named in `.rejected` of the results,
    and counted in one warning.

    >>> model = multimodal.load()  # doctest: +SKIP
    >>> model.classify("cat.jpg", ["cat", "dog"]).label  # doctest: +SKIP
    'cat'
    """

    def __init__(
        self,
        network: Network,
        transform: ImageTransform,
        tokenizer: Tokenizer,
        *,
        name: str = "unnamed",
        card: dict[str, Any] | None = None,
    ) -> None:
        self.network = network.eval()
        self.transform = transform
        self.tokenizer = tokenizer
        self.name = name
        self.card = {} if card is None else card
        self.class_cache: dict[Hashable, Tensor] = {}
        self._fingerprint: tuple[Hashable, str] | None = None  # of which weights, and what it is

    @property
    def dual(self) -> DualEncoder:
        """The part of the network that embeds."""
        if isinstance(self.network, ImageCaptioner | Answerer):
            raise ValueError(
                f"expected a model that can search, got {self.name!r}, which has no text encoder"
            )
        return self.network.dual

    @property
    def can(self) -> set[str]:
        """What the model can do: some of "classify", "search", "caption", "match", "answer"."""
        return set(self.network.can)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in; results are float32 whatever it is."""
        return next(self.network.parameters()).dtype

    @property
    def embed_dim(self) -> int:
        """D"""
        return self.dual.embed_dim

    @property
    def logit_scale(self) -> float:
        """The learned parameter, in log space: a cosine times exp(logit_scale) is a logit."""
        return float(self.dual.scale.detach().log())

    @property
    def parameters(self) -> int:
        """How many numbers were learned."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def fingerprint(self) -> str:
        """The sha256 of the embedding space: towers, their weights, transform and tokenizer.

        Embeddings of models with equal fingerprints compare. The weights count as rounded to bfloat16, so
        that it does not depend on `dtype`; a decoder does not count.
        """
        version = self.weights_version()
        if self._fingerprint is None or self._fingerprint[0] != version:
            self._fingerprint = (version, self._hash_space())
        return self._fingerprint[1]

    def _hash_space(self) -> str:
        dual = self.dual
        parts = [
            json.dumps(self.transform.to_dict(), sort_keys=True),
            self.tokenizer.fingerprint,
            *(repr(getattr(tower, "config", None)) for tower in (dual.image_encoder, dual.text_encoder)),
        ]
        digest = hashlib.sha256("\n".join(parts).encode())
        for name, tensor in sorted(dual.state_dict().items()):
            if name in ("logit_scale", "logit_bias"):  # they scale similarities and leave embeddings alone
                continue
            tensor = tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
            digest.update(f"{name} {list(tensor.shape)}\n".encode())
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def weights_version(self) -> Hashable:
        """Changes when the weights do, as in training: cached class embeddings are of no use then.

        PyTorch counts writes to a tensor, but not those of its fused optimizers; small tensors (norms,
        biases) are therefore looked at too.
        """
        tensors = [t.detach() for t in chain(self.network.parameters(), self.network.buffers())]
        counts = tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)
        sums = [t.float().sum() for t in tensors if t.numel() <= SMALL]
        return counts, float(torch.stack(sums).sum()) if sums else 0.0

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> "Model":
        """Move the network, in place; returns the model itself."""
        self.network.to(device=device, dtype=dtype)
        return self

    def classify(
        self,
        images: Any,
        class_names: ClassNames,
        templates: Templates = None,
        top_k: int | None = None,
        *,
        batch_size: int | None = None,
    ) -> Any:
        """Say which of `class_names` each picture shows, without training: zero-shot.

        images: one or many, see `Model`.
        class_names: a list, or `{name: [synonyms]}`; a class is the mean of its name and its synonyms.
        templates: format strings with one `{}` each, over which a class is averaged too; None is a sensible
            set, "imagenet" the 80 of CLIP (as open_clip has them).
        top_k: keep only so many scores; they stay probabilities among all classes. None keeps all, and they
            sum to 1.
        batch_size: pictures in one pass of the network; None is a sensible number.

        Returns a `Classification` (`.label .score .scores .image`), or `Results` of them. The embeddings of
        the classes are computed once and kept for the next call. Raises ValueError for no class, a class
        that is twice there, empty or not a str, and for a template without exactly one `{}`.

        >>> model.classify("cat.jpg", ["cat", "dog"])  # doctest: +SKIP
        >>> model.classify("photos/", {"dog": ["puppy"], "cat": ["kitten"]}, templates=["a photo of a {}"])
        ... # doctest: +SKIP
        """
        return tasks.classify(self, images, class_names, templates, top_k, batch_size)

    def class_embeddings(self, class_names: ClassNames, templates: Templates = None) -> Tensor:
        """One unit vector per class, float32 [C, D] on the CPU; arguments and errors as in `classify`."""
        return tasks.class_embeddings(self, class_names, templates)

    def embed_images(self, images: Any, batch_size: int | None = None) -> Tensor:
        """The embeddings of pictures: float32 [N, D] on the CPU, rows of unit length.

        images: one or many, see `Model`. One picture gives [1, D], an empty list [0, D]. Of a folder or glob
            only the readable pictures have a row; `tasks.embed_named_images` says which.
        batch_size: pictures in one pass of the network; None is a sensible number.

        >>> model.embed_images(["a.jpg", "b.jpg"]).shape  # doctest: +SKIP
        torch.Size([2, 512])
        """
        return tasks.embed_images(self, images, batch_size)

    def embed_texts(self, texts: str | Sequence[str]) -> Tensor:
        """The embeddings of texts: float32 [M, D] on the CPU, rows of unit length.

        One text gives [1, D], an empty list [0, D]. Texts longer than the model reads are cut, with a warning
        that counts them. Raises ValueError for anything that is not a str.
        """
        return tasks.embed_texts(self, texts)

    def similarity(self, images: Any, texts: str | Sequence[str]) -> Tensor:
        """The cosine of each picture with each text: float32 [N, M] on the CPU.

        >>> model.similarity(["cat.jpg", "dog.jpg"], ["a cat", "a dog"])  # doctest: +SKIP
        """
        return tasks.similarity(self, images, texts)

    def caption(
        self,
        images: Any,
        num_beams: int = 1,
        max_new_tokens: int | None = None,
        *,
        length_penalty: float | None = None,
        batch_size: int | None = None,
        strategy: Strategy | None = None,
    ) -> Any:
        """Write a sentence about each picture.

        images: one or many, see `Model`.
        num_beams: hypotheses followed at a time; 1 takes the likeliest token each time (greedy).
        max_new_tokens: a sentence is cut there; None is as long as can be, or 20 for BLIP as in transformers.
        length_penalty: beams are compared by log-probability / length ** length_penalty: the larger, the
            longer are the sentences; None is the model's own.
        batch_size: pictures in one pass of the network; None is a sensible number.

        Returns a `Caption` (`.text`, `.score`: mean log-probability per token, `.image`), or `Results` of
        them. Raises ValueError for a model without a decoder and for numbers below 1 or above what it can.

        >>> model.caption("cat.jpg").text  # doctest: +SKIP
        'a cat is sleeping on a couch.'
        """
        return tasks.caption(self, images, num_beams, max_new_tokens, length_penalty, batch_size, strategy)

    def match(self, images: Any, texts: str | Sequence[str], *, batch_size: int | None = None) -> Any:
        """Say whether a text is about a picture, by a network that looks at both (BLIP's matching head).

        images, texts: one picture with one text gives a `Match` (`.score`: the probability, `.text`, `.image`);
            one picture with many texts, many pictures with one text, or as many of each, two by two, give
            `Results` of them. Raises ValueError for a model that cannot match.
        """
        return tasks.match(self, images, texts, batch_size)

    def answer(
        self,
        images: Any,
        questions: str | Sequence[str],
        num_beams: int = 1,
        max_new_tokens: int | None = None,
        *,
        batch_size: int | None = None,
        strategy: Strategy | None = None,
    ) -> Any:
        """Answer a question about a picture: an `Answer` (`.text`, `.score`, `.question`, `.image`).

        Pictures and questions go together as in `match`, the rest is as in `caption`.
        """
        return tasks.answer(self, images, questions, num_beams, max_new_tokens, batch_size, strategy)

    def index(self, folder: str | Path, path: str | Path, *, batch_size: int | None = None) -> tasks.Index:
        """Make the pictures of a folder searchable: one SQLite file at `path`.

        folder: read with all its subfolders.
        path: made where it is missing. Where it is there, only new and changed pictures are embedded, and
            vanished ones are dropped. Paths in it are relative to the folder: where the folder has moved,
            calling this again with its new place keeps all vectors.

        Returns an open `Index`: `index.search(query, k)`, `index.changes`, `index.rejected`. Killed at any
        moment the file reopens as before or after the batch it was at. Raises FileNotFoundError for a
        missing folder, ValueError where `path` is something else, the index of another folder that still
        exists, or was made by a model with another embedding space.

        >>> index = model.index("photos/", path="photos.db")  # doctest: +SKIP
        >>> index.search("a dog on a beach", k=5)  # doctest: +SKIP
        """
        return tasks.Index.build(self, folder, path, batch_size)

    # How it shows itself

    def _facts(self) -> dict[str, str]:
        return {
            "can": ", ".join(sorted(self.can)),
            "parameters": f"{self.parameters / 1e6:.1f} M",
            "images": f"{self.transform.image_size} px",
            **({"embeddings": f"{self.embed_dim} dimensions"} if "search" in self.can else {}),
            "runs on": f"{self.device}, {str(self.dtype).removeprefix('torch.')}",
        }

    def __repr__(self) -> str:
        return (
            f"Model({self.name!r}: "
            + "; ".join(f"{key} {value}" for key, value in self._facts().items())
            + ")"
        )

    def _repr_html_(self) -> str:
        short = {key: value for key, value in self.card.items() if isinstance(value, str | int | float)}
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(key)}</th>"
            f"<td style='text-align:left'>{html.escape(str(value))}</td></tr>"
            for key, value in (self._facts() | short).items()
        )
        return f"<table><caption><b>{html.escape(self.name)}</b></caption>{rows}</table>"
