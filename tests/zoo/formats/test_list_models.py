"""Names and shapes of every architecture of open_clip match our network, on the meta device."""

import open_clip
import pytest
import torch

from multimodal.models import build_model
from multimodal.zoo.build import stored
from multimodal.zoo.catalogue import TABLE
from multimodal.zoo.formats.open_clip import HF_TOWERS, read_model
from multimodal.zoo.formats.open_clip_names import convert_weights
from tests.zoo.formats.open_clip_peers import build_peer, save_tower

# Architectures that do not load, and why
OTHERS = {
    "coca_roberta-ViT-B-32": "our decoder cannot share layers with a text tower of transformers; it was never trained"
}
# One of each kind; the others run nightly
FEW = (
    *("RN50", "ViT-B-32-quickgelu", "ViT-B-16-SigLIP2", "ViT-SO400M-14-SigLIP-384", "EVA02-B-16", "convnext_base"),
    *("MobileCLIP2-S0", "ViTamin-S-LTT", "PE-Core-S-16-384", "ViT-H-14-CLIPA-336", "coca_base", "roberta-ViT-B-32"),
    *("nllb-clip-base-siglip", "ViT-bigG-14-worldwide-378", "swin_base_patch4_window7_224"),
)
# Millions of parameters in open_clip's docs/model_profile.csv, which builds towers of transformers from the hub
PROFILE = {
    "roberta-ViT-B-32": 212.72,
    "xlm-roberta-base-ViT-B-32": 366.12,
    "xlm-roberta-large-ViT-H-14": 1193.01,
    "mt5-base-ViT-B-32": 365.71,
    "mt5-xl-ViT-H-14": 2306.75,
    "nllb-clip-base": 501.89,
    "nllb-clip-base-siglip": 507.47,
    "nllb-clip-large": 1399.22,
    "nllb-clip-large-siglip": 1195.5,
    "ViT-B-16-SigLIP-384": 203.45,
    "coca_ViT-L-14": 638.45,
}
NAMES = [
    pytest.param(name, marks=() if name in FEW else pytest.mark.nightly)
    for name in open_clip.list_models()
    if name not in OTHERS
]


def total(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_names_shapes_and_count_match(name, tmp_path):
    table = open_clip.get_model_config(name)
    tower = table["text_cfg"].get("hf_model_name")
    folder = None if tower is None else save_tower(tower, tmp_path)
    with torch.device("meta"):
        peer = build_peer(table, folder)
        config = read_model(table, tmp_path / "no config.json here")
        network = build_model(config)
    weights = convert_weights(peer.state_dict(), config)
    expected = {key: tensor.shape for key, tensor in stored(network).items()}
    assert {key: tensor.shape for key, tensor in weights.items()} == expected
    assert total(network) == total(peer) == TABLE["open_clip_parameters"][name]
    assert round(total(network) / 1e6, 2) == PROFILE.get(name, round(total(network) / 1e6, 2))
    size = peer.visual.image_size
    assert config.encoders["image"].image_size == (size if isinstance(size, int) else size[0])


def test_every_architecture_is_accounted_for():
    assert set(TABLE["open_clip_parameters"]) | set(OTHERS) == set(open_clip.list_models())
    assert {*FEW, *PROFILE} <= set(open_clip.list_models())
    towers = {open_clip.get_model_config(name)["text_cfg"].get("hf_model_name") for name in open_clip.list_models()}
    assert towers == {None, *HF_TOWERS}


@pytest.mark.parametrize("name", OTHERS)
def test_the_others_are_refused(name, tmp_path):
    assert not open_clip.list_pretrained_tags_by_model(name)
    table = open_clip.get_model_config(name)
    with pytest.raises(ValueError, match="CoCa: expected towers that our encoders can express"):
        read_model(table, tmp_path)
