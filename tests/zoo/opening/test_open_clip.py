"""What of a checkpoint of open_clip contradicts itself is refused before its weights are read."""

from pathlib import Path

import open_clip
import pytest
from open_clip import get_model_config, get_pretrained_cfg

from multimodal.encoders import OpenClipTextConfig
from multimodal.zoo.catalogue import models
from multimodal.zoo.formats import open_clip as converter
from multimodal.zoo.formats.hf_towers import TOWERS, tower_config
from multimodal.zoo.opening import open_open_clip
from multimodal.zoo.opening.open_clip import open_clip_tokenizer
from tests.preprocess.texts.peers import saved_peer, t5

NOWHERE = Path("weights.safetensors")  # is not read


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "ViT-B-32:openai",
            "activation: expected quick_gelu, as ViT-B-32:openai was trained, got gelu; load ",
        ),
        ("RN50:yfcc15m", "load 'RN50-quickgelu:yfcc15m' instead"),
    ],
)
def test_a_tag_of_another_activation_is_refused(name, message):
    architecture, _, tag = name.partition(":")
    with pytest.raises(ValueError, match=message):
        open_open_clip(name, NOWHERE, get_model_config(architecture), get_pretrained_cfg(architecture, tag))


def test_so_is_the_other_way_round():
    with pytest.raises(
        ValueError, match=r"expected gelu, as ViT-B-32-quickgelu:x was trained, .* load 'ViT-B-32:x'"
    ):
        open_open_clip(
            "ViT-B-32-quickgelu:x", NOWHERE, get_model_config("ViT-B-32-quickgelu"), {"quick_gelu": False}
        )


def test_what_is_listed_is_not_refused_and_what_is_refused_is_listed_elsewhere():
    listed = {(each.name, tag) for each in models() for tag in each.tags}
    refused = set(open_clip.list_pretrained()) - listed
    for architecture, tag in open_clip.list_pretrained():
        given = (get_model_config(architecture), get_pretrained_cfg(architecture, tag))
        if (architecture, tag) in refused:
            other = f"{architecture}-quickgelu"
            assert (other, tag) in listed
            with pytest.raises(ValueError, match=f"activation: .* load '{other}:{tag}' instead"):
                open_open_clip(f"{architecture}:{tag}", NOWHERE, *given)
    assert len(refused) == 27


TOKENS = len(t5())
SIGLIP = {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP", "tokenizer_kwargs": {"clean": "canonicalize"}}


def siglip(vocab_size):
    """The text tower of a SigLIP with so many tokens."""
    table = get_model_config("ViT-B-16-SigLIP")
    table["text_cfg"]["vocab_size"] = vocab_size
    return converter.network(table).text


def test_the_tokenizer_beside_the_weights_or_the_one_given(tmp_path):
    folder, elsewhere = saved_peer("t5", tmp_path), tmp_path / "elsewhere"
    ours = open_clip_tokenizer(SIGLIP, folder, None, siglip(TOKENS))
    assert (ours.context_length, ours.vocab_size, ours.eos_id, ours.pad_id) == (64, TOKENS, 1, 1)
    assert open_clip_tokenizer(SIGLIP, elsewhere, folder, siglip(TOKENS)).fingerprint == ours.fingerprint
    with pytest.raises(
        FileNotFoundError, match=r"expected the tokenizer\.json of timm/ViT-B-16-SigLIP beside"
    ):
        open_clip_tokenizer(SIGLIP, elsewhere, None, siglip(TOKENS))


@pytest.mark.parametrize(
    ("factor", "fits"), [(0.97, True), (1.04, True), (0.9, False), (1.1, False), (99, False)]
)
def test_a_tokenizer_of_another_size_is_refused(tmp_path, factor, fits):
    """A network may have some more vectors than tokens (CLIPA), or some fewer than marks that no text has."""
    folder, vocab_size = saved_peer("t5", tmp_path), round(factor * TOKENS)
    if fits:
        assert open_clip_tokenizer(SIGLIP, folder, None, siglip(vocab_size)).vocab_size == vocab_size
    else:
        with pytest.raises(
            ValueError, match=f"tokenizer: expected about {vocab_size} tokens, .*, got {TOKENS} in"
        ):
            open_clip_tokenizer(SIGLIP, folder, None, siglip(vocab_size))


def test_padding_of_another_id_is_refused(tmp_path):
    """A text tower of transformers does not look at padding, by its id."""
    cfg = {"hf_tokenizer_name": "roberta-base", "hf_model_name": "roberta-base"}
    text = OpenClipTextConfig(cfg, 512, TOKENS, 77, 2, hf_config={"model_type": "roberta", "pad_token_id": 0})
    with pytest.raises(ValueError, match=r"tokenizer\.pad_id: expected 0, as the model has it, got 1"):
        open_clip_tokenizer(cfg, saved_peer("t5", tmp_path), None, text)


def test_the_config_of_a_text_tower_of_transformers():
    beside = {"model_type": "roberta", "vocab_size": 7}
    assert tower_config("roberta-base", beside) == beside
    assert tower_config("roberta-base", {}) == TOWERS["roberta-base"]
    assert (
        tower_config("roberta-base", {"model_type": "clip"}) == TOWERS["roberta-base"]
    )  # of the whole model
    with pytest.raises(ValueError, match=r"expected the config\.json of some/bert .*, got that of 'clip'"):
        tower_config("some/bert", {"model_type": "clip"})
