import json
import math
import pickle
from enum import StrEnum

import numpy as np
import pytest
import torch

from multimodal.generation import Beam, Greedy
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
        ("cat", "expected a list of strings or another ordered collection, got 'cat'"),
        (7, "ordered collection, got 7"),
        (None, "ordered collection, got None"),
        ({"cat", "dog"}, "ordered collection, got {'cat', 'dog'}"),
        (frozenset({"cat"}), "ordered collection, got frozenset"),
        (b"cat", "ordered collection, got b'cat'"),
        (np.array("cat"), "ordered collection"),
        (np.array([["cat", "dog"]]), "ordered collection"),
        (np.arange(3), "non-empty strings, got .*0"),
        (torch.arange(3), "non-empty strings, got tensor"),
        ([["cat"], ["dog"]], "non-empty strings, got .'cat'"),
        ((name for name in ()), "at least one class, got none"),
        ({0: 1}, "class_names.0.: expected a list"),
        ({0: ["cat"]}, "non-empty strings, got 0"),
        ({0.5: "cat"}, "expected .id: name. or .name: .synonyms"),
        ({True: "cat"}, "expected .id: name. or .name: .synonyms"),
        ({0: "cat", "0": "dog"}, "expected .id: name. or .name: .synonyms"),
        ({0: "cat", "one": "dog"}, "expected .id: name. or .name: .synonyms"),
        ({"cat": 0, "dog": 1}, "class_names.'cat'.: expected a list"),
        ({"cat": None}, "class_names.'cat'.: expected a list"),
        (["cat", float("nan")], "non-empty strings, got nan"),
        (["cat", ""], "non-empty strings, got ''"),
        (["cat", " "], "non-empty strings, got ' '"),
        (["cat", 3], "non-empty strings, got 3"),
        (["cat", None], "non-empty strings, got None"),
        ({"cat": "kitten"}, "expected .id: name. or .name: .synonyms.*kitten"),
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
        ([], "at least one, got none"),
        ("a photo", "strings with one '{}', got 'a photo'"),
        (["a photo"], "strings with one '{}', got 'a photo'"),
        (["{} and {}"], "with one"),
        (["{name}"], "with one"),
        ([3], "with one"),
        ([None], "with one"),
        ({"a {}", "the {}"}, "ordered collection"),
        (3, "ordered collection"),
        (lambda name: None, "functions that return a text, got None for 'cat'"),
        ([lambda name: ""], "functions that return a text, got '' for 'cat'"),
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


COLLECTIONS = {
    "tuple": tuple(NAMES),
    "generator": (name for name in NAMES),
    "keys": dict.fromkeys(NAMES).keys(),
    "values": dict(enumerate(NAMES)).values(),
    "array": np.array(NAMES),
    "array of objects": np.array(NAMES, dtype=object),
    "id2label": dict(enumerate(NAMES)),
    "id2label of JSON": {str(i): name for i, name in enumerate(NAMES)},
    "ids of NumPy in another order": {np.int64(i): NAMES[i] for i in (2, 0, 3, 1)},
    "more than nine ids of JSON": {str(i): name for i, name in sorted(zip((9, 10, 100, 1000), NAMES, strict=True))},
    "synonyms in a tuple": dict.fromkeys(NAMES, ()),
    "synonyms in an array": {name: np.array([name]) for name in NAMES},
}


@pytest.mark.parametrize("class_names", COLLECTIONS.values(), ids=COLLECTIONS)
def test_class_names_of_all_kinds(tiny_model, photos, class_names):
    expected = tiny_model.classify(photos / "0.png", NAMES)
    result = tiny_model.classify(photos / "0.png", class_names)
    assert result == expected
    assert type(result.label) is str
    assert result.index == NAMES.index(result.label)
    json.dumps(result.to_dict())


class Animal(StrEnum):
    CAT = "cat"
    DOG = "dog"


def test_class_names_that_are_kinds_of_str(tiny_model, photos):
    expected = tiny_model.classify(photos / "0.png", ["cat", "dog"])
    assert tiny_model.classify(photos / "0.png", list(Animal)) == expected
    assert tiny_model.classify(photos / "0.png", pandas_like(["cat", "dog"])) == expected


def pandas_like(names):
    """Iterable and with `ndim`, as a Series is, but no Sequence."""
    return type("Series", (), {"ndim": 1, "__iter__": lambda self: iter(names), "__len__": lambda self: len(names)})()


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["cat", "dog", "cat"], {"cat": 0, "dog": 1, "cat #2": 2}),
        (["cat", "cat", "cat"], {"cat": 0, "cat #1": 1, "cat #2": 2}),
        (["cat", "cat", "cat #1"], {"cat": 0, "cat #1 #1": 1, "cat #1": 2}),
        (["cat #2", "cat", "cat"], {"cat #2": 0, "cat": 1, "cat #2 #2": 2}),
        ({0: "dog", 1: "cat", 2: "dog"}, {"dog": 0, "cat": 1, "dog #2": 2}),
        (np.array(["fox", "dog", "fox", "dog"]), {"fox": 0, "dog": 1, "fox #2": 2, "dog #3": 3}),
    ],
)
def test_repeated_names_are_classes_of_their_own(tiny_model, photos, names, shown):
    with pytest.warns(UserWarning, match="class_names: . occur more than once") as warned:
        result = tiny_model.classify(photos / "0.png", names)
    assert len(warned) == 1
    listed = list(names.values()) if isinstance(names, dict) else list(names)
    assert set(result.scores) == set(shown)
    assert result.label == listed[result.index]
    assert sum(result.scores.values()) == pytest.approx(1)
    with pytest.warns(UserWarning, match="class_names"):
        embeddings = tiny_model.class_embeddings(names).double()  # [C, D]
    image = tiny_model.embed_images(photos / "0.png")[0].double()
    expected = (math.exp(tiny_model.logit_scale) * embeddings @ image).softmax(0)
    for name, place in shown.items():
        assert result.scores[name] == pytest.approx(float(expected[place]), abs=1e-6)
    assert json.loads(json.dumps(result.to_dict()))["scores"] == dict(result.scores)


def test_imagenet_with_its_two_repeated_names(tiny_model, photos):
    from open_clip import IMAGENET_CLASSNAMES

    with pytest.warns(UserWarning, match="'missile', 'sunglasses'") as warned:
        result = tiny_model.classify(photos / "0.png", IMAGENET_CLASSNAMES, "{}")
    assert len(warned) == 1
    assert len(result.scores) == 1000
    assert IMAGENET_CLASSNAMES[result.index] == result.label
    assert {"missile", "missile #744", "sunglasses", "sunglasses #837"} <= set(result.scores)


TEMPLATE_KINDS = {
    "str": "a photo of a {}",
    "function": lambda name: f"a photo of a {name}",
    "method": "a photo of a {}".format,
    "list of functions": [lambda name: f"a photo of a {name}"],
    "mixed": ["a photo of a {}", lambda name: f"a photo of a {name}"],
    "generator": (text for text in ["a photo of a {}"]),
    "array": np.array(["a photo of a {}"]),
}


@pytest.mark.parametrize("templates", TEMPLATE_KINDS.values(), ids=TEMPLATE_KINDS)
def test_templates_of_all_kinds(tiny_model, templates):
    expected = tiny_model.class_embeddings(NAMES, ["a photo of a {}"])
    torch.testing.assert_close(tiny_model.class_embeddings(NAMES, templates), expected, atol=1e-6, rtol=0)


def test_templates_of_open_clip(tiny_model):
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    expected = tiny_model.class_embeddings(NAMES, "imagenet")
    for templates in (OPENAI_IMAGENET_TEMPLATES, list(OPENAI_IMAGENET_TEMPLATES), ["imagenet"]):
        torch.testing.assert_close(tiny_model.class_embeddings(NAMES, templates), expected, atol=1e-6, rtol=0)


def test_functions_are_told_apart_by_what_they_return(make_model):
    model = make_model()
    model.network.requires_grad_(False)
    counts = count_texts(model)
    article = {"of": "a"}

    def template(name):
        return f"{'an' if name[0] in 'aeiou' else article['of']} {name}"

    names = ["ape", "cat"]
    first = model.class_embeddings(names, template)
    expected = model.embed_texts(["an ape", "a cat"])
    torch.testing.assert_close(first, expected, atol=1e-6, rtol=0)
    before = sum(counts)
    assert torch.equal(model.class_embeddings(names, lambda name: template(name)), first)
    assert sum(counts) == before  # from the cache
    article["of"] = "the"
    torch.testing.assert_close(
        model.class_embeddings(names, template), model.embed_texts(["an ape", "the cat"]), atol=1e-6, rtol=0
    )


def test_scores_are_a_mapping(tiny_model, photos):
    scores = tiny_model.classify(photos / "0.png", NAMES).scores
    plain = {name: scores[name] for name in scores}
    assert dict(scores) == dict(scores.items()) == plain == scores
    assert list(scores.values()) == list(plain.values()) == sorted(plain.values(), reverse=True)
    assert repr(scores) == repr(plain)
    assert all(name in scores for name in NAMES)
    assert "bird" not in scores
    assert scores.get("bird") is None
    best = tiny_model.classify(photos / "0.png", NAMES, top_k=1).scores
    assert len(best) == 1
    for name in set(NAMES) - set(best):
        assert name not in best
        with pytest.raises(KeyError):
            best[name]
    assert pickle.loads(pickle.dumps(scores)) == scores


def test_the_scores_of_many_classes_stay_small(tiny_model):
    names = [f"class {i}" for i in range(21_000)]
    results = tiny_model.classify([np.zeros((8, 8, 3), dtype=np.uint8)] * 8, names, ["{}"])
    arrays = sum(result.scores._values.nbytes + result.scores._order.nbytes for result in results)
    assert arrays <= 8 * 21_000 * 12
    assert len({id(result.scores._names) for result in results}) == 1
    assert len(results[7].scores) == 21_000
    assert sum(results[7].scores.values()) == pytest.approx(1)


@pytest.mark.parametrize("top_k", [np.int8(2), np.int64(2), np.uint16(2)])
def test_whole_numbers_of_numpy(tiny_model, photos, top_k):
    results = tiny_model.classify(photos, NAMES, top_k=top_k, batch_size=top_k)
    assert [len(result.scores) for result in results] == [2] * 6


def spoil(model, which, value):
    parameters = dict(model.network.named_parameters())
    [name] = [name for name in parameters if name.startswith(which)][-1:]
    with torch.no_grad():
        parameters[name].fill_(value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("which", ["projections.image", "encoders.image"])
def test_outputs_that_are_not_finite_name_the_image(make_model, photos, tmp_path, which, value):
    model = make_model()
    spoil(model, which, value)
    for job in (
        lambda path: model.classify(path, NAMES),
        model.embed_images,
        lambda path: model.similarity(path, "a cat"),
        lambda path: model.classify([path, path], NAMES),
        lambda path: model.index(path.parent, tmp_path / "x.db"),
    ):
        with pytest.raises(ValueError, match=r"0\.png: expected finite outputs of the model, got NaN or infinity"):
            job(photos / "0.png")


def test_outputs_that_are_not_finite_name_the_text(make_model, photos):
    model = make_model()
    spoil(model, "projections.text", math.nan)
    for job in (
        lambda: model.embed_texts("a lazy fox"),
        lambda: model.similarity(photos, ["a lazy fox"]),
        lambda: model.classify(photos, ["fox"], "a lazy {}"),
        lambda: model.class_embeddings(["fox"], "a lazy {}"),
    ):
        with pytest.raises(ValueError, match="a lazy fox: expected finite outputs"):
            job()


@pytest.mark.parametrize("strategy", [None, Beam(num_beams=2), Beam(num_beams=np.int64(2)), Greedy(np.int32(3))])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_captions_that_are_not_finite_name_the_image(make_model, photos, strategy, value):
    model = make_model()
    model.caption(photos, strategy)
    spoil(model, "decoder.", value)
    with pytest.raises(ValueError, match=r"1\.png: expected finite outputs"):
        model.caption(photos / "1.png", strategy)
