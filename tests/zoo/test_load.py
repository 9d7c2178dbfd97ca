"""`load`: names, folders and files; what is refused; in which dtype it computes."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from multimodal import load
from multimodal.zoo import fast_dtype
from multimodal.zoo.golden import example_image
from multimodal.zoo.load import bfloat16_cpu
from tests.preprocess.texts.peers import saved_peer

TEXTS = ["a cat", "a dog on a beach"]


@pytest.fixture
def clip(checkpoint):
    return checkpoint("clip")


# Names, folders and files


def test_the_model_in_the_package_with_and_without_its_name():
    assert load(device="cpu").name == load("small", device="cpu").name == "small"


def test_a_folder_of_transformers(clip):
    from transformers import CLIPModel

    model = load(clip, device="cpu", dtype=torch.float32)
    peer = CLIPModel.from_pretrained(clip).eval()
    tokens = model.tokenizer(TEXTS)
    with torch.no_grad():
        expected = peer.get_text_features(tokens, attention_mask=torch.ones_like(tokens))
    expected = getattr(expected, "pooler_output", expected)
    torch.testing.assert_close(
        model.embed_texts(TEXTS), torch.nn.functional.normalize(expected, dim=-1), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["open_clip", "open_clip tower"])
def test_a_folder_of_open_clip(copied, kind):
    """With a config of timm and the weights of one tower beside it, as in the repositories of timm."""
    folder = copied(kind)
    (folder / "config.json").write_text('{"architecture": "vit_base_patch32_clip_224"}')
    save_file({"cls_token": torch.zeros(1)}, folder / "model.safetensors")
    model = load(folder, device="cpu", dtype=torch.float32)
    config = json.loads((folder / "open_clip_config.json").read_text())
    peer = open_clip.CLIP(**config["model_cfg"]).eval()
    peer.load_state_dict(load_file(folder / "open_clip_model.safetensors"))
    with torch.no_grad():
        expected = peer.encode_text(model.tokenizer(TEXTS), normalize=True)
        images = model.transform.read(example_image())[None]
        expected_images = peer.encode_image(images, normalize=True)
    torch.testing.assert_close(model.embed_texts(TEXTS), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.embed_images(example_image()), expected_images, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "can"),
    [("captioner", {"caption"}), ("matcher", {"classify", "search", "match"}), ("answerer", {"answer"})],
)
def test_abilities_of_blip(checkpoint, kind, can):
    model = load(checkpoint(kind), device="cpu")
    assert model.can == can
    assert f"can {', '.join(sorted(can))}" in repr(model)
    assert ("dimensions" in repr(model)) == ("search" in can)


# What is refused


@pytest.mark.parametrize("name", ["ViT-Z", "no such folder", "./none/here", "~/none", "/none", "a/b/c"])
def test_unknown_names(name):
    with pytest.raises(FileNotFoundError, match=r"expected a folder, a file, one of \['small'\].*, got "):
        load(name)


def test_weights_that_do_not_fit(tmp_path, clip):
    with pytest.raises(FileNotFoundError, match=r"weights: expected a file, got .*none"):
        load("ViT-B-32", weights=tmp_path / "none")
    file = clip / "model.safetensors"
    with pytest.raises(FileNotFoundError, match="expected an architecture of open_clip, got 'ViT-Z'"):
        load("ViT-Z", weights=file)
    with pytest.raises(ValueError, match="weights: expected the tensors of the model"):
        load("ViT-B-32", weights=file)
    message = r"expected a checkpoint in one of the formats .* or an architecture of open_clip .* weights="
    with pytest.raises(ValueError, match=message):
        load(file)


def test_an_argument_without_effect_is_refused(clip, tmp_path):
    for folder in (clip, "small"):
        with pytest.raises(ValueError, match=r"tokenizer: expected None, because .* has its own"):
            load(folder, tokenizer=saved_peer("clip", tmp_path))


@pytest.mark.parametrize("own", [False, True])
def test_another_image_size(clip, own):
    name, learned = ("small", 64) if own else (clip, 32)
    message = f"image_size: expected {learned}, with which the model was trained, got 128"
    with pytest.raises(ValueError, match=message):
        load(name, image_size=128, device="cpu")
    if own:
        return  # it has a convolutional stem
    larger = load(name, image_size=128, interpolate_positions=True, device="cpu")
    assert larger.transform.image_size == 128
    assert "images 128 px" in repr(larger)
    assert larger.embed_images(example_image()).isfinite().all()


def test_golden_vectors_on_request(clip):
    load("small", device="cpu", verify=True)
    with pytest.raises(ValueError, match="expected golden vectors in its config, got none"):
        load(clip, device="cpu", verify=True)


# dtype


def test_bfloat16_if_the_processor_multiplies_it_fast(monkeypatch):
    monkeypatch.delenv("MULTIMODAL_DTYPE", raising=False)
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert bfloat16_cpu() == bool(flags & {"amx_tile", "avx512_bf16"})
    expected = torch.bfloat16 if bfloat16_cpu() else torch.float32
    assert fast_dtype(torch.device("cpu")) == expected
    assert fast_dtype(torch.device("mps")) == torch.float32
    model = load(device="cpu")
    assert model.dtype == expected
    assert f"runs on cpu, {str(expected).removeprefix('torch.')}" in repr(model)


@pytest.mark.parametrize("forced", ["float32", "bfloat16"])
def test_the_environment_overrides_the_dtype(forced, monkeypatch):
    monkeypatch.setenv("MULTIMODAL_DTYPE", forced)
    assert fast_dtype(torch.device("cpu")) == load(device="cpu").dtype == getattr(torch, forced)
    monkeypatch.setenv("MULTIMODAL_DTYPE", "float16")
    with pytest.raises(ValueError, match=r"MULTIMODAL_DTYPE: expected one of .*, got 'float16'"):
        fast_dtype(torch.device("cpu"))


@pytest.mark.parametrize("name", ["small", "open_clip tower"])
def test_bfloat16_is_close_to_float32(name, checkpoint):
    """For the model in the package, and for a tower that stays open_clip's."""
    name = name if name == "small" else checkpoint(name)
    exact = load(name, device="cpu", dtype=torch.float32)
    fast = load(name, device="cpu", dtype=torch.bfloat16)
    assert "runs on cpu, bfloat16" in repr(fast)
    assert {p.dtype for p in fast.network.parameters() if p.ndim} == {torch.bfloat16}
    assert {p.dtype for p in fast.network.parameters() if not p.ndim} == {torch.float32}  # learned scalars
    assert fast.embed_texts(TEXTS).dtype == torch.float32
    texts = (fast.embed_texts(TEXTS) * exact.embed_texts(TEXTS)).sum(-1)
    images = (fast.embed_images(example_image()) * exact.embed_images(example_image())).sum(-1)
    assert torch.cat([texts, images]).min() > 0.999
    assert not torch.equal(fast.embed_texts(TEXTS), exact.embed_texts(TEXTS))


def test_the_file_may_change_after_loading(copied):
    """The weights of the model are copies, not views of the file."""
    folder = copied("open_clip")
    model = load(folder, device="cpu", dtype=torch.float32)
    before = model.embed_texts(TEXTS)
    with (folder / "open_clip_model.safetensors").open("r+b") as file:
        file.write(b"\0" * 2_000_000)
    assert torch.equal(model.embed_texts(TEXTS), before)


def test_parameters_need_no_gradients_and_tied_ones_stay_tied(make_model, tmp_path):
    from multimodal.zoo import save_folder

    model = make_model()
    save_folder(tmp_path / "m", "m", model.network, model.inputs, {})
    loaded = load(tmp_path / "m", device="cpu", dtype=torch.float32)
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())
    assert not loaded.network.training
    before, after = (len(list(m.network.parameters())) for m in (model, loaded))
    assert before == after
    assert set(loaded.network.state_dict()) == set(model.network.state_dict())
    storages = {t.data_ptr() for t in loaded.network.state_dict().values()}
    assert len(storages) == len({t.data_ptr() for t in model.network.state_dict().values()})
