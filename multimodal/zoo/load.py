"""`load`: one door to every model."""

from pathlib import Path

import torch

from multimodal.model import Model
from multimodal.preprocess.tokenizers.definition import MAX_BYTES as MAX_VOCABULARY
from multimodal.zoo.assemble import assemble, refusing
from multimodal.zoo.catalogue import SHIPPED
from multimodal.zoo.device import choose_device, fast_dtype
from multimodal.zoo.folder import open_own
from multimodal.zoo.formats import salesforce
from multimodal.zoo.golden import verify as check_golden
from multimodal.zoo.hub import CONFIGS, OTHERS, PREFIX, Located, is_tag, locate
from multimodal.zoo.opening import (
    TRANSFORMERS_CONFIG,
    Foreign,
    open_folder,
    open_open_clip,
    open_salesforce,
    read_json,
    with_positions,
)
from multimodal.zoo.weights import OPEN_CLIP_CONFIG, read_weights

DEFAULT = "small"
MAX_SETTINGS = 4_000_000  # bytes of a JSON file: golden vectors and cards are the longest
Opened = tuple[Foreign, str]  # and the sha256 of its weights


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
        ("hf-hub:org/name" or "org/name"), a folder (a run's, open_clip's or that of transformers), an original
        BLIP file, or with `weights` an architecture of open_clip. Folders and files never touch the network.
    weights: the file with the weights of the architecture `name`. It says nothing of pictures, which are then
        normalised as open_clip does it for such a file, as OpenAI's CLIP; a folder or a tag says how.
    tokenizer: the folder of a tokenizer that does not lie beside the weights.
    device: chosen by itself where None; dtype: what the network computes in; None is bfloat16 where that is
        several times as fast (CUDA; a CPU with AMX or AVX512-BF16) and float32 elsewhere.
    image_size, interpolate_positions: pictures of another size, for which positions lie between learned ones.
    verify: compute the golden vectors in the folder again, and refuse a model that no longer gives them.

    Raises FileNotFoundError where there is no such model, and ValueError where a checkpoint contradicts itself
    or its name: the activation, the tokenizer, the size of pictures, the hash.

    >>> model = load()
    >>> model.classify("cat.jpg", ["cat", "dog"]).label  # doctest: +SKIP
    'cat'
    """
    chosen = choose_device(device)
    dtype = fast_dtype(chosen) if dtype is None else dtype
    name = DEFAULT if name is None else str(name)
    opened, sha256 = _open(name, weights, tokenizer)
    with refusing(name):
        opened = with_positions(opened, image_size, interpolate_positions)
    model = assemble(opened, sha256, chosen, dtype)
    if verify:
        check_golden(model)
    return model


def _open(name: str, weights: str | Path | None, tokenizer: str | Path | None) -> Opened:
    """The checkpoint behind a name, and the sha256 of its weights."""
    path = Path(name)
    if weights is not None:
        if not Path(weights).exists():
            raise FileNotFoundError(f"weights: expected a file, got {weights}, which is not there")
        return _of_architecture(name, Located(Path(weights), name), tokenizer)
    if name in SHIPPED or path.is_dir():
        return _in_folder(SHIPPED.get(name, path), tokenizer)
    if path.is_file():
        return _in_file(path, tokenizer)
    inside = name.removeprefix(PREFIX)
    if not is_tag(name) and (inside.count("/") != 1 or inside.startswith((".", "~", "/"))):
        raise FileNotFoundError(
            f"model: expected a folder, a file, one of {sorted(SHIPPED)}, 'ARCHITECTURE:TAG' of open_clip or "
            f"'org/name' of a hub, got {name!r}; `multimodal models` lists names"
        )
    found = locate(name)
    try:
        return _located(name, found, tokenizer)
    except FileNotFoundError:  # the cache lacks what another program had no use for
        return _located(name, locate(name, fetch=True), tokenizer)


def _located(name: str, found: Located, tokenizer: str | Path | None) -> Opened:
    if found.architecture is None:
        return _in_folder(found.weights, tokenizer)
    return _of_architecture(name, found, tokenizer)


def _in_folder(folder: Path, tokenizer: str | Path | None) -> Opened:
    for file in (*CONFIGS, *OTHERS):
        if (folder / file).is_file() and (folder / file).stat().st_size > _most(file):
            got = (folder / file).stat().st_size
            raise ValueError(f"{folder / file}: expected at most {_most(file)} bytes, got {got}")
    with refusing(str(folder)):
        if (folder / OPEN_CLIP_CONFIG).is_file():
            return _with_hash(open_folder(folder, tokenizer))
        if tokenizer is not None:
            raise ValueError(f"tokenizer: expected None, as the folder has its own, got {tokenizer}")
        if not is_foreign(folder):
            return open_own(folder)
        return _with_hash(open_folder(folder))


def is_foreign(folder: Path) -> bool:
    """Whether a folder has the config of transformers."""
    table = read_json(folder / TRANSFORMERS_CONFIG, {})
    return "format" not in table and table.get("model_type") is not None


def _most(file: str) -> int:
    """Bytes of a file: a vocabulary is long, and its reader knows how long; settings are not."""
    return (
        MAX_VOCABULARY
        if file in ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt")
        else MAX_SETTINGS
    )


def _in_file(path: Path, tokenizer: str | Path | None) -> Opened:
    state = read_weights(path)
    with refusing(str(path)):
        if not salesforce.recognised(state):
            raise ValueError(
                f"{path}: expected an original BLIP file, or the name of an architecture of open_clip with "
                f"weights={str(path)!r}, got a state dict with {sorted(state)[:3]}"
            )
        return _with_hash(open_salesforce(path, state, None if tokenizer is None else Path(tokenizer)))


def _of_architecture(name: str, found: Located, tokenizer: str | Path | None) -> Opened:
    import open_clip

    table = open_clip.get_model_config(found.architecture)
    if table is None:
        raise FileNotFoundError(f"model: expected an architecture of open_clip, got {found.architecture!r}")
    with refusing(name):
        return _with_hash(open_open_clip(name, found.weights, table, found.preprocess, tokenizer))


def _with_hash(foreign: Foreign) -> Opened:
    return foreign, foreign.card["weights"]["sha256"]
