"""Chinese-CLIP, single towers and the folders of sentence-transformers give the same results as their own libraries."""

import shutil

import pytest
import torch
import transformers

import multimodal
from multimodal.zoo import CheckpointError, save_folder
from tests.preprocess.texts.peers import PEERS
from tests.zoo.checkpoints import TOWER, letters, spread

from .test_transformers_clip import TEXT, VISION, clip, compare, load, logits
from .transformers_peers import TEXTS, draw, randomised, save, vocabulary

CHINESE = ["狮子在草地上睡觉。", "两只狗", "a cat 和 a dog", "狮", "狮子 " * 40]


def chinese_clip(folder, text=None, size=42, **options):
    text = TEXT | {"vocab_size": vocabulary("bert"), "max_position_embeddings": 52} | (text or {})
    config = transformers.ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=36, **options)
    peer = randomised(transformers.ChineseCLIPModel(config))
    square = {"height": size, "width": size}
    processor = transformers.ChineseCLIPImageProcessorPil(size={"shortest_edge": size}, crop_size=square)
    tokenizer = PEERS["bert"].make()
    save(folder, peer, tokenizer, processor)
    return peer, tokenizer, processor


@pytest.mark.parametrize("act", ["gelu", "gelu_new"])
def test_chinese_clip(act, tmp_path):
    peer, tokenizer, processor = chinese_clip(tmp_path, {"hidden_act": act})
    model = load(tmp_path)
    assert model.can == {"classify", "search"}
    compare(peer, tokenizer, processor, model, padding=True)
    images = list(draw(6))
    with torch.no_grad():
        tokens = tokenizer(CHINESE, return_tensors="pt", truncation=True, max_length=52, padding=True)
        pixels = processor(images, return_tensors="pt")["pixel_values"]
        expected = peer(pixel_values=pixels, **tokens)
    with pytest.warns(UserWarning, match="1 of 5"):
        texts = model.embed_texts(CHINESE)
    torch.testing.assert_close(texts, expected.text_embeds, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.embed_images(images), expected.image_embeds, rtol=0, atol=1e-5)


def test_chinese_clip_with_vocab_txt(tmp_path):
    parts = chinese_clip(tmp_path)
    vocab = sorted(PEERS["bert"].make().get_vocab().items(), key=lambda item: item[1])
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in vocab), encoding="utf-8")
    compare(*parts, load(tmp_path), padding=True)


def test_a_chinese_clip_is_saved_and_loaded(tmp_path):
    peer, *_ = chinese_clip(tmp_path / "theirs")
    peer.half().save_pretrained(tmp_path / "theirs")
    first = load(tmp_path / "theirs")
    save_folder(tmp_path / "ours", "ours", first.network, first.inputs, {}, dtype=None)
    images = list(draw(2))
    torch.testing.assert_close(logits(load(tmp_path / "ours"), images, TEXTS), logits(first, images, TEXTS))


CLIP = {"image_size": 32, "patch_size": 16, "projection_dim": 16}
LETTERS = {"vocab_size": 514, "max_position_embeddings": 64, "bos_token_id": 512, "eos_token_id": 513}
TOWERS = {
    "clip, image": ("CLIPVisionModelWithProjection", "CLIPVisionConfig", TOWER | CLIP, "image_embeds"),
    "clip, text": (
        "CLIPTextModelWithProjection",
        "CLIPTextConfig",
        TOWER | LETTERS | {"projection_dim": 16},
        "text_embeds",
    ),
    "siglip, image": (
        "SiglipVisionModel",
        "SiglipVisionConfig",
        TOWER | {"image_size": 32, "patch_size": 16},
        "pooler_output",
    ),
    "siglip, text": (
        "SiglipTextModel",
        "SiglipTextConfig",
        TOWER | {"vocab_size": vocabulary("t5"), "max_position_embeddings": 64},
        "pooler_output",
    ),
}


def tower(folder, name):
    model, config, fields, output = TOWERS[name]
    peer = spread(getattr(transformers, model)(getattr(transformers, config)(**fields)))
    peer.save_pretrained(folder)
    siglip = name.startswith("siglip")
    if name.endswith("text"):
        tokenizer = PEERS["t5"].make() if siglip else letters()
        tokenizer.model_input_names = ["input_ids"] if siglip else ["input_ids", "attention_mask"]
        tokenizer.save_pretrained(folder)
        padding = {"padding": "max_length", "max_length": 64} if siglip else {"padding": True}
        inputs = tokenizer(TEXTS, return_tensors="pt", **padding)
    else:
        kind = transformers.SiglipImageProcessorPil if siglip else transformers.CLIPImageProcessorPil
        square = {"height": 32, "width": 32}
        processor = kind(size=square) if siglip else kind(size={"shortest_edge": 32}, crop_size=square)
        processor.save_pretrained(folder)
        inputs = processor(list(draw(4)), return_tensors="pt")
    with torch.no_grad():
        return torch.nn.functional.normalize(peer(**inputs)[output], dim=-1)


@pytest.mark.parametrize("name", TOWERS)
def test_one_tower_embeds_its_modality(name, tmp_path):
    expected = tower(tmp_path / "theirs", name)
    model = load(tmp_path / "theirs")
    assert model.can == set()
    if name.endswith("text"):
        found = model.embed_texts(TEXTS)
        with pytest.raises(ValueError, match=r"modality: expected one of \['text'\], got 'image'"):
            model.embed_images(list(draw(1)))
    else:
        found = model.embed_images(list(draw(4)))
        assert torch.equal(model.embed(list(draw(4))), found)
        with pytest.raises(ValueError, match="expected one that reads text"):
            model.embed_texts(TEXTS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    multimodal.zoo.convert(tmp_path / "theirs", tmp_path / "ours")
    load(tmp_path / "ours", verify=True)
    with pytest.raises(ValueError, match="expected one that can classify"):
        model.classify(list(draw(1)), ["cat", "dog"])


def test_a_tower_without_a_projection_is_refused(tmp_path):
    config = transformers.CLIPVisionConfig(**TOWER, **CLIP)
    transformers.CLIPVisionModel(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"missing \['projections.image.weight'\]"):
        load(tmp_path)


def test_folders_of_sentence_transformers(tmp_path):
    parts = clip(tmp_path / "mine" / "0_CLIPModel")
    (tmp_path / "mine" / "modules.json").write_text("[]")
    model = load(tmp_path / "mine")
    assert model.name == "mine"
    compare(*parts, model, padding=True)
    multimodal.zoo.convert(tmp_path / "mine", tmp_path / "ours")
    compare(*parts, load(tmp_path / "ours"), padding=True)
    (tmp_path / "mine" / "1_Normalize").mkdir()
    load(tmp_path / "mine")
    shutil.move(tmp_path / "mine" / "1_Normalize", tmp_path / "mine" / "1_Dense")
    with pytest.raises(CheckpointError, match=r"expected the modules .*, got \['0_CLIPModel', '1_Dense'\]"):
        load(tmp_path / "mine")
