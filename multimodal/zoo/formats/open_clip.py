"""open_clip: a folder with open_clip_config.json, or a file of weights for one of open_clip's architectures.

Towers that our encoders can express become ours; the others stay open_clip's own, see `encoders.open_clip`.
"""

import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multimodal.decoders import TextDecoderConfig
from multimodal.encoders import ENCODERS, ImageEncoderConfig, OpenClipImageConfig, OpenClipTextConfig, TextEncoderConfig
from multimodal.models import CoCaConfig, DualEncoderConfig
from multimodal.preprocess import ImageTransform
from multimodal.zoo.formats.format import CONFIG, FORMATS, Checkpoint, third_party
from multimodal.zoo.formats.hf_tokenizer import read_open_clip_tokenizer
from multimodal.zoo.formats.open_clip_names import convert_weights
from multimodal.zoo.weights import OPEN_CLIP_CONFIG, CheckpointError, find_weights, read_json, read_weights

RESIZES = {"shortest": "crop", "squash": "squash", "longest": "pad"}  # resize_mode -> resize of `ImageTransform`
CLIP_VOCAB, CLIP_EOS = 49408, 49407
TABLE = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
# Keys of a tower's config that our encoders implement, or that have no effect after training
OUR_VISION, OUR_TEXT, SIGLIP_KEYS = (set(TABLE[key]) for key in ("our_vision", "our_text", "siglip_keys"))
TEXT_DEFAULTS = TABLE["text_defaults"]  # what a text_cfg or a multimodal_cfg leaves out
SIGLIP_VITS = TABLE["siglip_vits"]  # the ViTs of SigLIP in timm: width, layers, heads, mlp_ratio
HF_TOWERS: dict[str, dict[str, Any]] = TABLE["hf_towers"]  # configs by name, so that no hub is asked
HF_KINDS = ("bert", "m2m_100", "mt5", "roberta", "xlm-roberta")  # that open_clip supports, see its `hf_configs.py`


@dataclass(frozen=True)
class OpenClipFormat:
    """A folder that tells everything or, with a model config, a file (or a folder with one).

    name: of the checkpoint; None: the name of the folder. model_cfg: as `open_clip.get_model_config` gives it; None:
    the one in the folder. preprocess_cfg: what a tag says about images and about the activation.
    """

    name: str | None = None
    model_cfg: Mapping[str, Any] | None = None
    preprocess_cfg: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_architecture(
        cls, name: str, architecture: str, preprocess_cfg: Mapping[str, Any] | None = None
    ) -> "OpenClipFormat":
        """The format of weights for an architecture of open_clip. Raises FileNotFoundError for an unknown one."""
        import open_clip

        model_cfg = open_clip.get_model_config(architecture)
        if model_cfg is None:
            raise FileNotFoundError(f"model: expected an architecture of open_clip, got {architecture!r}")
        return cls(name, model_cfg, preprocess_cfg or {})

    def recognises(self, path: Path) -> bool:
        return (path / OPEN_CLIP_CONFIG).is_file()

    def open(self, path: Path, tokenizer: Path | None) -> Checkpoint:
        name, table, preprocess = self.name or path.name, self.model_cfg, self.preprocess_cfg
        if table is None:
            settings = read_json(path / OPEN_CLIP_CONFIG)
            table, preprocess = settings.get("model_cfg"), settings.get("preprocess_cfg") or {}
            if not isinstance(table, dict):
                raise CheckpointError(f"{path / OPEN_CLIP_CONFIG}: expected a table model_cfg, got {sorted(settings)}")
        check_activation(name, table, preprocess)
        file = find_weights(path) if path.is_dir() else path
        config = read_model(table, file.parent)
        inputs = {
            "image": read_transform(preprocess, config.encoders["image"].image_size),
            "text": read_open_clip_tokenizer(table["text_cfg"], file.parent, tokenizer, config.encoders["text"]),
        }
        state = read_weights(file)
        if "input_resolution" in state and not table.get("quick_gelu"):  # only OpenAI's files have it
            warnings.warn(
                f"activation: expected quick_gelu, as in OpenAI's models, got gelu in {name}; "
                "the architectures with -quickgelu in their names have it",
                stacklevel=5,
            )
        weights = convert_weights(state, config)
        return third_party("open_clip", name, file, config, weights, inputs)


def check_activation(name: str, table: Mapping[str, Any], preprocess: Mapping[str, Any]) -> None:
    """Raise CheckpointError if a tag was trained with another activation than its architecture has."""
    quick = table.get("quick_gelu", False)
    trained = preprocess.get("quick_gelu", quick)
    if trained != quick:
        expected, got = ("quick_gelu", "gelu") if trained else ("gelu", "quick_gelu")
        architecture, colon, tag = name.partition(":")
        other = architecture.removesuffix("-quickgelu") + ("-quickgelu" if trained else "")
        raise CheckpointError(
            f"activation: expected {expected}, with which {name} was trained, got {got}; "
            f"load {other + colon + tag!r} instead"
        )


def read_transform(preprocess: Mapping[str, Any], image_size: int) -> ImageTransform:
    """The transform of a preprocess_cfg, by default for images of the size that the model has."""
    size, mode = preprocess.get("size", image_size), preprocess.get("resize_mode", "shortest")
    if mode not in RESIZES:
        raise CheckpointError(f"resize_mode: expected one of {sorted(RESIZES)}, got {mode!r}")
    given = {key: preprocess[key] for key in ("mean", "std", "interpolation") if preprocess.get(key)}
    return ImageTransform(size if isinstance(size, int) else size[0], resize=RESIZES[mode], **given)


def read_model(table: Mapping[str, Any], folder: Path) -> DualEncoderConfig:
    """The model of a model_cfg. folder: may have the config.json of a text tower of transformers"""
    image, image_projection = read_image_tower(table)
    text, text_projection = read_text_tower(table, folder)
    common: dict[str, Any] = {
        "encoders": {"image": image, "text": text},
        "embed_dim": table["embed_dim"],
        "projections": {"image": image_projection, "text": text_projection},
        "logit_scale": table.get("init_logit_scale", math.log(1 / 0.07)),
        "logit_bias": table.get("init_logit_bias"),
    }
    if "multimodal_cfg" not in table:
        return DualEncoderConfig(**common)
    if (ENCODERS.kind_of(image), ENCODERS.kind_of(text)) != ("vit", "text"):
        raise CheckpointError(
            f"CoCa: expected towers that our encoders can express, got {table['vision_cfg']}, {table['text_cfg']}"
        )
    cfg = table["multimodal_cfg"]
    decoder = TextDecoderConfig(
        vocab_size=text.vocab_size,
        **{key: cfg.get(key, default) for key, default in TEXT_DEFAULTS.items()},
        activation=text.activation,
        tie_embeddings=False,
        cross_attention="after_block",
    )
    return CoCaConfig(**common, decoder=decoder, share_text_encoder=True)


def read_image_tower(table: Mapping[str, Any]) -> tuple[Any, str]:
    """The image encoder and the kind of its projection."""
    cfg, quick, embed_dim = table["vision_cfg"], table.get("quick_gelu", False), table["embed_dim"]
    siglip = read_siglip_vit(cfg)
    if siglip is not None:
        return siglip, "none"
    expressible = set(cfg) <= OUR_VISION and all(isinstance(cfg.get(key, 0), int) for key in ("layers", "image_size"))
    if not expressible:
        return OpenClipImageConfig(vision_cfg=dict(cfg), embed_dim=embed_dim, quick_gelu=quick), "none"
    width = cfg.get("width", 768)
    image = ImageEncoderConfig(
        image_size=cfg.get("image_size", 224),
        patch_size=cfg.get("patch_size", 16),
        width=width,
        layers=cfg.get("layers", 12),
        heads=width // cfg.get("head_width", 64),
        pooling="queries" if cfg.get("attentional_pool") else "token",
        mlp_ratio=float(cfg.get("mlp_ratio", 4.0)),
        activation="quick_gelu" if quick else "gelu",
        eps=1e-5,
        norm_input=True,
        queries=cfg.get("attn_pooler_queries", 256),
        query_heads=cfg.get("attn_pooler_heads", 8),
        query_width=embed_dim,
    )
    return image, "linear"


def read_siglip_vit(cfg: Mapping[str, Any]) -> ImageEncoderConfig | None:
    """The ViT of a SigLIP, which has a pooling head and no projection; None for any other tower."""
    found = re.fullmatch(r"vit_([a-z0-9]+)_patch(\d+)_siglip_(?:gap_)?\d+", str(cfg.get("timm_model_name")))
    if found is None or found[1] not in SIGLIP_VITS or not set(cfg) <= SIGLIP_KEYS:
        return None
    if (cfg.get("timm_pool"), cfg.get("timm_proj")) != ("map", "none"):
        return None
    width, layers, heads, mlp_ratio = SIGLIP_VITS[found[1]]
    size, patch = cfg.get("image_size", 224), int(found[2])
    return ImageEncoderConfig(
        image_size=size,
        patch_size=patch,
        width=width,
        layers=layers,
        heads=heads,
        pooling="map",
        mlp_ratio=mlp_ratio,
        crop_to_patches=size % patch != 0,
    )


def read_text_tower(table: Mapping[str, Any], folder: Path) -> tuple[Any, str]:
    """The text encoder and the kind of its projection."""
    cfg, quick, embed_dim = table["text_cfg"], table.get("quick_gelu", False), table["embed_dim"]
    vocab_size = cfg.get("vocab_size", CLIP_VOCAB)
    pooling, causal = cfg.get("pool_type", "argmax"), not cfg.get("no_causal_mask", False)
    if pooling == "argmax" and vocab_size == CLIP_VOCAB:  # the end token has the highest id
        pooling, eos_id = "eos", CLIP_EOS
    else:
        eos_id = cfg.get("eos_id", 2)
    if cfg.get("embed_cls"):
        pooling = "appended"
    known_pooling = pooling in ("eos", "appended") or (pooling == "last" and not causal)
    act, norm = cfg.get("act_kwargs") or {}, cfg.get("norm_kwargs") or {}
    if not (set(cfg) <= OUR_TEXT and known_pooling and set(act) <= {"approximate"} and set(norm) <= {"eps"}):
        hf_config = {}
        if cfg.get("hf_model_name"):
            hf_config = tower_config(cfg["hf_model_name"], read_json(folder / CONFIG, {}))
        config = OpenClipTextConfig(
            text_cfg=dict(cfg),
            embed_dim=embed_dim,
            vocab_size=hf_config.get("vocab_size", vocab_size),
            context_length=cfg.get("context_length", TEXT_DEFAULTS["context_length"]),
            eos_id=hf_config.get("eos_token_id", eos_id),
            quick_gelu=quick,
            hf_config=hf_config,
        )
        return config, "none"
    activation = {"none": "gelu", "tanh": "gelu_tanh"}[act.get("approximate", "none")]
    text = TextEncoderConfig(
        vocab_size=vocab_size,
        **{key: cfg.get(key, default) for key, default in TEXT_DEFAULTS.items()},
        activation="quick_gelu" if quick else activation,
        causal=causal,
        pooling=pooling,
        eos_id=eos_id,
        pad_id=cfg.get("pad_id", 0),
        attends_padding=not causal,
        eps=norm.get("eps", 1e-5),
    )
    return text, "affine" if cfg.get("proj_bias") else "linear"


def tower_config(name: str, beside: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a text tower of transformers: `beside`, the config.json of the folder, if it is one, or by `name`.

    Raises CheckpointError if there is neither.
    """
    if beside.get("model_type") in HF_KINDS:
        return dict(beside)
    if name not in HF_TOWERS:
        got = f"one of {beside['model_type']!r}" if beside.get("model_type") else "none"
        raise CheckpointError(f"text tower: expected the config.json of {name} beside the weights, got {got}")
    return HF_TOWERS[name]


FORMATS.register("open_clip", OpenClipFormat())
