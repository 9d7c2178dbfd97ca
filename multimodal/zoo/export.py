"""Checkpoints as folders: downloaded as they are, or converted to the format of this package."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from multimodal.files import atomic_write, local_path, write_text
from multimodal.zoo.hub import CONFIGS, OTHER_FILES, locate
from multimodal.zoo.load import load
from multimodal.zoo.save import save_folder
from multimodal.zoo.weights import OPEN_CLIP_CONFIG, find_weights, shards_of


def download(name: str, to: str | Path) -> list[Path]:
    """Put the files of a checkpoint with a name, see `hub.locate`, into the new folder `to`, which `load` opens.

    Returns the files. The folder is created atomically. Raises ValueError if it exists already and FileNotFoundError
    if the checkpoint is not available.
    """
    source = locate(name)
    path = find_weights(source.path) if source.path.is_dir() else source.path
    beside = [path.parent / other for other in (*CONFIGS, *OTHER_FILES)]
    with new_folder(to) as folder:
        for file in (path, *shards_of(path), *beside):
            if file.is_file():
                with file.open("rb") as original, atomic_write(folder / file.name) as copy:
                    shutil.copyfileobj(original, copy)  # the file that a link in the cache leads to
        if source.format is not None and not (folder / OPEN_CLIP_CONFIG).exists():
            preprocess = {
                key: value for key, value in source.format.preprocess_cfg.items() if key not in ("url", "hf_hub")
            }
            table = {"model_cfg": source.format.model_cfg, "preprocess_cfg": preprocess}
            write_text(folder / OPEN_CLIP_CONFIG, json.dumps(table, indent=1) + "\n")
    return sorted(local_path(to).iterdir())


def convert(name: str | Path, to: str | Path, dtype: torch.dtype | None = None, **options: Any) -> Path:
    """Write the model that `load(name, **options)` gives as a folder of this package, with golden vectors.

    dtype: of the stored weights; None keeps float32. Raises the errors of `load`, and ValueError if `to` exists.
    """
    model = load(name, device="cpu", dtype=torch.float32, **options)
    card = {key: value for key, value in model.card.items() if key != "contract"}
    with new_folder(to) as folder:
        save_folder(folder, model.name, model.network, model.inputs, card, dtype)
    return local_path(to)


@contextmanager
def new_folder(to: str | Path) -> Iterator[Path]:
    """A new folder that becomes `to` when the block ends without an error."""
    to = local_path(to)
    if to.exists():
        raise ValueError(f"to: expected a new folder, got {to}, which exists")
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as temporary:
        folder = Path(temporary) / to.name
        folder.mkdir()
        yield folder
        os.replace(folder, to)
