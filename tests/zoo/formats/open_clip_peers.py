"""Models of open_clip at random weights, and folders with them as it saves them."""

import copy
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import set_model_preprocess_cfg
from open_clip.push_to_hf_hub import save_for_hf
from open_clip.transform import PreprocessCfg
from torch import nn

from multimodal.zoo.formats.hf_towers import TOWERS
from tests.preprocess.texts.peers import PEERS

logging.getLogger("timm").setLevel(logging.ERROR)
# hf_tokenizer_name -> the small tokenizer of its kind
TOKENIZERS = {
    "SigLIP2": "siglip2",
    "SigLIP": "t5",
    "roberta": "roberta",
    "xlm-v": "roberta",
    "mt5": "siglip2",
    "nllb": "roberta",
    "bert": "bert",
}


def cut(table: dict[str, Any], layers: int = 2) -> dict[str, Any]:
    """A model config with fewer layers, the same in all else."""
    table = copy.deepcopy(table)
    for key in ("vision_cfg", "text_cfg", "multimodal_cfg"):
        part = table.get(key, {})
        if "layers" in part:
            part["layers"] = [1] * 4 if isinstance(part["layers"], list) else layers
    return table


def tokenizer_of(table: dict[str, Any]) -> Any:
    """A tokenizer of transformers of the kind that the config names."""
    name = table["text_cfg"].get("hf_tokenizer_name", "clip")
    kind = next((kind for part, kind in TOKENIZERS.items() if part in name), "clip")
    return PEERS[kind].make()


def build_peer(table: dict[str, Any], folder: Path | None = None) -> nn.Module:
    """open_clip's model of a config, as its `create_model` builds it.

    folder: with the config.json of a text tower from transformers, which open_clip otherwise asks a hub for.
    """
    table = copy.deepcopy(table)
    text = table["text_cfg"]
    custom = table.pop("custom_text", False) or "hf_model_name" in text
    if "hf_model_name" in text:
        text |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
    if "timm_model_name" in table["vision_cfg"]:
        table["vision_cfg"]["timm_model_pretrained"] = False
    kind = open_clip.CLIP
    if custom:
        kind = open_clip.CoCa if "multimodal_cfg" in table else open_clip.CustomTextCLIP
    peer = kind(**table).eval()
    set_model_preprocess_cfg(peer, asdict(PreprocessCfg()))  # where its folders have mean and std from
    return peer


def save_tower(name: str, folder: Path, **changes: Any) -> Path:
    """The config.json of the text tower `name` of transformers, as it saves it."""
    from transformers import AutoConfig

    values = TOWERS[name] | changes
    AutoConfig.for_model(**values).save_pretrained(folder)
    return folder


@torch.no_grad()
def spread(peer: nn.Module) -> nn.Module:
    """Weights that are all random, norms and biases too, which begin as 1 and 0; pictures give what differs."""
    for module in peer.visual.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=2 * module.in_features**-0.5)
    for parameter in peer.parameters():
        if parameter.ndim < 2:
            parameter.add_(0.1 * torch.randn_like(parameter))
    if hasattr(peer, "text_decoder"):  # made with torch.empty
        peer.text_decoder.text_projection.normal_(0, 0.05)
    norms = [module for module in peer.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:  # statistics of some pictures, or all of them would look alike
        norm.train().momentum = 1.0
    if norms:
        size = peer.visual.image_size
        peer.visual(torch.randn(2, 3, *((size, size) if isinstance(size, int) else size)))
    return peer.eval()


def write_peer(peer: nn.Module, table: dict[str, Any], folder: Path) -> Path:
    """The folder that open_clip's `push_to_hf_hub` uploads."""
    for name, parameter in peer.named_parameters():
        assert parameter.is_contiguous(), name
    save_for_hf(peer, tokenizer_of(table), table, str(folder), safe_serialization=True)
    assert json.loads((folder / "open_clip_config.json").read_text())["model_cfg"] == table
    return folder
