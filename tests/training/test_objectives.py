"""The grouped, trimmed objective against the plain pass over the whole batch."""

import pytest
import torch
import torch.nn.functional as F

from multimodal.datasets import Batch
from multimodal.losses import captioning_loss, info_nce
from multimodal.models import build
from multimodal.training.config import ObjectiveConfig
from multimodal.training.objectives import Objective
from multimodal.training.start import freeze

EOS, VOCAB, LENGTH = 2, 50, 12


@pytest.fixture
def network(make_run):
    from dataclasses import replace

    config = make_run().model
    config = replace(
        config,
        text=replace(config.text, vocab_size=VOCAB, context_length=LENGTH, eos_id=EOS),
        decoder=replace(config.decoder, vocab_size=VOCAB, context_length=LENGTH),
    )
    torch.manual_seed(0)
    return build(config)


@pytest.fixture
def batch() -> Batch:
    generator = torch.manual_seed(1)
    tokens = torch.randint(3, VOCAB, (10, LENGTH), generator=generator)
    for row, length in enumerate([3, 12, 5, 5, 7, 12, 4, 3, 9, 6]):
        tokens[row, length - 1] = EOS
        tokens[row, length:] = 0
    groups = torch.tensor([0, 1, 2, 2, 4, 5, 6, 7, 0, 9])
    captioning = torch.tensor([True, True, False, True, True, True, False, True, True, True])
    labels = torch.tensor([0, -1, 2, 2, -1, 1, 0, -1, 1, 2])
    return Batch(torch.randn(10, 3, 32, 32, generator=generator), tokens, groups, captioning, labels, [])


def test_terms_are_those_of_the_plain_pass(network, batch):
    config = ObjectiveConfig(contrastive=0.5, captioning=2.0, classification=0.25, label_smoothing=0.1)
    objective = Objective(network, config, EOS, torch.nn.Linear(16, 3, bias=False))
    terms = objective(batch.images, batch)
    plain = network(batch.images, batch.tokens)  # every row, all the padding
    images, texts, scale = plain.dual
    contrastive = info_nce(images, texts, scale, batch.groups)
    targets = batch.tokens[:, 1:]
    mask = (targets != 0) & batch.captioning[:, None]
    captioning = captioning_loss(plain.logits, targets, mask, 0.1)
    logits = scale * images @ F.normalize(objective.label_head.weight, dim=-1).T
    known = batch.labels >= 0
    classification = F.cross_entropy(logits[known], batch.labels[known], label_smoothing=0.1)
    expected = {"contrastive": contrastive, "captioning": captioning, "classification": classification}
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, atol=1e-5, rtol=1e-5)
    total = 0.5 * contrastive + 2 * captioning + 0.25 * classification
    torch.testing.assert_close(terms["loss"], total, atol=1e-5, rtol=1e-5)


def test_a_term_of_weight_zero_is_not_computed_and_its_parts_are_frozen(network, batch):
    objective = Objective(network, ObjectiveConfig(contrastive=0.0), EOS, None)
    terms = objective(batch.images, batch)
    assert set(terms) == {"loss", "captioning"}
    terms["loss"].backward()
    for name, parameter in objective.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
    assert not any(p.requires_grad for p in network.dual.text_encoder.parameters())


def test_without_captioned_rows_the_captioning_term_is_zero(network, batch):
    objective = Objective(network, ObjectiveConfig(), EOS, None)
    terms = objective(batch.images, batch._replace(captioning=torch.zeros(10, dtype=torch.bool)))
    assert terms["captioning"].detach() == 0
    terms["loss"].backward()


def test_what_cannot_be_trained_is_refused(network):
    for config, message in (
        (ObjectiveConfig(contrastive=0.0, captioning=0.0), "expected a term"),
        (ObjectiveConfig(sigmoid=True), "expected model.logit_bias"),
        (ObjectiveConfig(classification=1.0), "expected data with labels"),
    ):
        with pytest.raises(ValueError, match=message):
            Objective(network, config, EOS, None)
    with pytest.raises(ValueError, match=r"such as \['dual', 'decoder'\], got 'towers'"):
        freeze(network, ("towers",))
