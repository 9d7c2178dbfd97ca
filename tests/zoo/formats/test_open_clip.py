"""Checkpoints of open_clip with random weights, saved by open_clip, give the same results here."""

import json
import shutil
import warnings

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import interpolate

import multimodal
from multimodal.encoders import ENCODERS, OpenClipImageConfig, OpenClipTextConfig
from multimodal.generation import Greedy
from multimodal.models import Generates
from multimodal.zoo.formats import open_clip as open_clip_format
from multimodal.zoo.formats.open_clip import HF_TOWERS
from tests.zoo.formats.open_clip_peers import (
    HF_FIELDS,
    SIGLIP_VIT,
    build_peer,
    save_tower,
    shrink,
    spread,
    tokenizer_of,
    write_peer,
)

# name -> whether its image tower and its text tower become ours
ARCHITECTURES = {
    "ViT-B-32": (True, True),
    "ViT-B-32-quickgelu": (True, True),
    "ViT-L-14": (True, True),
    "RN50": (False, True),
    "convnext_base": (False, True),
    "EVA02-B-16": (False, True),
    "MobileCLIP-S1": (False, True),
    "PE-Core-T-16-384": (False, True),
    "ViT-B-16-SigLIP": (True, True),
    "ViT-B-16-SigLIP2": (True, True),
    "ViT-L-14-CLIPA": (False, True),
    "ViT-M-16-alt": (False, True),
    "ViT-L-14-worldwide": (True, True),
    "coca_ViT-B-32": (True, True),
    "roberta-ViT-B-32": (True, False),
    "xlm-roberta-base-ViT-B-32": (True, False),
    "nllb-clip-base": (True, False),
    "mt5-base-ViT-B-32": (True, False),
}
# Kinds that others show, too: nightly
LATE = ("ViT-L-14-CLIPA", "ViT-M-16-alt", "ViT-L-14-worldwide", "xlm-roberta-base-ViT-B-32", "mt5-base-ViT-B-32")
TEXTS = ["a cat", "two dogs on a beach, far away", "x " * 100]


@pytest.fixture(autouse=True)
def small_siglip(monkeypatch):
    monkeypatch.setitem(open_clip_format.SIGLIP_VITS, "test", SIGLIP_VIT)


def small(name, folder, layers=2):
    """Config and peer of a small version of an architecture, with as many tokens as its tokenizer has."""
    torch.manual_seed(0)
    table = shrink(open_clip.get_model_config(name), layers)
    text = table["text_cfg"]
    if "hf_model_name" in text:
        fields = HF_FIELDS[HF_TOWERS[text["hf_model_name"]]["model_type"]]
        save_tower(text["hf_model_name"], folder, vocab_size=len(tokenizer_of(table)), **fields)
    elif "hf_tokenizer_name" in text:
        text["vocab_size"] = len(tokenizer_of(table))
    return table, spread(build_peer(table, folder))


@torch.no_grad()
def assert_same(model, peer, tokenize):
    """The same tokens, embeddings and, for a captioner, logits; prints the largest differences."""
    size = model.transform.image_size
    images = interpolate(3 * torch.randn(2, 3, 4, 4), size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the long text is truncated
        tokens = model.tokenizer(TEXTS)
        found = model.embed_texts(TEXTS)
        assert torch.equal(tokens, tokenize(TEXTS))
    expected = peer.encode_text(tokens, True)
    pairs = {
        "images": (model.network.encode("image", images, normalize=True), peer.encode_image(images, True)),
        "texts": (model.network.encode("text", tokens, normalize=True), expected),
        "texts, by shared prefixes": (found, expected),
    }
    if isinstance(model.network, Generates):
        real = tokens[:2, 1:] != model.tokenizer.pad_id  # after a text, open_clip's logits mean nothing
        logits = model.network.decoder(tokens[:2, :-1], model.network.memory({"image": images})).logits
        pairs["logits"] = (logits[real], peer(images, tokens[:2])["logits"][real])
    for what, (ours, theirs) in pairs.items():
        print(f"{model.name}: {what} differ by at most {float((ours - theirs).abs().max()):.1e}")
        assert (theirs[0] - theirs[1]).abs().max() > 5e-3, what  # different inputs differ
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4, msg=lambda text, what=what: f"{what}: {text}")
    assert model.logit_scale == pytest.approx(float(peer.logit_scale), rel=1e-5)
    if peer.logit_bias is not None:
        assert float(model.network.logit_bias) == pytest.approx(float(peer.logit_bias))


def are_ours(model):
    kinds = [ENCODERS.kind_of(model.network.encoders[modality].config) for modality in ("image", "text")]
    assert set(kinds) <= {"vit", "text", "open_clip_image", "open_clip_text"}
    return tuple(not kind.startswith("open_clip") for kind in kinds)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.nightly if name in LATE else ()) for name in ARCHITECTURES]
)
def test_folder_matches_open_clip(name, tmp_path):
    folder = tmp_path / "folder"
    table, peer = small(name, folder)
    write_peer(peer, table, folder)
    model = multimodal.load(folder, device="cpu", dtype=torch.float32)
    assert are_ours(model) == ARCHITECTURES[name]
    assert_same(model, peer, open_clip.get_tokenizer(f"local-dir:{folder}"))


def full(folder, size):
    """Fill the vocabulary of the tokenizer in the folder up to `size` tokens."""
    table = json.loads((folder / "tokenizer.json").read_text())
    vocab = table["model"]["vocab"]
    spare = [f"unused{i}" for i in range(len(vocab), size)]
    if isinstance(vocab, dict):
        vocab |= {token: len(vocab) + i for i, token in enumerate(spare)}
    else:
        vocab += [[token, -99.0] for token in spare]
    (folder / "tokenizer.json").write_text(json.dumps(table))


BIG = ("ViT-L-14-worldwide",)  # two of them do not fit into the memory of a small machine


@pytest.mark.nightly
@pytest.mark.parametrize("name", [name for name in (*ARCHITECTURES, "ViT-B-16", "ViTamin-S") if name not in BIG])
def test_file_matches_open_clip(name, tmp_path):
    """At full size: the architecture by its name, the weights as a file, the tokenizer beside it."""
    torch.manual_seed(0)
    table = open_clip.get_model_config(name)
    text = table["text_cfg"]
    if "hf_model_name" in text:
        save_tower(text["hf_model_name"], tmp_path / "tower")
    peer = spread(build_peer(table, tmp_path / "tower"))
    tokenize = open_clip.get_tokenizer("ViT-B-32", context_length=text.get("context_length", 77))
    if "hf_tokenizer_name" in text:
        tokenizer_of(table).save_pretrained(tmp_path)
        vocab = json.loads((tmp_path / "tower/config.json").read_text()) if "hf_model_name" in text else text
        full(tmp_path, vocab["vocab_size"])
    save_file(peer.state_dict(), tmp_path / "weights.safetensors")
    model = multimodal.load(name, weights=tmp_path / "weights.safetensors", device="cpu", dtype=torch.float32)
    if "hf_tokenizer_name" in text:
        tokenize = model.tokenizer  # the folder test has compared it
    assert_same(model, peer, tokenize)


def naive_captions(peer, images, length, bos_id, eos_id):
    """Greedy sentences, everything computed again for every token."""
    tokens = torch.full((len(images), 1), bos_id)
    seen = peer(images)
    seen = {"image_latent": seen["image_features"], "image_embs": seen["image_embs"], "output_labels": False}
    for _ in range(length):
        logits = peer(images, tokens, **seen)["logits"][:, -1]
        tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], 1)
    rows = [row[1:].tolist() for row in tokens]
    return [row[: row.index(eos_id)] if eos_id in row else row for row in rows]


@torch.no_grad()
def test_captions_match_a_naive_loop_over_open_clip(tmp_path):
    table, peer = small("coca_ViT-B-32", tmp_path / "folder")
    for module in (peer.text, peer.text_decoder, peer.visual.attn_pool):  # so that sentences differ
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=2 * parameter.shape[-1] ** -0.5)
    write_peer(peer, table, tmp_path / "folder")
    model = multimodal.load(tmp_path / "folder", device="cpu", dtype=torch.float32)
    noise = torch.randint(0, 256, (8, 60, 80, 3), dtype=torch.uint8).numpy()
    photos = [Image.fromarray(each) for each in noise]
    images = torch.stack([model.transform(photo) for photo in photos])
    tokenizer = model.tokenizer
    expected = naive_captions(peer, images, 12, tokenizer.bos_id, tokenizer.eos_id)
    assert len({tuple(row) for row in expected}) == 8
    assert len({token for row in expected for token in row}) > 20, expected
    assert [one.text for one in model.caption(photos, Greedy(max_new_tokens=12))] == [
        tokenizer.decode(row) for row in expected
    ]


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """A small ViT-B-32 of one layer, its config and the folder with it."""
    folder = tmp_path_factory.mktemp("open_clip") / "folder"
    table, peer = small("ViT-B-32", folder, layers=1)
    return peer, table, write_peer(peer, table, folder)


@torch.no_grad()
def test_interpolated_positions_match_open_clip(vit):
    folder = vit[2]
    with pytest.raises(ValueError, match=r"image_size: expected 96, with which the model was trained, got 128"):
        multimodal.load(folder, image_size=128)
    model = multimodal.load(folder, device="cpu", image_size=128, interpolate_positions=True, dtype=torch.float32)
    other = open_clip.create_model(f"local-dir:{folder}", force_image_size=128).eval()
    assert model.transform.image_size == 128
    images = torch.randn(2, 3, 128, 128)
    expected = other.encode_image(images, normalize=True)
    assert (expected[0] - expected[1]).abs().max() > 5e-3
    torch.testing.assert_close(model.network.encode("image", images, normalize=True), expected, rtol=0, atol=1e-4)


def changed(folder, to, **keys):
    """A copy of the folder with another config."""
    shutil.copytree(folder, to)
    table = json.loads((to / "open_clip_config.json").read_text())
    for key, value in keys.items():
        part = "preprocess_cfg" if key == "size" else "model_cfg"
        table[part][key] = table[part].get(key, {}) | value if isinstance(value, dict) else value
    (to / "open_clip_config.json").write_text(json.dumps(table))
    return to


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": 160}, "image_size: expected 96, with which the model was trained, got 160"),
        ({"vision_cfg": {"image_size": 160}}, "image_size: expected 96, with which the model was trained, got 160"),
        ({"vision_cfg": {"layers": 2}}, r"weights do not match the config: missing .*blocks\.1"),
        ({"text_cfg": {"vocab_size": 49000}}, "inputs.text.vocab_size: expected 49000 as in the model, got 49408"),
    ],
)
def test_a_config_that_contradicts_the_checkpoint_is_refused(vit, tmp_path, keys, message):
    with pytest.raises(ValueError, match=message):
        multimodal.load(changed(vit[2], tmp_path / "copy", **keys), device="cpu")


@torch.no_grad()
def test_weights_of_another_size_are_interpolated_on_request(vit, tmp_path):
    folder = changed(vit[2], tmp_path / "copy", vision_cfg={"image_size": 160})
    model = multimodal.load(folder, device="cpu", interpolate_positions=True, dtype=torch.float32)
    other = open_clip.create_model(f"local-dir:{folder}").eval()  # interpolates without a request
    images = torch.randn(2, 3, 160, 160)
    torch.testing.assert_close(
        model.network.encode("image", images), other.encode_image(images, False), rtol=0, atol=1e-4
    )
    plain = multimodal.load(folder, device="cpu", image_size=96, dtype=torch.float32)  # the size of training
    images = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(plain.network.encode("image", images), vit[0].encode_image(images), rtol=0, atol=1e-4)


def test_clips_tokenizer_is_in_the_package(vit):
    with pytest.raises(ValueError, match="tokenizer: expected None, because the model has CLIP's own, got elsewhere"):
        multimodal.load(vit[2], tokenizer="elsewhere")


def test_towers_of_open_clip_keep_the_contract_of_encoders():
    table = shrink(open_clip.get_model_config("RN50"))
    image = ENCODERS.build(OpenClipImageConfig(vision_cfg=table["vision_cfg"], embed_dim=64)).eval()
    text_config = OpenClipTextConfig(
        text_cfg=table["text_cfg"], embed_dim=64, vocab_size=49408, context_length=77, eos_id=49407
    )
    text = ENCODERS.build(text_config).eval()
    encoded = image(torch.randn(2, 3, 64, 64))
    assert (encoded.features, encoded.pooled.shape) == (None, (2, 64))
    assert text(torch.zeros(3, 77, dtype=torch.long)).pooled.shape == (3, 64)
