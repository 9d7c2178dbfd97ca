"""Models have as many parameters as the list says."""

import json

import pytest
import torch
import transformers as hf

from multimodal.zoo import load
from multimodal.zoo.catalogue import SHIPPED, TABLE, models

LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "num_hidden_layers": 27}


def clip(patch_size, projection=512, text=None, vision=None):
    vision = {"patch_size": patch_size} | (vision or {})
    return hf.CLIPModel(hf.CLIPConfig(text_config=text or {}, vision_config=vision, projection_dim=projection))


def siglip(text, vision):
    text = {"bos_token_id": None, "eos_token_id": None} | text
    return hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config=vision))


def blip(kind, vision=None):
    vision = {"image_size": 384, "patch_size": 16} | (vision or {})
    text = {"vocab_size": 30524, "encoder_hidden_size": vision.get("hidden_size", 768)}
    return kind(hf.BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=256))


PEERS = {
    "openai/clip-vit-base-patch32": lambda: clip(32),
    "openai/clip-vit-base-patch16": lambda: clip(16),
    "openai/clip-vit-large-patch14": lambda: clip(14, 768, TEXT, LARGE),
    "google/siglip-base-patch16-224": lambda: siglip({}, {}),
    "google/siglip-so400m-patch14-384": lambda: siglip(SO400M, SO400M | {"patch_size": 14, "image_size": 384}),
    "Salesforce/blip-image-captioning-base": lambda: blip(hf.BlipForConditionalGeneration),
    "Salesforce/blip-image-captioning-large": lambda: blip(hf.BlipForConditionalGeneration, LARGE),
    "Salesforce/blip-itm-base-coco": lambda: blip(hf.BlipForImageTextRetrieval),
    "Salesforce/blip-itm-large-coco": lambda: blip(hf.BlipForImageTextRetrieval, LARGE),
    "Salesforce/blip-vqa-base": lambda: blip(hf.BlipForQuestionAnswering),
}


@pytest.mark.parametrize(("name", "parameters"), [(entry[0], entry[3]) for entry in TABLE["hub"]])
def test_parameters_of_models_on_the_hub(name, parameters):
    with torch.device("meta"):
        peer = PEERS[name]()
    # Our matcher has a logit_scale, which transformers drops.
    scale = isinstance(peer, hf.BlipForImageTextRetrieval)
    assert parameters == sum(parameter.numel() for parameter in peer.parameters()) + scale


def test_the_shipped_model_is_as_listed():
    [listed] = [each for each in models() if each.where == "in the package"]
    model = load(listed.name, device="cpu")
    assert (listed.num_parameters, set(listed.can)) == (model.num_parameters, model.can)
    assert json.loads((SHIPPED["small"] / "config.json").read_text())["card"]["contract"] == model.card["contract"]


def test_all_models_are_counted():
    assert all(each.num_parameters is not None for each in models())
    assert len({each.name for each in models()}) == len(models())
