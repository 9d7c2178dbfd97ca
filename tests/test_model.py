import json

import pytest
import torch

from multimodal.preprocess import ImageTransform


@pytest.fixture
def model(make_model):
    return make_model()


def test_what_it_is(model, make_model):
    assert model.can == {"classify", "search", "caption"}
    assert make_model(decoder=False).can == {"classify", "search"}
    assert model.embed_dim == 16
    assert model.device == torch.device("cpu")
    assert model.dtype == torch.float32
    assert not model.network.training
    assert model.num_parameters == sum(p.numel() for p in model.network.parameters())
    assert model.logit_scale == pytest.approx(2.6593, abs=1e-4)  # ln(1 / 0.07)
    with torch.no_grad():
        model.network.logit_scale.fill_(5.0)  # SigLIP 2 learned more than ln 100
    assert model.logit_scale == pytest.approx(5.0)


def test_to(model, photos):
    assert model.to("cpu") is model
    assert model.to(dtype=torch.bfloat16) is model
    assert model.dtype == torch.bfloat16
    assert model.embed_images(photos).dtype == torch.float32


def test_fingerprint_is_of_the_embedding_space(model, make_model):
    fingerprint = model.fingerprint
    assert len(fingerprint) == 64
    assert int(fingerprint, 16)
    assert make_model(name="renamed").fingerprint == fingerprint
    assert make_model(decoder=False).fingerprint == fingerprint
    assert make_model(seed=1).fingerprint != fingerprint
    assert model.to(dtype=torch.bfloat16).fingerprint == fingerprint
    assert model.to(dtype=torch.float32).fingerprint == fingerprint
    with torch.no_grad():
        model.network.logit_scale.add_(1)
    assert model.fingerprint == fingerprint


def test_fingerprint_changes_with_whatever_changes_embeddings(model, make_model):
    fingerprint = model.fingerprint
    other = make_model()
    other.inputs["image"] = ImageTransform(32, mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3))
    assert other.fingerprint != fingerprint
    for name in ("projections.image.weight", "encoders.text.positions", "encoders.image.norm.bias"):
        other = make_model()
        assert other.fingerprint == fingerprint
        with torch.no_grad():
            other.network.get_parameter(name).view(-1)[0] += 0.5
        assert other.fingerprint != fingerprint


def test_how_it_shows_itself(make_model):
    model = make_model(name="<small>")
    for part in ("<small>", "caption, classify, search", "M", "32 px", "16 dimensions", "cpu, float32"):
        assert part in repr(model)
    assert "\n" not in repr(model)
    page = model._repr_html_()
    assert "&lt;small&gt;" in page
    assert "<small>" not in page
    assert "none" in page  # the card's "data"


def test_results_are_json(model, photos):
    for results in (model.classify(photos, ["cat", "dog"]), model.caption(photos)):
        table = json.loads(json.dumps(results.to_dict()))
        assert len(table["results"]) == 6
        assert table["rejected"] == []
        assert results._repr_html_().count("<img") == 6
        assert len(str(results).splitlines()) == 6
