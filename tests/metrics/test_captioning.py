"""CIDEr-D and BLEU-4 against pycocoevalcap, and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider

from multimodal.metrics import bleu4, cider_per_image, distinct_captions
from multimodal.metrics.words import words

VOCABULARY = ["a", "dog", "cat", "runs", "on", "the", "red", "mat", "man's", "isn't", "t-shirt", "."]


def cider(captions: list[str], references: list[list[str]]) -> float:
    return float(cider_per_image(captions, references).mean())


def reference_scores(captions: list[str], references: list[list[str]]) -> tuple[float, np.ndarray, float]:
    """CIDEr of the set and of each image, and BLEU-4, computed by pycocoevalcap."""
    res = {i: [" ".join(words(caption))] for i, caption in enumerate(captions)}
    gts = {i: [" ".join(words(text)) for text in own] for i, own in enumerate(references)}
    mean, each = Cider().compute_score(gts, res)
    return float(mean), each, Bleu(4).compute_score(gts, res, verbose=0)[0][3]


def assert_same(captions: list[str], references: list[list[str]]) -> None:
    mean, each, bleu = reference_scores(captions, references)
    assert cider_per_image(captions, references) == pytest.approx(each, abs=1e-9)
    assert cider(captions, references) == pytest.approx(mean, abs=1e-9)
    assert bleu4(captions, references) == pytest.approx(bleu, abs=1e-9)


sentence = st.lists(st.sampled_from(VOCABULARY), min_size=0, max_size=12).map(" ".join)
reference = st.lists(st.sampled_from(VOCABULARY[:-1]), min_size=1, max_size=12).map(" ".join)
image = st.tuples(sentence, st.lists(reference, min_size=1, max_size=5))


@settings(max_examples=150, deadline=None)
@given(st.lists(image, min_size=1, max_size=6))
def test_agrees_with_pycocoevalcap(images: list[tuple[str, list[str]]]) -> None:
    assert_same([caption for caption, _ in images], [own for _, own in images])


def test_agrees_on_many_captions() -> None:
    draw = np.random.default_rng(0)

    def text() -> str:
        return " ".join(f"w{i}" for i in draw.zipf(1.5, draw.integers(3, 15)) % 300)

    references = [[text() for _ in range(5)] for _ in range(200)]
    captions = [own[0] if i % 3 == 0 else own[1][:12] + " " + text() for i, own in enumerate(references)]
    assert_same(captions, references)
    assert 0.5 < cider(captions, references) < 9  # not trivially zero


def test_cider_by_hand() -> None:
    # Two images without a common word: every n-gram weighs log 2. The first caption is its reference: each of
    # the four cosines is 1. The second has 4 of 5 words, 3 of 4 pairs, ... and is one word short:
    # cosine n = m / (sqrt(m) sqrt(m + 1)) with m = 4, 3, 2, 1.
    references = [["a b c d e"], ["f g h i j"]]
    first, second = cider_per_image(["A b c d e!", "f g h i"], references)
    assert first == pytest.approx(10)
    cosines = [math.sqrt(m / (m + 1)) for m in (4, 3, 2, 1)]
    assert second == pytest.approx(10 * sum(cosines) / 4 * math.exp(-1 / 72))


def test_cider_of_two_references_is_their_mean() -> None:
    assert cider_per_image(["a b c d", "x"], [["a b c d", "p q r s"], ["y"]])[0] == pytest.approx(5)


def test_repeating_a_word_does_not_pay() -> None:
    references = [["a b c d e"], ["f g h i j"]]
    once, often = (cider([text, "f"], references) for text in ("a b c d e", "a a a a a"))
    assert often < once / 4


def test_cider_of_a_single_image_is_zero() -> None:
    assert cider(["a b c d"], [["a b c d"]]) == 0


def test_bleu_by_hand() -> None:
    # 5 words against 6: 5 of 5 words, 3 of 4 pairs, 2 of 3 triples, 1 of 2 quadruples; too short by one.
    expected = (1 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25 * math.exp(1 - 6 / 5)
    assert bleu4(["a b c d f"], [["a b c d e f"]]) == pytest.approx(expected, rel=1e-6)
    assert bleu4(["a b c d", "e f g h"], [["a b c d"], ["x", "e f g h"]]) == pytest.approx(1, rel=1e-6)


def test_bleu_uses_the_closest_reference_length_and_the_shorter_on_a_tie() -> None:
    # 5 words against 4 and 6, equally close: the shorter one counts, so there is no penalty.
    expected = (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert bleu4(["a b c d x"], [["p q r s t u", "a b c d"]]) == pytest.approx(expected, rel=1e-6)


def test_empty_captions_score_zero() -> None:
    references = [["a b c d"], ["e f g h"]]
    assert cider(["", "."], references) == 0
    assert bleu4(["", "."], references) == 0


def test_distinct_captions() -> None:
    assert distinct_captions(["a dog", "a dog ", "a cat"]) == 2
    assert distinct_captions([]) == 0


@pytest.mark.parametrize("score", [cider_per_image, bleu4])
def test_wrong_arguments_raise(score) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="2 captions and references of 1 images"):
        score(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="0 captions"):
        score([], [])
    with pytest.raises(ValueError, match="image 1, got none"):
        score(["a", "b"], [["a"], []])
    with pytest.raises(ValueError, match="got a string"):
        score(["a"], ["a"])
