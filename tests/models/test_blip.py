"""BLIP's three networks beside their parts, put together by hand."""

import pytest
import torch
from torch import nn

from multimodal.decoders import TextDecoderConfig
from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.models import (
    AnswererConfig,
    ImageCaptionerConfig,
    MatcherConfig,
    build,
    network_config,
    network_table,
)

EOS = 3
IMAGE = ImageEncoderConfig(32, patch_size=16, width=32, layers=2, heads=2)
TEXT = TextEncoderConfig(
    50, 8, width=24, layers=2, heads=2, causal=False, pooling="cls", eos_id=EOS, norm="post", memory_width=32
)
DECODER = TextDecoderConfig(50, 12, width=24, layers=2, heads=2, norm="post", bos_id=48)
CONFIGS = {
    "captioner": ImageCaptionerConfig(IMAGE, DECODER, length_penalty=0.5, max_new_tokens=7),
    "matcher": MatcherConfig(IMAGE, TEXT, 16, matching_id=49),
    "answerer": AnswererConfig(IMAGE, TEXT, DECODER, matching_id=49, length_penalty=2.0, max_new_tokens=5),
}
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
TOKENS = torch.tensor(
    [[2, 7, 8, 9, 10, 11, 12, EOS], [2, 7, 8, EOS, 0, 0, 0, 0], [2, 20, EOS, 0, 0, 0, 0, 0]]
)


def make(kind, seed=0):
    torch.manual_seed(seed)
    network = build(CONFIGS[kind]).eval().requires_grad_(False)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
    return network


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_a_config_is_what_it_was_after_json(kind):
    config = CONFIGS[kind]
    table = network_table(config)
    assert network_config(table) == config
    network = build(network_config(table))
    assert network.config == config
    for key in ("length_penalty", "max_new_tokens", "matching_id"):
        assert getattr(network, key, None) == getattr(config, key, None)


def test_what_they_can():
    can = {kind: set(make(kind).can) for kind in CONFIGS}
    assert can == {
        "captioner": {"caption"},
        "matcher": {"classify", "search", "match"},
        "answerer": {"answer"},
    }


@pytest.mark.parametrize("kind", ["captioner", "matcher"])
def test_texts_look_at_the_class_token_and_the_patches(kind):
    network = make(kind)
    tower = network.image_encoder if kind == "captioner" else network.dual.image_encoder
    encoded = tower(IMAGES)
    expected = torch.stack([torch.cat([p[None], f]) for p, f in zip(*encoded[1::-1], strict=True)])
    assert expected.shape == (3, 1 + 4, 32)
    torch.testing.assert_close(network.encode_memory(IMAGES).features, expected)


def test_a_match_is_one_text_at_a_time_with_the_id_before_it():
    network = make("matcher")
    found = network.match(network.encode_memory(IMAGES), TOKENS)
    for row, (image, tokens) in enumerate(zip(IMAGES, TOKENS, strict=True)):
        length = tokens.tolist().index(EOS) + 1
        asked = torch.tensor([[49, *tokens[1:length].tolist()]])
        features = network.dual.text_encoder(asked, memory=network.encode_memory(image[None])).features
        torch.testing.assert_close(found[row], network.head(features[0, 0]))
    assert TOKENS[:, 0].tolist() == [2, 2, 2]  # the tokens of the caller stay
    assert (found[0] - network.match(network.encode_memory(IMAGES[1:2]), TOKENS[:1])[0]).abs().max() > 1e-3


def test_embeddings_look_at_no_picture_and_keep_their_first_token():
    network = make("matcher")
    features = network.dual.text_encoder(TOKENS).features
    torch.testing.assert_close(network.encode_text(TOKENS), network.dual.text_projection(features[:, 0]))


def test_an_answer_looks_at_the_question_and_not_at_its_padding():
    network = make("answerer")
    answer = torch.tensor([[48, 5, 6, 7]]).expand(3, -1)
    memory = network.encode_question(IMAGES, TOKENS)
    assert memory.padding_mask.sum(1).tolist() == [8, 4, 3]
    together = network.decode(answer, memory)
    for row in range(3):
        alone = TOKENS[row : row + 1, : TOKENS[row].tolist().index(EOS) + 1]
        memory = network.encode_question(IMAGES[row : row + 1], alone)
        torch.testing.assert_close(together[row], network.decode(answer[:1], memory)[0], atol=1e-5, rtol=1e-5)
    other = network.decode(answer, network.encode_question(IMAGES, TOKENS.roll(1, 0)))
    assert (together - other).abs().amax((1, 2)).min() > 1e-3


def test_token_by_token_with_the_cache():
    network = make("captioner")
    tokens = torch.randint(4, 48, (3, 6), generator=torch.Generator().manual_seed(2))
    memory = network.encode_memory(IMAGES)
    cache = network.new_cache(memory)
    got = torch.cat([network.decode(tokens[:, i : i + 1], cache=cache) for i in range(6)], 1)
    torch.testing.assert_close(got, network.decode(tokens, memory), atol=1e-5, rtol=1e-5)
