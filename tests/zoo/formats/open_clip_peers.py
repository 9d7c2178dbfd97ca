"""Models of open_clip with random weights, and folders with them as it saves them."""

import copy
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from open_clip.model import set_model_preprocess_cfg
from open_clip.push_to_hf_hub import save_for_hf
from open_clip.transform import PreprocessCfg
from torch import nn

from multimodal.zoo.formats.open_clip import HF_TOWERS
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


# Image towers of timm -> smaller ones of the same kind; names that end with 64 are registered below
TIMM = {
    "convnext_base": "test_convnext",
    "fastvit_mci1": "fastvit_t8",
    "eva02_base_patch16_clip_224": "eva02_test_patch16_clip_64",
    "vit_pe_core_tiny_patch16_384": "vit_pe_core_test_patch16_64",
    "vit_base_patch16_siglip_224": "vit_test_patch16_siglip_64",
}
# The fields by which text towers of transformers become small
HF_FIELDS = {
    "roberta": {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "num_hidden_layers": 2},
    "m2m_100": {
        **{"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96},
        **{"encoder_attention_heads": 2, "decoder_attention_heads": 2},
    },
    "mt5": {"d_model": 64, "d_kv": 32, "d_ff": 96, "num_heads": 2, "num_layers": 2},
}
HF_FIELDS["xlm-roberta"] = HF_FIELDS["roberta"]
SIGLIP_VIT = (64, 2, 2, 4.0)  # width, layers, heads, mlp_ratio


def register_small(large: str, name: str) -> None:
    """A smaller version of a ViT of timm under a name of its own."""
    width, layers, heads, _ = SIGLIP_VIT
    shape = {"img_size": 64, "embed_dim": width, "depth": layers, "num_heads": heads}
    build = timm.models.model_entrypoint(large)

    def build_small(pretrained: bool = False, **options: Any) -> nn.Module:
        return build(pretrained, **shape, **options)

    build_small.__name__ = name
    timm.models.register_model(build_small)


for large, name in TIMM.items():
    if name.endswith("_64"):
        register_small(large, name)


def shrink(table: dict[str, Any], layers: int = 2) -> dict[str, Any]:
    """A model config with fewer and narrower layers and smaller images, the same in everything else."""
    table = copy.deepcopy(table) | {"embed_dim": 64}
    for key, width, heads in (("vision_cfg", 128, None), ("text_cfg", 64, 2), ("multimodal_cfg", 64, 2)):
        part = table.get(key, {})
        if "layers" in part and isinstance(part["layers"], list):  # a ResNet
            part |= {"layers": [1] * 4, "width": 8, "head_width": 32}
        elif "layers" in part:
            part |= {"layers": layers, "width": width} | ({"heads": heads} if heads else {})
    vision = table["vision_cfg"]
    name = vision.get("timm_model_name", "")
    if name:
        vision["timm_model_name"] = TIMM.get(name, name)
    vision["image_size"] = {14: 56, 16: 64, 32: 96}[vision.get("patch_size") or 16]
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
    set_model_preprocess_cfg(peer, asdict(PreprocessCfg()))  # from which its folders get mean and std
    return peer


def save_tower(name: str, folder: Path, **changes: Any) -> Path:
    """The config.json of the text tower `name` of transformers, as it saves it."""
    from transformers import AutoConfig

    values = HF_TOWERS[name] | changes
    AutoConfig.for_model(**values).save_pretrained(folder)
    return folder


@torch.no_grad()
def spread(peer: nn.Module) -> nn.Module:
    """Random weights, norms and biases included, with which different images give different features."""
    for module in peer.visual.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=2 * module.in_features**-0.5)
    for parameter in peer.parameters():
        if parameter.ndim < 2:
            parameter.add_(0.1 * torch.randn_like(parameter))
    if hasattr(peer, "text_decoder"):  # made with torch.empty
        peer.text_decoder.text_projection.normal_(0, 0.05)
    norms = [module for module in peer.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:  # statistics of some images; with the initial ones, all images would be alike
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
