"""Images and texts in pairs: does a text describe an image, and what is the answer to a question about it?"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

from multimodal.generation import Strategy
from multimodal.models import Matches
from multimodal.preprocess import Sources
from multimodal.results import Answer, Item, Match, Results
from multimodal.tasks.batches import batches, items_at, sources_of, warn_rejected
from multimodal.tasks.task_model import TaskModel, main_modality, require
from multimodal.tasks.text_generation import TextGenerator

Many = list[Any] | tuple[Any, ...]
Result = TypeVar("Result", Match, Answer)


@overload
def match(
    model: TaskModel, images: Many, texts: str | Sequence[str], *, batch_size: int | None = None
) -> Results[Match]: ...
@overload
def match(
    model: TaskModel, images: Any, texts: str | Sequence[str], *, batch_size: int | None = None
) -> Match | Results[Match]: ...
def match(
    model: TaskModel, images: Any, texts: str | Sequence[str], *, batch_size: int | None = None
) -> Match | Results[Match]:
    """The probability that a text describes an image, from a network that reads both together (BLIP's matching head).

    images, texts: one image with one text gives a `Match` (`.score`, `.text`, `.image`); one image with many texts,
        many images with one text, or equally many of each, in pairs, give `Results` of them.

    Raises ValueError for a model that cannot match.
    """
    require(model, "match")
    network = model.network
    assert isinstance(network, Matches)

    def match_batch(batch: Tensor, asked: list[str], items: list[Item]) -> list[Match]:
        tokens = model.tokenizer(asked).to(model.device)
        logits = network.match({main_modality(model): batch, "text": tokens}).float()  # [B, 2]
        scores = logits.softmax(-1)[:, 1].tolist()
        return [Match(*each) for each in zip(asked, scores, items, strict=True)]

    return _in_pairs(model, images, texts, batch_size, "matching", match_batch)


@overload
def answer(
    model: TaskModel,
    images: Many,
    questions: str | Sequence[str],
    strategy: Strategy | None = None,
    *,
    batch_size: int | None = None,
) -> Results[Answer]: ...
@overload
def answer(
    model: TaskModel,
    images: Any,
    questions: str | Sequence[str],
    strategy: Strategy | None = None,
    *,
    batch_size: int | None = None,
) -> Answer | Results[Answer]: ...
def answer(
    model: TaskModel,
    images: Any,
    questions: str | Sequence[str],
    strategy: Strategy | None = None,
    *,
    batch_size: int | None = None,
) -> Answer | Results[Answer]:
    """Answer a question about an image: an `Answer` (`.text`, `.score`, `.question`, `.image`), or `Results` of them.

    Images and questions are paired as in `match`; `strategy` is as in `caption`.
    """
    require(model, "answer")
    generate_text = TextGenerator(model, strategy)

    def answer_batch(batch: Tensor, asked: list[str], items: list[Item]) -> list[Answer]:
        tokens = model.tokenizer(asked).to(model.device)
        texts = generate_text({main_modality(model): batch, "text": tokens}, len(asked))
        return [
            Answer(question, text, score, item)
            for question, (text, score), item in zip(asked, texts, items, strict=True)
        ]

    return _in_pairs(model, images, questions, batch_size, "answering", answer_batch)


def _in_pairs(
    model: TaskModel,
    images: Any,
    texts: str | Sequence[str],
    batch_size: int | None,
    doing: str,
    work: Callable[[Tensor, list[str], list[Item]], list[Result]],
) -> Result | Results[Result]:
    """`work` on batches of images, each with its text; a single image or text goes with all of the others."""
    if not isinstance(texts, str | Sequence):
        raise ValueError(f"texts: expected a str or a list of them, got {type(texts).__name__}")
    modality = main_modality(model)
    sources = sources_of(model, modality, images)
    single = sources.single and isinstance(texts, str)
    asked = [texts] if isinstance(texts, str) else list(texts)
    if sources.single and len(asked) > 1:
        count = len(asked)
        sources = Sources(list(sources.items) * count, list(sources.names) * count, sources.strict, False)
    if len(asked) == 1:
        asked = asked * len(sources.items)
    if len(asked) != len(sources.items):
        raise ValueError(f"texts: expected one, or one for each of {len(sources.items)} images, got {len(asked)}")
    results: Results[Result] = Results()
    for places, batch in batches(model, modality, sources, results.rejected, batch_size, doing):
        items = items_at(model, modality, sources, places)
        with torch.inference_mode():
            results += work(batch, [asked[place] for place in places], items)
    warn_rejected(results.rejected, len(sources.items), modality)
    return results[0] if single else results
