"""CoCa compared with its parts, called one by one."""

from dataclasses import replace

import pytest
import torch

from multimodal.decoders import TextDecoderConfig
from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.models import MODELS, CoCa, CoCaConfig, build_model

from .towers import spread

CONFIG = CoCaConfig(
    encoders={
        "image": ImageEncoderConfig(image_size=32, patch_size=16, width=32, layers=2, heads=2),
        "text": TextEncoderConfig(vocab_size=50, context_length=8, width=24, layers=2, heads=2, eos_id=49),
    },
    embed_dim=16,
    decoder=TextDecoderConfig(vocab_size=50, context_length=8, width=40, layers=2, heads=4),
)
SHARED = replace(
    CONFIG, decoder=replace(CONFIG.decoder, width=24, heads=2, cross_attention="after_block"), share_text_encoder=True
)
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randint(49, (4, 8), generator=torch.Generator().manual_seed(2))


def make(config: CoCaConfig = CONFIG) -> CoCa:
    torch.manual_seed(0)
    return spread(build_model(config))


@pytest.fixture(params=[CONFIG, SHARED], ids=["own blocks", "shared text encoder"])
def model(request) -> CoCa:
    return make(request.param)


@pytest.mark.parametrize(
    "captioning", [[True] * 4, [True, False, True, True], [False] * 4], ids=["all", "some", "none"]
)
def test_a_joint_pass_equals_its_parts_one_by_one(model, captioning):
    """Each image is encoded once, for its embedding and for the captions of some rows."""
    rows = torch.tensor(captioning).nonzero().flatten()
    encoded = model.encoders["image"](IMAGES)
    logits = model.decoder(TOKENS[rows, :-1], model.memory_of(encoded).select(rows)).logits
    torch.testing.assert_close(
        model.project("image", encoded.pooled, normalize=True), model.encode("image", IMAGES, normalize=True)
    )
    both = model({"image": IMAGES, "text": TOKENS})
    torch.testing.assert_close(both["text"], model.encode("text", TOKENS, normalize=True))
    torch.testing.assert_close(both["image"].norm(dim=1), torch.ones(4))
    assert logits.shape == (len(rows), 7, 50)
    one_by_one = [
        model.decoder(TOKENS[i : i + 1, :-1], model.memory({"image": IMAGES[i : i + 1]})).logits for i in rows
    ]
    torch.testing.assert_close(logits, torch.cat([torch.empty(0, 7, 50), *one_by_one]), atol=1e-4, rtol=1e-4)


def test_the_image_matters_to_the_decoder(model):
    logits = model.decoder(TOKENS[:1].expand(4, -1), model.memory({"image": IMAGES})).logits
    assert (logits[0] - logits[1]).abs().max() > 1e-2


def test_rows_without_a_caption_get_no_gradient(model):
    images = IMAGES.clone().requires_grad_()
    rows = torch.tensor([0, 2])
    memory = model.memory({"image": images}).select(rows)
    model.decoder(TOKENS[rows], memory).logits.square().sum().backward()
    reached = images.grad.flatten(1).abs().amax(1) > 0
    assert reached.tolist() == [True, False, True, False]


@torch.no_grad()
def test_token_by_token_with_the_cache(model):
    memory, cache = model.memory({"image": IMAGES}), model.decoder.new_cache()
    got = torch.cat([model.decoder(TOKENS[:, i : i + 1], memory, cache).logits for i in range(7)], 1)
    expected = model.decoder(TOKENS[:, :-1], memory).logits
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_the_memory_has_the_width_of_the_source(model):
    widths = [block.cross.kv.in_features for block in model.decoder.blocks if block.cross is not None]
    assert widths == [32, 32]
    assert model.config.decoder.memory_width is None  # filled in by the builder


def test_a_shared_text_encoder_is_the_trunk_of_the_decoder():
    model = make(SHARED)
    text = model.encoders["text"]
    assert list(model.decoder.blocks[:2]) == list(text.blocks)
    assert len(model.decoder.blocks) == 2 + 2 * 2
    assert model.decoder.embedding is text.embedding
    assert model.decoder.head.weight is text.embedding.weight
    separate = make()
    assert not {*separate.decoder.parameters()} & {*separate.encoders["text"].parameters()}


@torch.no_grad()
def test_the_source_may_be_any_modality():
    """A decoder that attends to the text: a paraphraser over the same encoders."""
    model = make(replace(CONFIG, source="text"))
    assert model.sources == ("text",)
    memory = model.memory({"text": TOKENS})
    assert memory.mask.shape[0] == 4
    expected = model.decoder.project_memory(model.encoders["text"](TOKENS))
    torch.testing.assert_close(model.decoder(TOKENS, memory).logits, model.decoder(TOKENS, expected).logits)


@pytest.mark.parametrize(
    "config", [CONFIG, SHARED, replace(CONFIG, source="text", logit_bias=-10.0, generation={"max_new_tokens": 7})]
)
def test_round_trip(config):
    assert MODELS.from_dict(MODELS.to_dict(config)) == config
    model = build_model(config)
    assert model.config == config
    assert model.defaults == config.generation
