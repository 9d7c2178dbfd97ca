"""How close captions come to what people wrote: CIDEr-D and BLEU-4, pure Python and numpy.

A caption is one string per image, its references are all sentences of that image. Sentences go through
`words` first; the scores are those of pycocoevalcap on the same words.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from multimodal.evaluation.words import words

N = 4  # the longest n-gram
SIGMA = 6.0  # words of difference in length that CIDEr-D forgives
Ngram = tuple[str, ...]


def cider(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """CIDEr-D of a set of images, the mean of `cider_per_image`."""
    return float(cider_per_image(captions, references).mean())


def cider_per_image(captions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """CIDEr-D [images], 0 to 10 (Vedantam et al. 2015, section 4 and the appendix on CIDEr-D).

    An n-gram weighs as much as its count times log(images / images whose references have it), so a score
    depends on the whole set: compare scores of equal sets only; with one image all weights are 0.
    """
    _check(captions, references)
    reference_counts = [[_ngrams(words(sentence)) for sentence in own] for own in references]
    frequency = Counter(ngram for own in reference_counts for ngram in set().union(*own))
    log_images = math.log(len(references))
    weight = {ngram: log_images - math.log(images) for ngram, images in frequency.items()}

    scores = np.zeros(len(captions))
    for i, (caption, own) in enumerate(zip(captions, reference_counts, strict=True)):
        vector = _Vector(_ngrams(words(caption)), weight, log_images)
        scores[i] = sum(vector.likeness(_Vector(counts, weight, log_images)) for counts in own) / len(own)
    return 10 * scores


class _Vector:
    """The weighted n-grams of one sentence."""

    def __init__(self, counts: Counter[Ngram], weight: dict[Ngram, float], unseen: float) -> None:
        self.values = {ngram: count * weight.get(ngram, unseen) for ngram, count in counts.items()}
        squares = [0.0] * N
        for ngram, value in self.values.items():
            squares[len(ngram) - 1] += value * value
        self.norms = [math.sqrt(square) for square in squares]
        # Pairs of words, as in the reference: one less than the words.
        self.length = sum(count for ngram, count in counts.items() if len(ngram) == 2)

    def likeness(self, reference: "_Vector") -> float:
        """Mean over n of the clipped cosine, times the penalty for another length."""
        dots = [0.0] * N
        for ngram, value in self.values.items():
            other = reference.values.get(ngram)
            if other is not None:
                dots[len(ngram) - 1] += min(value, other) * other  # repeating a word does not pay
        norms = [own * other for own, other in zip(self.norms, reference.norms, strict=True)]
        cosines = [dot / norm for dot, norm in zip(dots, norms, strict=True) if norm > 0]
        return sum(cosines) / N * math.exp(-((self.length - reference.length) ** 2) / (2 * SIGMA**2))


def bleu4(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU-4 of a set of images, 0 to 1 (Papineni et al. 2002): matches and lengths are summed over the set
    first; of several references the one closest in length counts, the shorter of two equally close.
    """
    _check(captions, references)
    matched, made = [0] * N, [0] * N
    length = reference_length = 0
    for caption, own in zip(captions, references, strict=True):
        sentence, own_words = words(caption), [words(reference) for reference in own]
        most: Counter[Ngram] = Counter()
        for reference in own_words:
            most |= _ngrams(reference)  # the largest count of each n-gram in any one reference
        for ngram, count in _ngrams(sentence).items():
            made[len(ngram) - 1] += count
            matched[len(ngram) - 1] += min(count, most[ngram])
        length += len(sentence)
        reference_length += min((abs(len(r) - len(sentence)), len(r)) for r in own_words)[1]
    tiny, small = 1e-15, 1e-9  # the reference's: no division by 0, and 0 matches give 0
    precision = math.prod((m + tiny) / (n + small) for m, n in zip(matched, made, strict=True)) ** (1 / N)
    ratio = (length + tiny) / (reference_length + small)
    return precision * math.exp(min(0.0, 1 - 1 / ratio))


def distinct_captions(captions: Sequence[str]) -> int:
    """How many different sentences there are: a model that says the same of all images is found out."""
    return len({caption.strip() for caption in captions})


def _ngrams(sentence: list[str]) -> Counter[Ngram]:
    return Counter(
        tuple(sentence[start : start + n]) for n in range(1, N + 1) for start in range(len(sentence) - n + 1)
    )


def _check(captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if isinstance(captions, str) or any(isinstance(own, str) for own in references):
        raise ValueError("expected a list of captions and a list of lists of references, got a string")
    if len(captions) != len(references) or not captions:
        raise ValueError(
            "expected one caption for the references of each of at least one image, "
            f"got {len(captions)} captions and references of {len(references)} images"
        )
    for i, own in enumerate(references):
        if not own:
            raise ValueError(f"expected at least one reference for image {i}, got none")
