"""`load`: from a name, a folder or a file to a model, by default on the fastest device and in its fast dtype."""

import os
from pathlib import Path

import torch

from multimodal.files import local_path
from multimodal.model import Model
from multimodal.zoo.build import build, with_positions
from multimodal.zoo.catalogue import SHIPPED
from multimodal.zoo.formats import Checkpoint, recognise
from multimodal.zoo.formats.open_clip import OpenClipFormat
from multimodal.zoo.golden import verify as check_golden
from multimodal.zoo.hub import Source, is_hub_name, locate
from multimodal.zoo.weights import wrap_errors

DEFAULT = "small"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load(
    name: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    tokenizer: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    image_size: int | None = None,
    interpolate_positions: bool = False,
    verify: bool = False,
) -> Model:
    """A model ready to use; without a name, the one in the package.

    name: one that `models()` lists ("small", "ViT-B-32:laion2b_s34b_b79k"), a repository of a hub
        ("hf-hub:org/name" or "org/name"), a folder (of a run, of open_clip or of transformers), an original BLIP
        file or, with `weights`, an architecture of open_clip. Folders and files never touch the network; `~` and
        file:// may begin their paths.
    weights: the file with the weights of the architecture `name`, or a folder with one such file. It says nothing about
        images, so they are normalised as by OpenAI's CLIP, which is open_clip's default for such files; a folder of
        open_clip or a tag says how. What a training script saved beside the weights is skipped.
    tokenizer: the folder of a tokenizer that is not beside the weights.
    device: by default CUDA, MPS or the CPU, whichever is available first.
    dtype: in which the network computes; by default bfloat16 if the device multiplies it several times as fast
        (CUDA; a CPU with AMX or AVX512-BF16), float32 elsewhere, see `fast_dtype`.
    image_size, interpolate_positions: read images of another size, with interpolated positions.
    verify: compute the golden vectors in the folder again, and refuse a model that no longer gives them.

    Raises FileNotFoundError if there is no such model, and ValueError if a checkpoint contradicts itself or its
    name: activation, tokenizer, image size, hash.

    >>> model = load()
    >>> model.classify("cat.jpg", ["cat", "dog"]).label  # doctest: +SKIP
    'cat'
    """
    chosen = choose_device(device)
    dtype = fast_dtype(chosen) if dtype is None else dtype
    name = DEFAULT if name is None else str(name)
    source = find(name, weights)
    with wrap_errors(f"{name}: could not open the checkpoint", OSError, ImportError, ValueError):
        try:
            checkpoint = open_source(source, tokenizer)
        except FileNotFoundError:
            if not source.cached:
                raise
            # Another program may have put only some of the files into the cache.
            checkpoint = open_source(locate(name, fetch=True), tokenizer)
        checkpoint = with_positions(checkpoint, image_size, interpolate_positions)
    model = build(checkpoint, chosen, dtype)
    if verify:
        check_golden(model)
    return model


def find(name: str, weights: str | Path | None = None) -> Source:
    """Where the checkpoint is. Raises FileNotFoundError."""
    if weights is not None:
        path = local_path(weights)
        if not path.exists():
            raise FileNotFoundError(f"weights: expected a file, got {weights}, which does not exist")
        return Source(path, OpenClipFormat.of_architecture(name, name))
    path = SHIPPED.get(name, local_path(name))
    if path.is_dir() or path.is_file():
        return Source(path)
    if not is_hub_name(name):
        raise FileNotFoundError(
            f"model: expected a folder, a file, one of {sorted(SHIPPED)}, 'ARCHITECTURE:TAG' of open_clip or "
            f"'org/name' of a hub, got {name!r}; `multimodal models` lists names"
        )
    return locate(name)


def open_source(source: Source, tokenizer: str | Path | None) -> Checkpoint:
    """The checkpoint in the format that the source names, or in one that recognises it."""
    format = source.format or recognise(source.path)
    return format.open(source.path, None if tokenizer is None else local_path(tokenizer))


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """`device` or, by default, the first that is available of CUDA, Apple's MPS and the CPU."""
    if device is not None:
        try:
            return torch.device(device)
        except RuntimeError as error:
            raise ValueError(f"device: expected 'cpu', 'cuda', 'cuda:0', 'mps', got {device!r}") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 if the device multiplies it several times as fast as float32, float32 otherwise.

    The environment variable MULTIMODAL_DTYPE ("float32" or "bfloat16") overrides this choice.
    """
    forced = os.environ.get("MULTIMODAL_DTYPE")
    if forced:
        if forced not in DTYPES:
            raise ValueError(f"MULTIMODAL_DTYPE: expected one of {sorted(DTYPES)}, got {forced!r}")
        return DTYPES[forced]
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and bfloat16_cpu()
    return torch.bfloat16 if fast else torch.float32


def bfloat16_cpu() -> bool:
    """Whether this processor has AMX or AVX512-BF16."""
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
