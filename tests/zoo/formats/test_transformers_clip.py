"""CLIP and SigLIP of transformers with random weights, saved by transformers, give the same results here."""

import pytest
import torch
import transformers

import multimodal
from multimodal.encoders import ENCODERS
from multimodal.zoo.formats import transformers_clip
from multimodal.zoo.formats.transformers_folder import DEFAULTS
from tests.preprocess.texts.peers import PEERS

from .transformers_peers import TEXTS, draw, edit, randomised, save, vocabulary

# Widths of 3 heads, hidden widths that are no multiples of them; image and text differ in everything
VISION = {
    "hidden_size": 48,
    "intermediate_size": 100,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "image_size": 42,
    "patch_size": 14,
}
TEXT = {"hidden_size": 40, "intermediate_size": 70, "num_hidden_layers": 2, "num_attention_heads": 5}


def clip(folder, *, vision=None, text=None, **options):
    text = TEXT | {"vocab_size": 49408, "max_position_embeddings": 77} | (text or {})
    config = transformers.CLIPConfig(
        text_config=text, vision_config=VISION | (vision or {}), projection_dim=36, **options
    )
    peer = randomised(transformers.CLIPModel(config))
    size = {"shortest_edge": 42}
    processor = transformers.CLIPImageProcessorPil(size=size, crop_size={"height": 42, "width": 42})
    tokenizer = PEERS["clip"].make()
    save(folder, peer, tokenizer, processor)
    return peer, tokenizer, processor


def siglip(folder, kind, **options):
    text = TEXT | {"vocab_size": vocabulary(kind), "max_position_embeddings": 64, "projection_size": 48}
    peer = transformers.SiglipModel(transformers.SiglipConfig(text_config=text | options, vision_config=VISION))
    peer = randomised(peer)
    with torch.no_grad():
        peer.logit_scale.fill_(4.7)
        peer.logit_bias.fill_(-12.9)
    processor = transformers.SiglipImageProcessorPil(size={"height": 42, "width": 42})
    tokenizer = PEERS[kind].make()
    tokenizer.model_input_names = ["input_ids"]  # as on the hub: the network attends to padding
    save(folder, peer, tokenizer, processor)
    return peer, tokenizer, processor


def load(folder, **options):
    return multimodal.load(folder, device="cpu", dtype=torch.float32, **options)


def logits(model, images, texts):
    """From raw images and texts. [N, M]"""
    found = model.similarity(images, texts) * model.network.logit_scale.detach().exp()
    return found if model.network.logit_bias is None else found + model.network.logit_bias.detach()


def compare(peer, tokenizer, processor, model, **padding):
    images = list(draw(6))
    with torch.no_grad():
        tokens = tokenizer(TEXTS, return_tensors="pt", truncation=True, **padding)
        pixels = processor(images, return_tensors="pt")["pixel_values"]
        expected = peer(pixel_values=pixels, **tokens).logits_per_image
    found = logits(model, images, TEXTS)
    assert expected.std(0).min() > 0.05  # images and texts matter
    assert expected.std(1).min() > 0.05
    assert (found - expected).abs().max() < 1e-4
    kinds = {modality: ENCODERS.kind_of(encoder.config) for modality, encoder in model.network.encoders.items()}
    assert kinds == {"image": "vit", "text": "text"}


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_clip(act, tmp_path):
    part = {"hidden_act": act}
    parts = clip(tmp_path, vision=part, text=part)
    model = load(tmp_path)
    compare(*parts, model, padding=True)
    assert model.card["contract"]["image"]["activation"] == act


def test_an_early_clip(tmp_path):
    """Its config has a wrong end token, and two text configs."""
    parts = clip(tmp_path, text={"eos_token_id": 2, "bos_token_id": 0})
    compare(*parts, load(tmp_path), padding=True)
    text = {**TEXT, "vocab_size": 49408, "eos_token_id": 2}
    edit(tmp_path / "config.json", text_config={"hidden_size": 1}, text_config_dict=text)
    compare(*parts, load(tmp_path), padding=True)


def test_a_clip_with_a_processor_in_one_file(tmp_path):
    parts = clip(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    transformers.CLIPProcessor(parts[2], parts[1]).save_pretrained(tmp_path)
    assert not (tmp_path / "preprocessor_config.json").exists()
    compare(*parts, load(tmp_path), padding=True)


def test_siglip(tmp_path):
    parts = siglip(tmp_path, "t5")
    model = load(tmp_path)
    compare(*parts, model, padding="max_length", max_length=64)
    # Its own class, which cannot be imported without sentencepiece, first removes punctuation and capitals.
    edit(tmp_path / "tokenizer_config.json", tokenizer_class="SiglipTokenizer")
    cleaned = ["a cat", "two dogs on a beach far away", "ein löwe und ein käfer façade"]
    found = load(tmp_path).embed_texts(TEXTS)
    torch.testing.assert_close(found, model.embed_texts(cleaned), rtol=0, atol=1e-5)
    assert (found - model.embed_texts(TEXTS)).abs().max() > 1e-2


def test_siglip_2_with_a_fixed_size(tmp_path):
    """With the tokenizer of Gemma, under the class of SigLIP 2 or, as on the hub, of Gemma."""
    parts = siglip(tmp_path, "siglip2")
    compare(*parts, load(tmp_path), padding="max_length", max_length=64)
    edit(
        tmp_path / "tokenizer_config.json",
        tokenizer_class="GemmaTokenizer",
        add_bos_token=False,
        add_eos_token=True,
        padding_side=None,
    )
    compare(*parts, load(tmp_path), padding="max_length", max_length=64)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (DEFAULTS["clip"]["vision_config"], transformers.CLIPVisionConfig),
        (DEFAULTS["clip"]["text_config"], transformers.CLIPTextConfig),
        (DEFAULTS["siglip"]["vision_config"], transformers.SiglipVisionConfig),
        (DEFAULTS["siglip"]["text_config"], transformers.SiglipTextConfig),
        (DEFAULTS["blip"]["vision_config"], transformers.BlipVisionConfig),
        (DEFAULTS["blip"]["text_config"], transformers.BlipTextConfig),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_defaults_match_transformers(ours, theirs):
    defaults = theirs()
    assert ours == {key: getattr(defaults, key) for key in ours}
    # Other keys that do not change what the network computes
    known = {
        *ours,
        *("num_channels", "vision_use_head", "projection_dim", "projection_size", "encoder_hidden_size"),
        *("attention_dropout", "attention_probs_dropout_prob", "hidden_dropout_prob", "label_smoothing"),
        *("initializer_range", "initializer_factor", "bos_token_id", "eos_token_id"),
        *("is_decoder", "use_cache", "tie_word_embeddings"),
    }
    own = {key for key in theirs.__annotations__ if key not in ("model_type", "base_config_key")}
    assert own <= known


def test_defaults_of_the_whole_model():
    assert transformers.CLIPConfig().projection_dim == 512
    assert transformers.BlipConfig().image_text_hidden_size == 256
    table = {"model_type": "clip", "vision_config": {}, "text_config": {}}
    config = transformers_clip.read_model(table)
    assert config.embed_dim == 512
    assert {modality: encoder.width for modality, encoder in config.encoders.items()} == {"image": 768, "text": 512}


def test_training_options_have_no_effect(tmp_path):
    clip(tmp_path)
    before = load(tmp_path).embed_texts(TEXTS)
    edit(tmp_path / "config.json", attention_dropout=0.5, initializer_factor=3.0)
    assert torch.equal(load(tmp_path).embed_texts(TEXTS), before)
