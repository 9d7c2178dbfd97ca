"""Checkpoints of others in our format: the same answers, which the folder remembers."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file, save

from multimodal import load
from multimodal.zoo import convert, verify
from multimodal.zoo.export import whole_folder
from multimodal.zoo.golden import QUESTION, TEXT, WORDS, picture
from tests.zoo.checkpoints import FOREIGN_TOWER, saved_blip, saved_clip, saved_open_clip

MAKERS = {
    "clip": saved_clip,
    "open_clip": saved_open_clip,
    "foreign tower": lambda folder: saved_open_clip(folder, FOREIGN_TOWER),
    "captioner": lambda folder: saved_blip(folder, "ForConditionalGeneration"),
    "matcher": lambda folder: saved_blip(folder, "ForImageTextRetrieval"),
    "answerer": lambda folder: saved_blip(folder, "ForQuestionAnswering"),
}


def answers(model):
    """All that the model can say of the built-in picture."""
    found = {}
    if "search" in model.can:
        found["image_embedding"] = model.embed_images(picture())[0].tolist()
        found["text_embedding"] = model.embed_texts([TEXT])[0].tolist()
    if "caption" in model.can:
        found["caption"] = model.caption(picture(), max_new_tokens=WORDS).text
    if "match" in model.can:
        found["match"] = model.match(picture(), TEXT).score
    if "answer" in model.can:
        found["answer"] = model.answer(picture(), QUESTION, max_new_tokens=WORDS).text
    return found


@pytest.mark.parametrize("kind", MAKERS)
def test_the_converted_answers_as_the_original(kind, tmp_path):
    theirs = MAKERS[kind](tmp_path / "theirs")
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
    assert {key for key in old if old[key] != new[key]} == {"sha256 of the weights"}
    assert new["sha256 of the weights"] == sha256(tmp_path / "ours" / "model.safetensors")
    assert after.card["weights"]["sha256"] == old["sha256 of the weights"]  # of what it was made from
    verify(load(tmp_path / "ours", device="cpu", dtype=torch.bfloat16))


@pytest.mark.parametrize(
    ("kind", "weight", "told"),
    [
        ("clip", "text_projection", "text_embedding"),
        ("open_clip", "image_projection", "image_embedding"),
        ("captioner", "embedding", "caption"),
        ("matcher", "head", "match"),
    ],
)
def test_a_changed_weight_is_found_although_the_hash_is_right(kind, weight, told, tmp_path):
    convert(MAKERS[kind](tmp_path / "theirs"), tmp_path / "ours")
    path, config = tmp_path / "ours" / "model.safetensors", tmp_path / "ours" / "config.json"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    name = next(name for name in tensors if weight in name and tensors[name].ndim > 1)
    tensors[name][: len(tensors[name]) // 2] *= -3
    path.write_bytes(save(tensors))
    table = json.loads(config.read_text())
    table["weights_sha256"] = table["card"]["contract"]["sha256 of the weights"] = sha256(path)
    config.write_text(json.dumps(table))
    load(tmp_path / "ours", device="cpu")
    with pytest.raises(ValueError, match=f"expected the recorded {told}"):
        load(tmp_path / "ours", device="cpu", dtype=torch.float32, verify=True)


def test_rounded_weights(tmp_path):
    """Half the bytes, and golden vectors of what was written."""
    theirs = saved_clip(tmp_path / "theirs")
    convert(theirs, tmp_path / "whole")
    convert(theirs, tmp_path / "half", dtype=torch.bfloat16)
    whole, half = (tmp_path / name / "model.safetensors" for name in ("whole", "half"))
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    load(tmp_path / "half", device="cpu", verify=True)


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(ValueError, match=r"to: expected a new folder, got .*taken, which is there"):
        convert("small", tmp_path / "taken")
    assert list((tmp_path / "taken").iterdir()) == []

    def stopped():
        with whole_folder(tmp_path / "new") as folder:
            (folder / "model.safetensors").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with pytest.raises(FileNotFoundError):
        convert("no-such-model", tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
