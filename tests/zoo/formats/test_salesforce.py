"""Original BLIP files: the weights of a model of transformers under the names of salesforce/BLIP."""

import re

import pytest
import torch

import multimodal
from multimodal.generation import Beam, Greedy
from tests.preprocess.texts.peers import PEERS, saved_peer

from .blip import assert_lively, config, make, written
from .transformers_peers import TEXTS, draw

CAPTIONER, MATCHER, ANSWERER = ("BlipForConditionalGeneration", "BlipForImageTextRetrieval", "BlipForQuestionAnswering")
QUESTIONS = ["what is this?", "are the bikes red, or is it a Lion on grass?", "how many dogs?", "Löwe"]
# The rules of transformers' convert_blip_original_pytorch_to_hf.py, reversed
NAMES = (
    (r"vision_model\.embeddings\.class_embedding", "visual_encoder.cls_token"),
    (r"vision_model\.embeddings\.position_embedding", "visual_encoder.pos_embed"),
    (r"vision_model\.embeddings\.patch_embedding\.", "visual_encoder.patch_embed.proj."),
    (r"vision_model\.post_layernorm\.", "visual_encoder.norm."),
    (r"vision_model\.encoder\.layers\.", "visual_encoder.blocks."),
    (r"\.self_attn\.projection\.", ".attn.proj."),
    (r"\.self_attn\.", ".attn."),
    (r"\.layer_norm(\d)\.", r".norm\1."),
)


def original(peer):
    """The state dict under the original names, with positions, momentum copies and queues from training."""
    state = {}
    for key, tensor in peer.state_dict().items():
        for theirs, name in NAMES:
            key = re.sub(theirs, name, key)
        state[key] = tensor.clone()
    for key in list(state):
        root, _, rest = key.partition(".")
        state[f"{root}_m.{rest}"] = torch.randn_like(state[key])
        if rest.endswith("word_embeddings.weight"):
            state[key.replace("word_embeddings.weight", "position_ids")] = torch.arange(48)[None]
    state |= {"image_queue": torch.randn(24, 8), "text_queue": torch.randn(24, 8)}
    state |= {"idx_queue": torch.full((1, 8), -100), "ptr_queue": torch.zeros(1, dtype=torch.long)}
    return state


def saved(folder, state):
    """A training checkpoint, with the tokenizer beside it."""
    torch.save({"model": state, "optimizer": {"step": 7}, "epoch": 4}, folder / "model_base.pth")
    PEERS["bert"].make().save_pretrained(folder)
    return folder / "model_base.pth"


def load(path, **options):
    return multimodal.load(path, device="cpu", dtype=torch.float32, **options)


def pixels(processor, images):
    return processor(images, return_tensors="pt")["pixel_values"]


def small(width=64):
    return config(width, 128, layer_norm_eps=1e-6)  # as in timm; 1e-5 in transformers


def enc(tokens):
    """[ENC] instead of [CLS]: in the originals, the first token of a text that attends to an image."""
    tokens["input_ids"][:, 0] = small().text_config.vocab_size - 1
    return tokens


def cleaned(tokenizer, rows):
    """As BERT's tokenizer decoded at the time of the originals: without spaces around punctuation."""
    return tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=True)


def strategy(num_beams):
    return Greedy() if num_beams == 1 else Beam(num_beams=num_beams)


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioner")
    return make(CAPTIONER, small(), folder, ends=3.5)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_captions(captioner, num_beams, tmp_path):
    peer, tokenizer, processor = captioner
    state = original(peer)
    assert "visual_encoder.blocks.1.attn.qkv.weight" in state
    assert "text_decoder.bert.encoder.layer.1.crossattention.self.key.weight" in state
    model = load(saved(tmp_path, state))
    assert (model.name, model.can) == ("model_base", {"caption"})
    images = list(draw(20))
    rows = written(peer.generate(pixels(processor, images), num_beams=num_beams, max_new_tokens=20))
    assert_lively(rows)
    found = [caption.text for caption in model.caption(images, strategy(num_beams))]
    assert found == cleaned(tokenizer, rows)


@torch.no_grad()
def test_captioning_logits_and_a_tokenizer_elsewhere(tmp_path):
    (tmp_path / "peer").mkdir()
    peer, _, processor = make(CAPTIONER, small(128), tmp_path / "peer", gain=1.0)
    torch.save({"model": original(peer)}, tmp_path / "model.pth")
    with pytest.raises(FileNotFoundError, match=r"expected the vocab\.txt or tokenizer\.json of bert-base"):
        load(tmp_path / "model.pth")
    model = load(tmp_path / "model.pth", tokenizer=saved_peer("bert", tmp_path))
    images = pixels(processor, list(draw(4)))
    tokens = torch.randint(5, 90, (4, 12), generator=torch.Generator().manual_seed(0))
    expected = peer(images, tokens).logits
    found = model.network.decoder(tokens, model.network.memory({"image": images})).logits
    assert expected.std() > 0.5
    assert (found - expected).abs().max() < 1e-4


@torch.no_grad()
def test_matching(tmp_path):
    (tmp_path / "peer").mkdir()
    peer, tokenizer, processor = make(MATCHER, small(), tmp_path / "peer", gain=1.0)
    model = load(saved(tmp_path, original(peer) | {"temp": torch.tensor(0.05)}))
    assert model.can == {"classify", "search", "match"}
    assert model.network.logit_scale.exp().item() == pytest.approx(20)
    images = list(draw(3))
    inputs = {"pixel_values": pixels(processor, images)}
    tokens = tokenizer(TEXTS, return_tensors="pt", padding=True, return_token_type_ids=False)
    cosines = peer(**inputs, **tokens, use_itm_head=False).itm_score  # with [CLS] in the originals, too
    assert (model.similarity(images, TEXTS) - cosines).abs().max() < 1e-4
    by_cls = peer(**inputs, **tokens).itm_score
    expected = peer(**inputs, **enc(tokens)).itm_score
    found = model.network.match({"image": inputs["pixel_values"], "text": model.tokenizer(TEXTS)})
    assert (expected - by_cls).abs().max() > 1e-2
    assert (found - expected).abs().max() < 1e-4
    scores = [match.score for match in model.match(images, TEXTS)]
    assert scores == pytest.approx(expected.softmax(-1)[:, 1].tolist(), abs=1e-4)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_answers(num_beams, tmp_path):
    (tmp_path / "peer").mkdir()
    peer, tokenizer, processor = make(ANSWERER, small(128), tmp_path / "peer", ends=4.0)
    model = load(saved(tmp_path, original(peer)))
    assert model.can == {"answer"}
    images = list(draw(20))
    asked = [QUESTIONS[i % len(QUESTIONS)] for i in range(20)]
    rows, by_cls = [], []
    for image, question in zip(images, asked, strict=True):
        tokens = tokenizer(question, return_tensors="pt", return_token_type_ids=False)
        options = {"pixel_values": pixels(processor, [image]), "num_beams": num_beams, "max_new_tokens": 20}
        by_cls += written(peer.generate(**options, **tokens))
        rows += written(peer.generate(**options, **enc(tokens)))
    assert_lively(rows)
    assert rows != by_cls
    found = [answer.text for answer in model.answer(images, asked, strategy(num_beams))]
    assert found == cleaned(tokenizer, rows)


def test_a_pretrained_file_captions(captioner, tmp_path):
    """It matches and captions; here it captions."""
    peer, tokenizer, processor = captioner
    (tmp_path / "peer").mkdir()
    other, *_ = make(MATCHER, small(), tmp_path / "peer")
    state = original(other) | original(peer) | {"temp": torch.tensor(0.05)}
    assert {"itm_head.weight", "text_proj.bias", "text_encoder.embeddings.LayerNorm.bias"} <= set(state)
    model = load(saved(tmp_path, state))
    assert model.can == {"caption"}
    images = list(draw(5))
    rows = written(peer.generate(pixels(processor, images), max_new_tokens=20))
    found = [caption.text for caption in model.caption(images)]
    assert found == cleaned(tokenizer, rows)


def test_other_files_are_refused(captioner, tmp_path):
    state = original(captioner[0])
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "other.pth")
    with pytest.raises(
        ValueError, match=r"expected a checkpoint in one of the formats .*'salesforce_blip'.* got another file"
    ):
        load(tmp_path / "other.pth")
    lacking = {key: tensor for key, tensor in state.items() if "blocks.0.norm1" not in key}
    with pytest.raises(ValueError, match=r"missing .*blocks\.0\.norm1"):
        load(saved(tmp_path, lacking))
    with pytest.raises(ValueError, match=r"weights: expected .* unknown ones, such as \['visual_encoder\.rel_pos'\]"):
        load(saved(tmp_path, state | {"visual_encoder.rel_pos": torch.zeros(1)}))
    for key in [key for key in state if "text_decoder" in key]:
        del state[key]
    with pytest.raises(ValueError, match=r"expected text_encoder\..* got none"):
        load(saved(tmp_path, state))
