"""The grouped, trimmed objective against the plain pass over the whole batch."""

import pytest
import torch
import torch.nn.functional as F

from multimodal.config import fill
from multimodal.datasets import Batch
from multimodal.losses import captioning_loss, info_nce
from multimodal.models import build_model
from multimodal.training.objectives import (
    CaptioningConfig,
    ClassificationConfig,
    ContrastiveConfig,
    MatchingConfig,
    Objective,
    SigmoidConfig,
    TermData,
)
from multimodal.training.objectives.matching import draw_negatives
from tests.training.conftest import table

EOS, VOCAB, LENGTH = 2, 50, 12


@pytest.fixture
def network(make_run):
    config = fill(make_run().model, vocab_size=VOCAB, context_length=LENGTH, eos_id=EOS)
    torch.manual_seed(0)
    return build_model(config)


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
    images = torch.randn(10, 3, 32, 32, generator=generator)
    return Batch({"image": images, "text": tokens}, groups, captioning, labels, [])


DATA = TermData(EOS, ["circle", "square", "star"])


def plain_pass(network, batch):
    """Every row through every part, all the padding included: unit embeddings, logits [B, L - 1, V]."""
    image = network.encoders["image"](batch.inputs["image"])
    embeddings = network.project("image", image.pooled, True)
    texts = network.encode("text", batch.inputs["text"], True)
    logits = network.decoder(batch.inputs["text"][:, :-1], network.memory_of(image)).logits
    return embeddings, texts, logits


def test_terms_match_the_plain_pass(network, batch):
    configs = [
        ContrastiveConfig(weight=0.5),
        CaptioningConfig(weight=2.0, label_smoothing=0.1),
        ClassificationConfig(weight=0.25, label_smoothing=0.1),
    ]
    objective = Objective(network, configs, DATA)
    terms = objective(batch)
    images, texts, caption_logits = plain_pass(network, batch)
    scale = network.logit_scale.exp()
    contrastive = info_nce(images, texts, scale, batch.groups)
    targets = batch.inputs["text"][:, 1:]
    mask = (targets != 0) & batch.captioning[:, None]
    captioning = captioning_loss(caption_logits, targets, mask, 0.1)
    head = objective.terms["classification"].head
    logits = scale * images @ F.normalize(head.weight, dim=-1).T
    known = batch.labels >= 0
    classification = F.cross_entropy(logits[known], batch.labels[known], label_smoothing=0.1)
    expected = {"contrastive": contrastive, "captioning": captioning, "classification": classification}
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, atol=1e-5, rtol=1e-5)
    total = 0.5 * contrastive + 2 * captioning + 0.25 * classification
    torch.testing.assert_close(terms["loss"], total, atol=1e-5, rtol=1e-5)


def test_a_term_of_weight_zero_is_not_computed_and_its_parts_are_frozen(network, batch):
    objective = Objective(network, [ContrastiveConfig(weight=0.0), CaptioningConfig()], DATA)
    terms = objective(batch)
    assert set(terms) == {"loss", "captioning"}
    terms["loss"].backward()
    for name, parameter in objective.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
    assert not any(p.requires_grad for p in network.encoders["text"].parameters())


def test_what_is_frozen_follows_from_the_terms(network):
    objective = Objective(network, [ContrastiveConfig(), CaptioningConfig(), ClassificationConfig()], DATA)
    parts = {
        "contrastive": {"encoders", "projections", "logit_scale"},
        "captioning": {"encoders", "decoder"},
        "classification": {"encoders", "projections", "logit_scale"},
    }
    for kind, expected in parts.items():
        objective.use({kind: 1.0})
        trained = {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad}
        assert trained == expected
        assert any(p.requires_grad for p in network.encoders["text"].parameters()) == (kind == "contrastive")
    objective.use({"contrastive": 1.0}, frozen=["encoders.text", "projections"])
    assert not any(p.requires_grad for p in network.projections.parameters())
    assert not any(p.requires_grad for p in network.encoders["text"].parameters())
    assert all(p.requires_grad for p in network.encoders["image"].parameters())


def test_without_captioned_rows_the_captioning_term_is_zero(network, batch):
    objective = Objective(network, [ContrastiveConfig(), CaptioningConfig()], DATA)
    terms = objective(batch._replace(captioning=torch.zeros(10, dtype=torch.bool)))
    assert terms["captioning"].detach() == 0
    terms["loss"].backward()


def test_what_cannot_be_trained_is_refused(network):
    nothing = TermData(EOS, [])
    for configs, message in (
        ([CaptioningConfig(weight=0.0)], "expected a term with a weight"),
        ([SigmoidConfig()], "expected model.logit_bias"),
        ([ClassificationConfig()], "expected data with labels"),
        ([MatchingConfig()], "expected a model with a matching head"),
        ([CaptioningConfig(), CaptioningConfig()], "expected each kind once"),
    ):
        with pytest.raises(ValueError, match=message):
            Objective(network, configs, nothing)
    with pytest.raises(ValueError, match=r"such as \['encoders', 'projections', 'decoder'\], got 'towers'"):
        Objective(network, [CaptioningConfig()], nothing).use({"captioning": 1.0}, ["towers"])


@pytest.fixture
def blip(make_run):
    model = table()["model"]
    text = model["encoders"]["text"] | {"causal": False, "pooling": "cls", "norm_order": "post"}
    model = model | {"kind": "blip", "encoders": model["encoders"] | {"text": text}, "matching_id": 5}
    config = fill(make_run(model=model).model, vocab_size=VOCAB, context_length=LENGTH, eos_id=EOS)
    torch.manual_seed(0)
    return build_model(config)


def test_matching_against_a_loop_over_pairs(blip, batch, monkeypatch):
    """With known negatives, the loss is the mean cross-entropy of B pairs that match and 2 B that do not."""
    groups = torch.tensor([0, 1, 2, 2, 4, 5, 6, 7, 0, 9])
    wrong = groups[:, None] != groups[None]
    drawn = [wrong.float().argmax(1), wrong.flip(1).float().argmax(1).sub(9).neg()]  # first and last wrong partner
    monkeypatch.setattr("multimodal.training.objectives.matching.draw_negatives", lambda *_: drawn.pop(0))
    texts, images = [column.tolist() for column in drawn]
    loss = Objective(blip, [MatchingConfig()], DATA)(batch)["matching"]

    def pair(image, text):
        return blip.match({"image": batch.inputs["image"][image][None], "text": batch.inputs["text"][text][None]})

    expected = [F.cross_entropy(pair(i, i), torch.tensor([1])) for i in range(10)]
    expected += [F.cross_entropy(pair(i, texts[i]), torch.tensor([0])) for i in range(10)]
    expected += [F.cross_entropy(pair(images[i], i), torch.tensor([0])) for i in range(10)]
    torch.testing.assert_close(loss, torch.stack(expected).mean(), atol=1e-5, rtol=1e-5)


def test_negatives_are_wrong_and_as_likely_as_they_are_similar():
    similarity = torch.tensor([[9.0, 1.0, 0.0, 2.0]]).expand(20_000, -1)
    allowed = torch.tensor([[False, True, True, True]]).expand(20_000, -1)
    torch.manual_seed(0)
    drawn = draw_negatives(similarity, allowed)
    found = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(found[1:], torch.tensor([1.0, 0.0, 2.0]).softmax(0), atol=0.02, rtol=0)
    assert found[0] == 0


def test_a_batch_of_one_group_has_no_negatives(blip, batch):
    same = batch._replace(groups=torch.zeros(10, dtype=torch.int64))
    loss = Objective(blip, [MatchingConfig()], DATA)(same)["matching"]
    logits = blip.match(same.inputs)
    torch.testing.assert_close(loss, F.cross_entropy(logits, torch.ones(10, dtype=torch.int64)), atol=1e-5, rtol=1e-5)
