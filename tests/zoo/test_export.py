"""Third-party checkpoints in our format: the same answers, which the folder records."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file, save

from multimodal import load
from multimodal.generation import Greedy
from multimodal.zoo import convert, verify
from multimodal.zoo.export import new_folder
from multimodal.zoo.golden import MAX_NEW_TOKENS, QUESTION, TEXT, example_image
from tests.zoo.checkpoints import KINDS


def answers(model):
    """Everything that the model can say about the built-in image."""
    found = {}
    if "search" in model.can:
        found["image_embedding"] = model.embed_images(example_image())[0].tolist()
        found["text_embedding"] = model.embed_texts([TEXT])[0].tolist()
    if "caption" in model.can:
        found["caption"] = model.caption(example_image(), strategy=Greedy(MAX_NEW_TOKENS)).text
    if "match" in model.can:
        found["match"] = model.match(example_image(), TEXT).score
    if "answer" in model.can:
        found["answer"] = model.answer(example_image(), QUESTION, strategy=Greedy(MAX_NEW_TOKENS)).text
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_converted_model_answers_like_the_original(kind, checkpoint, tmp_path):
    theirs = checkpoint(kind)
    assert convert(theirs, tmp_path / "ours") == tmp_path / "ours"
    before = load(theirs, device="cpu", dtype=torch.float32)
    after = load(tmp_path / "ours", device="cpu", dtype=torch.float32, verify=True)
    expected = answers(before)
    assert answers(after) == expected  # to the bit
    assert after.can == before.can
    golden = after.card["golden"]
    assert set(golden) == set(expected)
    for key, value in expected.items():
        assert golden[key] == (value if isinstance(value, str) else pytest.approx(value, abs=1e-5)), key
    old, new = before.card["contract"], after.card["contract"]
    assert {key for key in old if old[key] != new[key]} == {"weights_sha256"}
    assert new["weights_sha256"] == sha256(tmp_path / "ours" / "model.safetensors")
    assert after.card["weights"]["sha256"] == old["weights_sha256"]  # of the original
    verify(load(tmp_path / "ours", device="cpu", dtype=torch.bfloat16))


@pytest.mark.parametrize(
    ("kind", "weight", "told"),
    [
        ("clip", "projections.text", "text_embedding"),
        ("open_clip", "projections.image", "image_embedding"),
        ("captioner", "embedding", "caption"),
        ("matcher", "matching_head", "match"),
    ],
)
def test_verify_finds_a_changed_weight_with_a_correct_hash(kind, weight, told, checkpoint, tmp_path):
    convert(checkpoint(kind), tmp_path / "ours")
    path, config = tmp_path / "ours" / "model.safetensors", tmp_path / "ours" / "config.json"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    name = next(name for name in tensors if weight in name and tensors[name].ndim > 1)
    tensors[name][: len(tensors[name]) // 2] *= -3
    path.write_bytes(save(tensors))
    table = json.loads(config.read_text())
    table["weights_sha256"] = table["card"]["contract"]["weights_sha256"] = sha256(path)
    config.write_text(json.dumps(table))
    load(tmp_path / "ours", device="cpu")
    with pytest.raises(ValueError, match=f"expected the recorded {told}"):
        load(tmp_path / "ours", device="cpu", dtype=torch.float32, verify=True)


def test_rounded_weights(checkpoint, tmp_path):
    """Half the bytes, and golden vectors of the rounded weights."""
    theirs = checkpoint("clip")
    convert(theirs, tmp_path / "whole")
    convert(theirs, tmp_path / "half", dtype=torch.bfloat16)
    whole, half = (tmp_path / name / "model.safetensors" for name in ("whole", "half"))
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    load(tmp_path / "half", device="cpu", verify=True)


def test_folders_are_created_atomically(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(ValueError, match=r"to: expected a new folder, got .*taken, which exists"):
        convert("small", tmp_path / "taken")
    assert list((tmp_path / "taken").iterdir()) == []

    def stopped():
        with new_folder(tmp_path / "new") as folder:
            (folder / "model.safetensors").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with pytest.raises(FileNotFoundError):
        convert("no-such-model", tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
