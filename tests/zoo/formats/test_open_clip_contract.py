"""Checkpoints of open_clip that contradict themselves are refused before their weights are read."""

from pathlib import Path

import open_clip
import pytest
from open_clip import get_model_config, get_pretrained_cfg

from multimodal.encoders import OpenClipTextConfig
from multimodal.zoo.catalogue import models
from multimodal.zoo.formats.hf_tokenizer import read_open_clip_tokenizer as read_tokenizer
from multimodal.zoo.formats.open_clip import HF_TOWERS, OpenClipFormat, read_text_tower, tower_config
from tests.preprocess.texts.peers import saved_peer, t5

NOWHERE = Path("weights.safetensors")  # is never read


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-B-32:openai", "activation: expected quick_gelu, with which ViT-B-32:openai was trained, got gelu; load "),
        ("RN50:yfcc15m", "load 'RN50-quickgelu:yfcc15m' instead"),
    ],
)
def test_a_tag_of_another_activation_is_refused(name, message):
    architecture, _, tag = name.partition(":")
    with pytest.raises(ValueError, match=message):
        OpenClipFormat(name, get_model_config(architecture), get_pretrained_cfg(architecture, tag)).open(NOWHERE, None)


def test_a_tag_without_quick_gelu_is_refused_for_an_architecture_with_it():
    name = "ViT-B-32-quickgelu"
    with pytest.raises(ValueError, match=rf"expected gelu, with which {name}:x was trained, .* load 'ViT-B-32:x'"):
        OpenClipFormat(f"{name}:x", get_model_config(name), {"quick_gelu": False}).open(NOWHERE, None)


def test_every_refused_tag_is_listed_under_the_other_name():
    listed = {(each.name, tag) for each in models() for tag in each.tags}
    refused = set(open_clip.list_pretrained()) - listed
    for architecture, tag in open_clip.list_pretrained():
        given = (get_model_config(architecture), get_pretrained_cfg(architecture, tag))
        if (architecture, tag) in refused:
            other = f"{architecture}-quickgelu"
            assert (other, tag) in listed
            with pytest.raises(ValueError, match=f"activation: .* load '{other}:{tag}' instead"):
                OpenClipFormat(f"{architecture}:{tag}", *given).open(NOWHERE, None)
    assert len(refused) == 27


TOKENS = len(t5())
SIGLIP = {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP", "tokenizer_kwargs": {"clean": "canonicalize"}}


def siglip(vocab_size):
    """The text encoder of a SigLIP with so many tokens."""
    table = get_model_config("ViT-B-16-SigLIP")
    table["text_cfg"]["vocab_size"] = vocab_size
    return read_text_tower(table, NOWHERE)[0]


def test_tokenizer_beside_the_weights_or_elsewhere(tmp_path):
    folder, elsewhere = saved_peer("t5", tmp_path), tmp_path / "elsewhere"
    ours = read_tokenizer(SIGLIP, folder, None, siglip(TOKENS))
    assert (ours.context_length, ours.vocab_size, ours.eos_id, ours.pad_id) == (64, TOKENS, 1, 1)
    assert read_tokenizer(SIGLIP, elsewhere, folder, siglip(TOKENS)).fingerprint == ours.fingerprint
    with pytest.raises(FileNotFoundError, match=r"expected the tokenizer\.json of timm/ViT-B-16-SigLIP beside"):
        read_tokenizer(SIGLIP, elsewhere, None, siglip(TOKENS))


@pytest.mark.parametrize(("factor", "fits"), [(0.97, True), (1.04, True), (0.9, False), (1.1, False), (99, False)])
def test_tokenizer_with_another_vocabulary_is_refused(tmp_path, factor, fits):
    """A network may have a few more embeddings than tokens (CLIPA), or a few less."""
    folder, vocab_size = saved_peer("t5", tmp_path), round(factor * TOKENS)
    if fits:
        assert read_tokenizer(SIGLIP, folder, None, siglip(vocab_size)).vocab_size == vocab_size
    else:
        with pytest.raises(
            ValueError, match=f"tokenizer: expected about {vocab_size} tokens as in the model, got {TOKENS} in"
        ):
            read_tokenizer(SIGLIP, folder, None, siglip(vocab_size))


def test_tokenizer_with_another_padding_is_refused(tmp_path):
    """A text tower of transformers recognises padding by its id."""
    cfg = {"hf_tokenizer_name": "roberta-base", "hf_model_name": "roberta-base"}
    text = OpenClipTextConfig(
        text_cfg=cfg,
        embed_dim=512,
        vocab_size=TOKENS,
        context_length=77,
        eos_id=2,
        hf_config={"model_type": "roberta", "pad_token_id": 0},
    )
    with pytest.raises(ValueError, match=r"tokenizer\.pad_id: expected 0 as in the model, got 1"):
        read_tokenizer(cfg, saved_peer("t5", tmp_path), None, text)


def test_the_config_of_a_text_tower_of_transformers():
    beside = {"model_type": "roberta", "vocab_size": 7}
    assert tower_config("roberta-base", beside) == beside
    assert tower_config("roberta-base", {}) == HF_TOWERS["roberta-base"]
    assert tower_config("roberta-base", {"model_type": "clip"}) == HF_TOWERS["roberta-base"]  # of the whole model
    with pytest.raises(ValueError, match=r"expected the config\.json of some/bert .*, got one of 'clip'"):
        tower_config("some/bert", {"model_type": "clip"})
