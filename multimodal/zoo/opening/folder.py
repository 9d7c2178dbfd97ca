"""Folders of others, by what lies in them."""

from pathlib import Path

from multimodal.zoo.opening.foreign import TRANSFORMERS_CONFIG, Foreign, read_json
from multimodal.zoo.opening.open_clip import open_open_clip
from multimodal.zoo.opening.transformers import open_transformers
from multimodal.zoo.weights import OPEN_CLIP_CONFIG


def open_folder(folder: Path, tokenizer: str | Path | None = None) -> Foreign:
    """What open_clip or transformers has saved. ValueError where it is of neither kind.

    tokenizer: the folder with its files, for open_clip's; None: this one.
    """
    if (folder / OPEN_CLIP_CONFIG).is_file():
        table = read_json(folder / OPEN_CLIP_CONFIG)
        if not isinstance(table.get("model_cfg"), dict):
            raise ValueError(f"{folder / OPEN_CLIP_CONFIG}: expected a table model_cfg, got {sorted(table)}")
        preprocess = table.get("preprocess_cfg") or {}
        return open_open_clip(folder.name, folder, table["model_cfg"], preprocess, tokenizer)
    if not (folder / TRANSFORMERS_CONFIG).is_file():
        raise FileNotFoundError(
            f"{folder}: expected a model folder with {TRANSFORMERS_CONFIG} or {OPEN_CLIP_CONFIG}, got none"
        )
    table = read_json(folder / TRANSFORMERS_CONFIG)
    kind = table.get("model_type")
    if kind not in ("clip", "siglip", "blip"):
        raise ValueError(
            f"{folder / TRANSFORMERS_CONFIG}: expected the config of this package, or of a model of transformers "
            f"with model_type 'clip', 'siglip' or 'blip', got model_type {kind!r}"
        )
    return open_transformers(folder, table)
