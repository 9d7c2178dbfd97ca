"""BLIP's networks compared with their parts, put together by hand."""

import pytest
import torch

from multimodal.decoders import TextDecoderConfig
from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.layers import Encoded
from multimodal.models import (
    MODELS,
    BlipAnswererConfig,
    BlipConfig,
    BlipMatcherConfig,
    EncoderDecoderConfig,
    build_model,
)

from .towers import spread

EOS = 3
IMAGE = ImageEncoderConfig(image_size=32, patch_size=16, width=32, layers=2, heads=2)
TEXT = TextEncoderConfig(
    vocab_size=50,
    context_length=8,
    width=24,
    layers=2,
    heads=2,
    causal=False,
    pooling="cls",
    eos_id=EOS,
    norm_order="post",
)
DECODER = TextDecoderConfig(
    vocab_size=50, context_length=12, width=24, layers=2, heads=2, norm_order="post", head="bert", bos_id=48
)
ENCODERS = {"image": IMAGE, "text": TEXT}
CONFIGS = {
    "encoder_decoder": EncoderDecoderConfig(
        encoder=IMAGE, decoder=DECODER, pooled_in_memory=True, generation={"length_penalty": 0.5, "max_new_tokens": 7}
    ),
    "blip_matcher": BlipMatcherConfig(encoders=ENCODERS, embed_dim=16, matching_id=49),
    "blip_answerer": BlipAnswererConfig(
        encoders=ENCODERS, decoder=DECODER, matching_id=49, generation={"length_penalty": 2.0, "max_new_tokens": 5}
    ),
    "blip": BlipConfig(
        encoders=ENCODERS, embed_dim=16, matching_id=49, decoder=DECODER, generation={"max_new_tokens": 6}
    ),
}
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
TOKENS = torch.tensor([[2, 7, 8, 9, 10, 11, 12, EOS], [2, 7, 8, EOS, 0, 0, 0, 0], [2, 20, EOS, 0, 0, 0, 0, 0]])


def make(kind: str):
    torch.manual_seed(0)
    return spread(build_model(CONFIGS[kind])).requires_grad_(False)


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_round_trip(kind):
    config = CONFIGS[kind]
    table = MODELS.to_dict(config)
    assert table["kind"] == kind
    assert MODELS.from_dict(table) == config
    network = build_model(config)
    assert network.config == config
    assert getattr(network, "defaults", {}) == getattr(config, "generation", {})
    assert getattr(network, "matching_id", None) == getattr(config, "matching_id", None)


def class_token_and_patches(network, images=IMAGES):
    encoded = network.encoders["image"](images)
    return torch.stack(
        [torch.cat([pooled[None], patches]) for pooled, patches in zip(encoded.pooled, encoded.features, strict=True)]
    )


@pytest.mark.parametrize("kind", ["encoder_decoder", "blip"])
def test_the_decoder_attends_to_the_class_token_and_the_patches(kind):
    network = make(kind)
    features = class_token_and_patches(network)
    assert features.shape == (3, 1 + 4, 32)
    memory = network.memory({"image": IMAGES})
    assert memory.mask is None
    for block, (key, value) in zip(network.decoder.blocks, memory.layers, strict=True):
        expected = block.cross.project_memory(features)
        torch.testing.assert_close((key, value), expected)


@pytest.mark.parametrize("kind", ["blip_matcher", "blip"])
def test_a_match_equals_one_text_at_a_time_after_the_matching_token(kind):
    network = make(kind)
    found = network.match({"image": IMAGES, "text": TOKENS})
    assert found.shape == (3, 2)
    for row, tokens in enumerate(TOKENS):
        length = tokens.tolist().index(EOS) + 1
        asked = torch.tensor([[49, *tokens[1:length].tolist()]])
        text, features = network.encoders["text"], class_token_and_patches(network, IMAGES[row : row + 1])
        x = text.embedding_norm(text.embedding(asked) + text.positions[:length])
        for block in text.blocks:
            x = block(x, memory=block.cross.project_memory(features))
        torch.testing.assert_close(found[row], network.matching_head(x[0, 0]), atol=1e-5, rtol=1e-5)
    assert TOKENS[:, 0].tolist() == [2, 2, 2]  # the tokens of the caller are not changed
    swapped = network.match({"image": IMAGES.roll(1, 0), "text": TOKENS})
    assert (found - swapped).abs().amax(1).min() > 1e-3


def test_images_that_are_encoded_already_match_the_same():
    network = make("blip_matcher")
    encoded = network.encoders["image"](IMAGES)
    torch.testing.assert_close(network.match_encoded(encoded, TOKENS), network.match({"image": IMAGES, "text": TOKENS}))
    both = make("blip")
    tokens = torch.randint(4, 48, (3, 6))
    torch.testing.assert_close(
        both.decoder(tokens, both.memory_of(both.encoders["image"](IMAGES))).logits,
        both.decoder(tokens, both.memory({"image": IMAGES})).logits,
    )


def test_without_a_matching_id_the_first_token_is_kept():
    network = make("blip_matcher")
    network.matching_id = None
    kept = network.match({"image": IMAGES, "text": TOKENS})
    network.matching_id = 2  # what the texts begin with
    torch.testing.assert_close(network.match({"image": IMAGES, "text": TOKENS}), kept)


@pytest.mark.parametrize("kind", ["blip_matcher", "blip"])
def test_embeddings_use_no_image_and_keep_the_first_token(kind):
    network = make(kind)
    text = network.encoders["text"]
    for row, tokens in enumerate(TOKENS):
        length = tokens.tolist().index(EOS) + 1
        x = text.embedding_norm(text.embedding(tokens[None, :length]) + text.positions[:length])
        for block in text.blocks:
            x = block(x)
        expected = network.projections["text"](x[0, 0])
        torch.testing.assert_close(network.encode("text", TOKENS)[row], expected, atol=1e-5, rtol=1e-5)


def test_an_answer_attends_to_the_question_after_the_matching_token():
    network = make("blip_answerer")
    memory = network.memory({"image": IMAGES, "text": TOKENS})
    asked = torch.cat([torch.full((3, 1), 49), TOKENS[:, 1:]], 1)
    image = class_token_and_patches(network)
    question = network.encoders["text"](asked, memory=Encoded(image, image[:, 0]))
    expected = network.decoder.project_memory(question)
    torch.testing.assert_close(memory.layers, expected.layers)
    assert torch.equal(memory.mask, expected.mask)
    assert TOKENS[:, 0].tolist() == [2, 2, 2]


def test_an_answer_attends_to_the_question_without_its_padding():
    network = make("blip_answerer")
    answer = torch.tensor([[48, 5, 6, 7]]).expand(3, -1)
    memory = network.memory({"image": IMAGES, "text": TOKENS})
    assert memory.mask.sum((1, 2, 3)).tolist() == [8, 4, 3]
    together = network.decoder(answer, memory).logits
    for row in range(3):
        alone = TOKENS[row : row + 1, : TOKENS[row].tolist().index(EOS) + 1]
        memory = network.memory({"image": IMAGES[row : row + 1], "text": alone})
        expected = network.decoder(answer[:1], memory).logits[0]
        torch.testing.assert_close(together[row], expected, atol=1e-5, rtol=1e-5)
    for other in ({"image": IMAGES, "text": TOKENS.roll(1, 0)}, {"image": IMAGES.roll(1, 0), "text": TOKENS}):
        changed = network.decoder(answer, network.memory(other)).logits
        assert (together - changed).abs().amax((1, 2)).min() > 1e-3


@pytest.mark.parametrize("kind", ["encoder_decoder", "blip", "blip_answerer"])
def test_token_by_token_with_the_cache(kind):
    network = make(kind)
    tokens = torch.randint(4, 48, (3, 6), generator=torch.Generator().manual_seed(2))
    memory = network.memory({"image": IMAGES, "text": TOKENS})
    cache = network.decoder.new_cache()
    got = torch.cat([network.decoder(tokens[:, i : i + 1], memory, cache).logits for i in range(6)], 1)
    torch.testing.assert_close(got, network.decoder(tokens, memory).logits, atol=1e-5, rtol=1e-5)
