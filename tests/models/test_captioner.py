"""The joint pass of a captioner beside its parts, called one by one."""

import math

import pytest
import torch
from torch import nn

from multimodal.decoders import TextDecoderConfig
from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.models import Captioner, CaptionerConfig, build, network_config, network_table

CONFIG = CaptionerConfig(
    ImageEncoderConfig(32, patch_size=16, width=32, layers=2, heads=2),
    TextEncoderConfig(50, 8, width=24, layers=2, heads=2, eos_id=49),
    16,
    decoder=TextDecoderConfig(50, 8, width=40, layers=2, heads=4),
)
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randint(50, (4, 8), generator=torch.Generator().manual_seed(2))


@pytest.fixture
def model() -> Captioner:
    torch.manual_seed(0)
    model = build(CONFIG).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:  # spread, so that pictures and texts matter
            nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize(
    "captioning", [None, [True, False, True, True], [False] * 4], ids=["all", "some", "none"]
)
def test_forward_is_its_parts_one_by_one(model, captioning):
    rows = torch.ones(4, dtype=torch.bool) if captioning is None else torch.tensor(captioning)
    output = model(IMAGES, TOKENS, None if captioning is None else rows)

    torch.testing.assert_close(output.dual.image_embeddings, model.encode_image(IMAGES, normalize=True))
    torch.testing.assert_close(output.dual.text_embeddings, model.encode_text(TOKENS, normalize=True))
    torch.testing.assert_close(output.dual.image_embeddings.norm(dim=1), torch.ones(4))
    assert output.dual.scale == model.dual.logit_scale.exp()
    assert output.logits.shape == (int(rows.sum()), 7, 50)
    one_by_one = [
        model.decode(TOKENS[i : i + 1, :-1], model.encode_memory(IMAGES[i : i + 1]))
        for i in rows.nonzero().flatten()
    ]
    torch.testing.assert_close(output.logits, torch.cat([torch.empty(0, 7, 50), *one_by_one]))


def test_the_picture_matters_to_the_decoder(model):
    logits = model(IMAGES, TOKENS[:1].expand(4, -1)).logits
    assert (logits[0] - logits[1]).abs().max() > 1e-2


def test_the_image_is_encoded_once(model):
    calls = []
    model.dual.image_encoder.register_forward_hook(lambda *_: calls.append(1))
    model(IMAGES, TOKENS)
    assert len(calls) == 1


def test_rows_without_a_caption_teach_the_decoder_nothing(model):
    images = IMAGES.clone().requires_grad_()
    model(images, TOKENS, torch.tensor([True, False, True, False])).logits.square().sum().backward()
    reached = images.grad.flatten(1).abs().amax(1) > 0
    assert reached.tolist() == [True, False, True, False]


@torch.no_grad()
def test_token_by_token_with_the_cache(model):
    memory = model.encode_memory(IMAGES)
    cache = model.new_cache(memory)
    got = torch.cat([model.decode(TOKENS[:, i : i + 1], cache=cache) for i in range(7)], 1)
    torch.testing.assert_close(got, model(IMAGES, TOKENS).logits, atol=1e-4, rtol=1e-4)


def test_the_decoder_looks_at_the_width_of_the_image_encoder(model):
    assert all(block.cross.kv.in_features == 32 for block in model.decoder.blocks)
    assert model.encode_memory(IMAGES).features.shape == (4, 4, 32)


def test_from_a_table_and_back():
    assert network_config(network_table(CONFIG)) == CONFIG


def test_the_scale_is_the_dual_encoders(model):
    with torch.no_grad():
        model.logit_scale.fill_(3)
    assert model.scale.item() == pytest.approx(math.exp(3))
    assert model.dual.logit_scale.item() == 3
