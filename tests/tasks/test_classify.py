import math

import pytest
import torch

from multimodal.results import Classification, Results
from multimodal.tasks import DEFAULT_TEMPLATES
from multimodal.tasks.classify import MAX_CACHED_CLASS_SETS, checked_templates

NAMES = ["cat", "dog", "lazy fox", "grass"]


def by_hand(model, image, words, templates):
    """Probabilities in plain Python: the mean of unit vectors, a softmax over scaled cosines."""
    image = model.embed_images(image)[0].double()
    logits = {}
    for name, synonyms in words.items():
        rows = [model.embed_texts(t.format(w))[0].double() for t in templates for w in synonyms]
        mean = sum(rows) / len(rows)
        logits[name] = math.exp(model.logit_scale) * float(image @ mean / mean.norm())
    top = max(logits.values())
    total = sum(math.exp(value - top) for value in logits.values())
    return {name: math.exp(value - top) / total for name, value in logits.items()}


@pytest.mark.parametrize("templates", [None, ["a photo of a {}"], ["{}", "the {} on grass"]])
def test_as_by_hand(tiny_model, photos, templates):
    results = tiny_model.classify(photos, NAMES, templates=templates, batch_size=4)
    assert isinstance(results, Results)
    assert len(results) == 6
    scores = set()
    for path, result in zip(sorted(photos.rglob("*.png")), results, strict=True):
        expected = by_hand(tiny_model, path, {n: [n] for n in NAMES}, templates or DEFAULT_TEMPLATES)
        assert result.scores == pytest.approx(expected, abs=1e-4)
        assert sum(result.scores.values()) == pytest.approx(1, abs=1e-6)
        assert list(result.scores.values()) == sorted(result.scores.values(), reverse=True)
        assert (result.label, result.score) == next(iter(result.scores.items()))
        assert result.item.name == str(path)
        assert result.image.size == (40, 48)
        scores.add(round(result.score, 6))
    assert len(scores) == 6  # the images differ


def test_one_gives_one(tiny_model, photos):
    one = tiny_model.classify(photos / "0.png", NAMES)
    assert isinstance(one, Classification)
    assert tiny_model.classify([photos / "0.png"], NAMES) == [one]
    assert tiny_model.classify([], NAMES) == []
    assert tiny_model.classify(photos / "0.png", ["cat"]).scores == {"cat": 1.0}


def test_top_k_keeps_probabilities(tiny_model, photos):
    whole = tiny_model.classify(photos / "0.png", NAMES)
    best = tiny_model.classify(photos / "0.png", NAMES, top_k=2)
    assert list(best.scores.items()) == list(whole.scores.items())[:2]
    assert tiny_model.classify(photos / "0.png", NAMES, top_k=100) == whole
    for top_k in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="top_k: expected a whole number of at least 1"):
            tiny_model.classify(photos / "0.png", NAMES, top_k=top_k)


def test_sums_to_one_over_many_classes(tiny_model, photos):
    result = tiny_model.classify(photos / "0.png", [f"class {i}" for i in range(2000)], templates=["{}"])
    assert len(result.scores) == 2000
    assert sum(result.scores.values()) == pytest.approx(1, abs=1e-6)


def test_synonyms(tiny_model, photos):
    words = {"animal": ["cat", "dog"], "plant": [], "cat": ("cat", "cat")}
    expected = {"animal": ["animal", "cat", "dog"], "plant": ["plant"], "cat": ["cat"]}
    result = tiny_model.classify(photos / "0.png", words, templates=["a {}"])
    assert result.scores == pytest.approx(by_hand(tiny_model, photos / "0.png", expected, ["a {}"]), abs=1e-4)
    assert set(result.scores) == set(words)


def test_imagenet_templates_are_those_of_open_clip(tiny_model):
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    patterns = checked_templates("imagenet")
    assert len(patterns) == 80
    assert [p.format("cat") for p in patterns] == [template("cat") for template in OPENAI_IMAGENET_TEMPLATES]
    assert tiny_model.class_embeddings(["cat"], "imagenet").shape == (1, 16)


def test_class_embeddings(tiny_model):
    embeddings = tiny_model.class_embeddings(NAMES)
    assert embeddings.shape == (4, 16)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    expected = embeddings.clone()
    embeddings.zero_()  # the caller's own
    assert torch.equal(tiny_model.class_embeddings(NAMES), expected)


@pytest.mark.parametrize(
    ("class_names", "match"),
    [
        ([], "at least one class, got none"),
        ({}, "at least one class, got none"),
        ("cat", "expected a list or"),
        (7, "expected a list or"),
        (["cat", "dog", "cat"], "each class once, got 'cat' twice"),
        (["cat", ""], "non-empty strings, got ''"),
        (["cat", " "], "non-empty strings, got ' '"),
        (["cat", 3], "non-empty strings, got 3"),
        (["cat", None], "non-empty strings, got None"),
        ({"cat": "kitten"}, "expected a list of synonyms, got 'kitten'"),
        ({"cat": [""]}, "non-empty strings"),
        ({"cat": [1]}, "non-empty strings"),
    ],
)
def test_class_names_that_are_refused(tiny_model, photos, class_names, match):
    with pytest.raises(ValueError, match=match):
        tiny_model.classify(photos, class_names)


@pytest.mark.parametrize(
    ("templates", "match"),
    [
        ([], r"at least one format string in a list, got \[\]"),
        ("a photo of a {}", "expected 'imagenet' or .* in a list, got 'a photo of a {}'"),
        (["a photo"], "exactly one '{}', got 'a photo'"),
        (["{} and {}"], "exactly one"),
        (["{name}"], "exactly one"),
        ([3], "exactly one"),
    ],
)
def test_templates_that_are_refused(tiny_model, photos, templates, match):
    with pytest.raises(ValueError, match=match):
        tiny_model.classify(photos, NAMES, templates=templates)


def count_texts(model):
    """A list that grows by the number of texts of each pass through the text encoder."""
    counts = []
    model.network.projections["text"].register_forward_hook(lambda _, args, __: counts.append(len(args[0])))
    return counts


def test_class_embeddings_are_computed_once(make_model, photos):
    model = make_model()
    model.network.requires_grad_(False)  # as `load` does
    counts = count_texts(model)
    first = model.classify(photos, NAMES)
    assert sum(counts) == len(NAMES) * len(DEFAULT_TEMPLATES)
    assert model.classify(photos, NAMES) == first
    assert sum(counts) == len(NAMES) * len(DEFAULT_TEMPLATES)
    model.classify(photos, NAMES, templates=["{}"])
    model.classify(photos, NAMES[::-1], templates=["{}"])
    assert sum(counts) == len(NAMES) * (len(DEFAULT_TEMPLATES) + 2)
    for i in range(MAX_CACHED_CLASS_SETS):
        model.class_embeddings([f"{i}"], ["{}"])
    assert len(model.class_cache) == MAX_CACHED_CLASS_SETS
    model.classify(photos, NAMES)  # long forgotten
    assert sum(counts) == len(NAMES) * (2 * len(DEFAULT_TEMPLATES) + 2) + MAX_CACHED_CLASS_SETS


@pytest.mark.parametrize("fused", [True, False])
def test_training_makes_the_cache_useless(make_model, fused):
    model = make_model()
    before = model.class_embeddings(NAMES)
    optimizer = torch.optim.AdamW(model.network.parameters(), lr=0.1, fused=fused)
    tokens = model.tokenizer(NAMES)
    model.network.encode("text", tokens).sum().backward()
    optimizer.step()
    after = model.class_embeddings(NAMES)
    assert not torch.allclose(before, after)
    model.class_cache.clear()
    assert torch.equal(model.class_embeddings(NAMES), after)


def test_unreadable_images(tiny_model, photos):
    (photos / "1.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="1 of 6 images could not be used"):
        results = tiny_model.classify(photos, NAMES)
    assert len(results) == 5
    assert [item.name for item in results.rejected] == [str(photos / "1.png")]
    assert not any(result.item.name.endswith("1.png") for result in results)
