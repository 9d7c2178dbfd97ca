"""What every opened checkpoint comes to, and what all formats read alike."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from multimodal.encoders.image import ImageEncoderConfig, positions_for
from multimodal.models import NetworkConfig
from multimodal.preprocess import HFTokenizer, ImageTransform, Tokenizer
from multimodal.preprocess.tokenizers.definition import parse
from multimodal.zoo.weights import weights_sha256

TRANSFORMERS_CONFIG = "config.json"


@dataclass(frozen=True)
class Foreign:
    """A checkpoint with everything translated, not built yet."""

    name: str
    config: NetworkConfig
    weights: dict[str, Tensor]  # by our names
    transform: ImageTransform
    tokenizer: Tokenizer
    card: dict[str, Any]


def with_positions(foreign: Foreign, image_size: int | None, interpolate: bool) -> Foreign:
    """`foreign` for pictures of another size: that of its transform, or `image_size`.

    ValueError where that needs positions between the learned ones, unless `interpolate`.
    """
    image = foreign.config.image
    wanted = foreign.transform.image_size if image_size is None else image_size
    if not isinstance(image, ImageEncoderConfig):
        if wanted != image.image_size:
            raise ValueError(
                f"image_size: expected {image.image_size} for a tower that is not ours, got {wanted}"
            )
        return foreign
    keys = [name for name in foreign.weights if name.endswith("image_encoder.positions")]
    if not keys:  # which `put_weights` says
        return foreign
    positions = foreign.weights[keys[0]]  # [N, W]
    patches = round((len(positions) - image.has_class_token) ** 0.5)
    trained = image.image_size if patches == image.patches else patches * image.patch_size
    if wanted == trained == image.image_size:
        return foreign
    got = image.image_size if image_size is None and wanted == trained else wanted
    if got != trained and not interpolate:
        raise ValueError(
            f"image_size: expected {trained}, as the model was trained, got {got}; "
            "interpolate_positions=True lets it have another"
        )
    image = replace(image, image_size=wanted)
    positions = positions_for(positions, (image.patches, image.patches))
    return replace(
        foreign,
        config=replace(foreign.config, image=image),
        weights=foreign.weights | {keys[0]: positions},
        transform=replace(foreign.transform, image_size=wanted),
    )


def token_ids(definition: str, *tokens: str) -> list[int]:
    """The ids of tokens in a tokenizer.json. ValueError where it has none."""
    library = parse(definition)
    ids = [library.token_to_id(token) for token in tokens]
    missing = [token for token, number in zip(tokens, ids, strict=True) if number is None]
    if missing:
        raise ValueError(f"tokenizer: expected {list(tokens)} in its vocabulary, got none for {missing}")
    return [number for number in ids if number is not None]


def check_ends(tokenizer: HFTokenizer, before: tuple[int, ...], after: tuple[int, ...]) -> None:
    """ValueError where a tokenizer.json puts other ids around a text than the model was trained with."""
    if (tokenizer.prefix, tokenizer.suffix) != (before, after):
        raise ValueError(
            f"tokenizer: expected the ids {before} before a text and {after} after it, "
            f"got {tokenizer.prefix} and {tokenizer.suffix}"
        )


def vocabulary_size(definition: str) -> int:
    """How many tokens a tokenizer.json has, added ones among them."""
    from tokenizers import Tokenizer as Library

    return Library.from_str(definition).get_vocab_size()


def about(format: str, path: Path) -> dict[str, Any]:
    """What the card says of the origin."""
    weights = {"file": path.name, "sha256": weights_sha256(path)}
    return {"about": f"A checkpoint of {format}.", "weights": weights}


def read_json(path: Path, default: Any = None) -> dict[str, Any]:
    """A table of JSON; `default` where there is no such file. ValueError for anything else."""
    if not path.is_file():
        if default is None:
            raise FileNotFoundError(f"{path.parent}: expected {path.name}, got none")
        return default
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from error
    if not isinstance(table, dict):
        raise ValueError(f"{path}: expected a table, got {type(table).__name__}")
    return table
