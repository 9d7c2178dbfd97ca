"""Checkpoints taken elsewhere: as they are on a hub, or in the format of this package."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from multimodal.files import atomic_write, write_text
from multimodal.zoo.folder import save_folder
from multimodal.zoo.hub import CONFIGS, OTHERS, locate
from multimodal.zoo.load import load
from multimodal.zoo.weights import OPEN_CLIP_CONFIG, find_weights, shards_of


def download(name: str, to: str | Path) -> list[Path]:
    """Put the files of the checkpoint called `name`, see `hub.locate`, into the new folder `to`; `load` takes it.

    Returns the files. The folder is there with all of them or not at all. Raises ValueError where it is there
    already and FileNotFoundError where the checkpoint cannot be had.
    """
    found = locate(name)
    path = find_weights(found.weights) if found.weights.is_dir() else found.weights
    beside = [path.parent / other for other in (*CONFIGS, *OTHERS)]
    with whole_folder(to) as folder:
        for file in (path, *shards_of(path), *beside):
            if file.is_file():
                with file.open("rb") as source, atomic_write(folder / file.name) as copy:
                    shutil.copyfileobj(source, copy)  # of a cache's link, what it leads to
        if found.architecture is not None and not (folder / OPEN_CLIP_CONFIG).exists():
            import open_clip

            table = {
                "model_cfg": open_clip.get_model_config(found.architecture),
                "preprocess_cfg": {
                    key: value for key, value in found.preprocess.items() if key not in ("url", "hf_hub")
                },
            }
            write_text(folder / OPEN_CLIP_CONFIG, json.dumps(table, indent=1) + "\n")
    return sorted(Path(to).iterdir())


def convert(name: str | Path, to: str | Path, dtype: torch.dtype | None = None, **how: object) -> Path:
    """Write the model that `load(name, **how)` opens as a folder of this package, its golden vectors included.

    dtype: of the stored weights; None keeps float32. Raises what `load` does, and ValueError where `to` is there.
    """
    model = load(name, device="cpu", dtype=torch.float32, **how)  # type: ignore[arg-type]
    card = {key: value for key, value in model.card.items() if key != "contract"}  # made anew by `load`
    with whole_folder(to) as folder:
        save_folder(
            folder,
            model.name,
            model.network,
            model.network.config,
            model.transform,
            model.tokenizer,
            card,
            dtype,
        )
    return Path(to)


@contextmanager
def whole_folder(to: str | Path) -> Iterator[Path]:
    """A new folder that becomes `to` when the block ends without an error."""
    to = Path(to)
    if to.exists():
        raise ValueError(f"to: expected a new folder, got {to}, which is there")
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as temporary:
        folder = Path(temporary) / to.name
        folder.mkdir()
        yield folder
        os.replace(folder, to)
