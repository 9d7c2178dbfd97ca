"""Everything that a folder of transformers says is either done or refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers

import multimodal
from multimodal.preprocess import HFTokenizer
from tests.preprocess.texts.peers import PEERS

from .blip import config as blip_config
from .blip import make
from .transformers_peers import draw, edit, randomised, save, vocabulary

VIT = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = VIT | {"image_size": 32, "patch_size": 16}


def load(folder, **options):
    return multimodal.load(folder, device="cpu", dtype=torch.float32, **options)


def make_clip(folder):
    text = VIT | {"vocab_size": 49408, "max_position_embeddings": 77}
    peer = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=VISION))
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)
    save(folder, randomised(peer), PEERS["clip"].make(), processor)


def make_siglip(folder):
    text = VIT | {"vocab_size": vocabulary("siglip2"), "max_position_embeddings": 64}
    peer = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=VISION))
    processor = transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    save(folder, randomised(peer), PEERS["siglip2"].make(), processor)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    make_clip(folder / "clip")
    make_siglip(folder / "siglip")
    make("BlipForImageTextRetrieval", blip_config(), folder / "blip")
    return folder


@pytest.fixture
def clip(originals, tmp_path):
    return Path(shutil.copytree(originals / "clip", tmp_path / "clip"))


@pytest.fixture
def siglip(originals, tmp_path):
    return Path(shutil.copytree(originals / "siglip", tmp_path / "siglip"))


@pytest.fixture
def blip(originals, tmp_path):
    return Path(shutil.copytree(originals / "blip", tmp_path / "blip"))


# Images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resample": 1}, r"resample: expected one of .*, got 1"),
        ({"resample": [3]}, r"resample: expected one of .*, got \[3\]"),
        ({"do_resize": False}, "do_resize: expected True, got False"),
        ({"do_rescale": False}, "do_rescale: expected True, got False"),
        ({"do_center_crop": False}, "do_center_crop: expected True for a size of .*, got False"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor: expected 1 / 255, got 0.0078"),
        ({"crop_size": {"height": 28, "width": 28}}, "crop_size: expected 32 as in size, got .*28"),
        ({"size": {"shortest_edge": 36}}, "crop_size: expected 36 as in size, got .*32"),
        ({"size": {"height": 32, "width": 48}}, "size: expected a square, got .*48"),
        ({"size": {"longest_edge": 32}}, "size: expected a shortest_edge, or height and width, got"),
        ({"image_mean": [0.5]}, r"mean: expected three numbers, got \[0.5\]"),
        ({"image_std": [1, 0, 1]}, r"std: expected three positive numbers"),
        ({"patch_size": 16}, r"expected .*'crop_size'.*, got \['patch_size'\]"),
        ({"image_processor_type": "ViTImageProcessor"}, r"\['Blip', 'CLIP', 'Siglip'\], got .*'ViTImage"),
        ({"size": {"shortest_edge": 48}, "crop_size": 48}, "image_size: expected 32, .*, got 48"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_processors_that_are_refused(clip, change, message):
    edit(clip / "preprocessor_config.json", **change)
    with pytest.raises(ValueError, match=message):
        load(clip)


def test_another_size_only_on_request(clip):
    edit(clip / "preprocessor_config.json", size={"shortest_edge": 48}, crop_size=48)
    model = load(clip, interpolate_positions=True)
    assert model.transform.image_size == model.network.encoders["image"].config.image_size == 48
    assert model.embed_images(next(iter(draw(1)))).shape == (1, 512)


def test_two_files_that_differ(clip):
    table = json.loads((clip / "preprocessor_config.json").read_text())
    (clip / "processor_config.json").write_text(json.dumps({"image_processor": table}))
    load(clip)
    (clip / "processor_config.json").write_text(json.dumps({"image_processor": table | {"resample": 2}}))
    with pytest.raises(ValueError, match=r"expected the same image processor in processor_config\.json"):
        load(clip)


# Texts


@pytest.mark.parametrize("kind", ["clip", "siglip", "blip"])
def test_another_vocabulary(kind, request):
    folder = request.getfixturevalue(kind)
    before = json.loads((folder / "config.json").read_text())
    for size in (before["text_config"]["vocab_size"] + 500, 40):
        text = before["text_config"] | {"vocab_size": size, "eos_token_id": 3, "bos_token_id": 2}
        edit(folder / "config.json", text_config=text)
        with pytest.raises(ValueError, match=r"tokenizer.*: expected"):
            load(folder)


def test_the_tokenizer_of_another_model(blip):
    PEERS["clip"].make().save_pretrained(blip)
    with pytest.raises(ValueError, match=r"expected the tokens \['\[CLS\]', '\[SEP\]', .* in its vocabulary, got none"):
        load(blip)


def test_other_special_ids(blip, tmp_path):
    text = json.loads((blip / "config.json").read_text())["text_config"]
    for change in ({"sep_token_id": 102}, {"pad_token_id": 1}):
        edit(blip / "config.json", text_config=text | change)
        with pytest.raises(ValueError, match=r"expected .* to be \[\d+, \d\] as in the model, got \[3, 0\]"):
            load(blip)
    edit(blip / "config.json", text_config=text | {"bos_token_id": 99999})
    with pytest.raises(ValueError, match=r"bos_token_id: expected 0 to .*, got 99999"):
        load(blip)


def test_another_end_of_texts(clip):
    text = json.loads((clip / "config.json").read_text())["text_config"]
    edit(clip / "config.json", text_config=text | {"eos_token_id": 49405})
    with pytest.raises(ValueError, match=r"inputs\.text\.eos_id: expected 49405 as in the model, got 49407"):
        load(clip)


@pytest.mark.parametrize("kind", ["clip", "siglip", "blip"])
def test_nothing_around_texts(kind, request):
    folder = request.getfixturevalue(kind)
    table = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(table | {"post_processor": None}))
    with pytest.raises(ValueError, match=r"expected the ids \(.*\) before a text and \(\d+,\) after it, got \(\)"):
        load(folder)


@pytest.mark.parametrize("kind", ["clip", "siglip", "blip"])
@pytest.mark.parametrize("key", ["padding_side", "truncation_side"])
def test_the_left_side(kind, key, request):
    folder = request.getfixturevalue(kind)
    edit(folder / "tokenizer_config.json", **{key: "left"})
    with pytest.raises(ValueError, match=f"{key}: expected 'right', got 'left'"):
        load(folder)


def test_siglip_2_pads_on_the_left_unless_told_otherwise(siglip):
    assert transformers.Siglip2Tokenizer.padding_side == "left"
    edit(siglip / "tokenizer_config.json", padding_side=None)
    with pytest.raises(ValueError, match="padding_side: expected 'right', got 'left'"):
        load(siglip)


@pytest.mark.parametrize(
    "change", [{"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}], ids=str
)
def test_two_files_that_disagree_on_texts(blip, change):
    edit(blip / "tokenizer_config.json", **change)
    with pytest.raises(ValueError, match=f"{next(iter(change))}: expected .* as in tokenizer.json, got False"):
        load(blip)


def test_a_folder_with_a_vocabulary_alone(blip):
    before = load(blip).tokenizer(["A Löwe's façade"])
    vocab = json.loads((blip / "tokenizer.json").read_text())["model"]["vocab"]
    (blip / "vocab.txt").write_text("\n".join(sorted(vocab, key=vocab.__getitem__)) + "\n")
    (blip / "tokenizer.json").unlink()
    assert torch.equal(load(blip).tokenizer(["A Löwe's façade"]), before)
    edit(blip / "tokenizer_config.json", do_lower_case=False)
    model = load(blip)
    assert isinstance(model.tokenizer, HFTokenizer)
    expected = PEERS["bert, cased"].make()(["A Löwe's façade"])["input_ids"][0]
    assert model.tokenizer(["A Löwe's façade"])[0, : len(expected)].tolist() == expected


# Networks


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("clip", {"vision_config": VISION | {"hidden_act": "relu"}}, "hidden_act: expected one of .*'relu'"),
        ("blip", {"text_config": {"hidden_act": "silu"}}, "hidden_act: expected one of .*'silu'"),
        ("siglip", {"vision_config": VISION | {"vision_use_head": False}}, "vision_use_head: expected True"),
        ("clip", {"vision_config": VISION | {"image_size": [32, 48]}}, r"vision_config: .*\[32, 48\]"),
        (
            "clip",
            {"model_type": "siglip2"},
            "expected a checkpoint in one of the formats .*transformers_clip.*, got .*'model_type': 'siglip2'",
        ),
        ("clip", {"model_type": "blip"}, r"architectures: expected one of .*, got \['CLIPModel'\]"),
        (
            "clip",
            {"vision_config": VISION | {"patch_size": 8}},
            "image_size: expected 16, with which the model was trained, got 32",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_networks_that_are_refused(kind, change, message, request):
    folder = request.getfixturevalue(kind)
    edit(folder / "config.json", **change)
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_an_activation_changes_the_embeddings(clip):
    """Weights do not tell the activation: it is read from the config, and shown in the card."""
    before = load(clip)
    edit(clip / "config.json", vision_config=VISION | {"hidden_act": "gelu"})
    after = load(clip)
    image = next(iter(draw(1)))
    assert (before.embed_images(image) - after.embed_images(image)).abs().max() > 1e-4
    told = [model.card["contract"]["image"]["activation"] for model in (before, after)]
    assert told == ["quick_gelu", "gelu"]
