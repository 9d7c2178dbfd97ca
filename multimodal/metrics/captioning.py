"""Caption metrics: CIDEr-D and BLEU-4 in pure Python and NumPy.

Sentences are split by `words` first. The scores match pycocoevalcap on the same words.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from multimodal.metrics.metric import METRICS, Metric
from multimodal.metrics.words import words

N = 4  # longest n-gram
SIGMA = 6.0  # width, in words, of the length penalty of CIDEr-D
Ngram = tuple[str, ...]


class CaptionPredictions(NamedTuple):
    """One caption per image, and all reference sentences of each image."""

    captions: Sequence[str]
    references: Sequence[Sequence[str]]


def cider_per_image(captions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """CIDEr-D of each image, [images], 0 to 10 (Vedantam et al. 2015, section 4 and appendix on CIDEr-D).

    The weight of an n-gram is its count times log(images / images whose references contain it), so a score
    depends on the whole set: compare scores on equal sets only. With one image all weights are 0.
    """
    _check(captions, references)
    reference_counts = [[_ngrams(words(sentence)) for sentence in own] for own in references]
    frequency = Counter(ngram for own in reference_counts for ngram in set().union(*own))
    log_images = math.log(len(references))
    weight = {ngram: log_images - math.log(images) for ngram, images in frequency.items()}

    scores = []
    for caption, own in zip(captions, reference_counts, strict=True):
        vector = _Vector(_ngrams(words(caption)), weight, log_images)
        scores.append(sum(vector.similarity(_Vector(counts, weight, log_images)) for counts in own) / len(own))
    return 10 * np.array(scores)


class _Vector:
    """The TF-IDF vector of the n-grams of one sentence."""

    def __init__(self, counts: Counter[Ngram], weight: dict[Ngram, float], unseen: float) -> None:
        self.values = {ngram: count * weight.get(ngram, unseen) for ngram, count in counts.items()}
        by_length = [[value for ngram, value in self.values.items() if len(ngram) == n] for n in range(1, N + 1)]
        self.norms = [math.sqrt(sum(value * value for value in values)) for values in by_length]
        # Bigrams, as in pycocoevalcap: one fewer than the words.
        self.length = sum(count for ngram, count in counts.items() if len(ngram) == 2)

    def similarity(self, reference: "_Vector") -> float:
        """The mean over n of the clipped cosine, times the length penalty."""
        dots = [0.0] * N
        for ngram, value in self.values.items():
            other = reference.values.get(ngram, 0.0)
            dots[len(ngram) - 1] += min(value, other) * other  # clipped: repeating a word does not pay
        norms = [own * other for own, other in zip(self.norms, reference.norms, strict=True)]
        cosines = [dot / norm for dot, norm in zip(dots, norms, strict=True) if norm > 0]
        return sum(cosines) / N * math.exp(-((self.length - reference.length) ** 2) / (2 * SIGMA**2))


def bleu4(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU-4 of a set of images, 0 to 1 (Papineni et al. 2002).

    Matches and lengths are summed over the set first. The brevity penalty takes the reference closest in
    length, and the shorter one on a tie.
    """
    _check(captions, references)
    matched, total = [0] * N, [0] * N
    length = reference_length = 0
    for caption, own in zip(captions, references, strict=True):
        sentence, own_words = words(caption), [words(reference) for reference in own]
        largest: Counter[Ngram] = Counter()
        for reference in own_words:
            largest |= _ngrams(reference)  # the largest count of each n-gram in any one reference
        for ngram, count in _ngrams(sentence).items():
            total[len(ngram) - 1] += count
            matched[len(ngram) - 1] += min(count, largest[ngram])
        length += len(sentence)
        reference_length += min((abs(len(r) - len(sentence)), len(r)) for r in own_words)[1]
    tiny, small = 1e-15, 1e-9  # as in pycocoevalcap: no division by 0, and 0 matches give 0
    precision = math.prod((m + tiny) / (n + small) for m, n in zip(matched, total, strict=True)) ** (1 / N)
    ratio = (length + tiny) / (reference_length + small)
    return precision * math.exp(min(0.0, 1 - 1 / ratio))


def distinct_captions(captions: Sequence[str]) -> int:
    """The number of different captions: low if a model repeats itself."""
    return len({caption.strip() for caption in captions})


def _ngrams(sentence: list[str]) -> Counter[Ngram]:
    return Counter(
        tuple(sentence[start : start + n]) for n in range(1, N + 1) for start in range(len(sentence) - n + 1)
    )


def _check(captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if isinstance(captions, str) or any(isinstance(own, str) for own in references):
        raise ValueError("captions: expected a list of captions and a list of lists of references, got a string")
    if len(captions) != len(references) or not captions:
        raise ValueError(
            "captions: expected one caption per image and at least one image, "
            f"got {len(captions)} captions and references of {len(references)} images"
        )
    for i, own in enumerate(references):
        if not own:
            raise ValueError(f"references: expected at least one for image {i}, got none")


METRICS.register("CIDEr", Metric("caption", lambda found: cider_per_image(*found)))
METRICS.register("BLEU-4", Metric("caption", lambda found: bleu4(*found)))
METRICS.register("distinct_captions", Metric("caption", lambda found: distinct_captions(found.captions), "count"))
