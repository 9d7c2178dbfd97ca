"""Images and texts in pairs: does a text describe an image, and what is the answer to a question about it?"""

from collections.abc import Callable, Sequence
from typing import Any, overload

from torch import Tensor

from multimodal.generation import Strategy
from multimodal.models import Matches
from multimodal.results import Answer, Item, Match, Result, Results
from multimodal.tasks.batches import Many, Texts, results_of, sources_of
from multimodal.tasks.generate import TextGenerator
from multimodal.tasks.task_model import TaskModel, main_modality, require


@overload
def match(model: TaskModel, images: Many, texts: Texts, *, batch_size: int | None = ...) -> Results[Match]: ...
@overload
def match(model: TaskModel, images: Any, texts: Texts, *, batch_size: int | None = ...) -> Match | Results[Match]: ...
def match(model: TaskModel, images: Any, texts: Texts, *, batch_size: int | None = None) -> Match | Results[Match]:
    """The probability that a text describes an image, from a network that reads both together (BLIP's matching head).

    images, texts: one image with one text gives a `Match` (`.score`, `.text`, `.image`); one image with many texts,
        many images with one text, or equally many of each, in pairs, give `Results` of them.

    Raises ValueError for a model that cannot match.
    """
    require(model, "match")
    network = model.network
    assert isinstance(network, Matches)

    def match_batch(batch: Tensor, asked: list[str], items: list[Item]) -> list[Match]:
        logits = network.match(_pair(model, batch, asked))  # [B, 2]
        scores = logits.float().softmax(-1)[:, 1].tolist()
        return [Match(*each) for each in zip(asked, scores, items, strict=True)]

    return _in_pairs(model, images, texts, batch_size, "matching", match_batch)


@overload
def answer(
    model: TaskModel, images: Many, questions: Texts, strategy: Strategy | None = ..., *, batch_size: int | None = ...
) -> Results[Answer]: ...
@overload
def answer(
    model: TaskModel, images: Any, questions: Texts, strategy: Strategy | None = ..., *, batch_size: int | None = ...
) -> Answer | Results[Answer]: ...
def answer(
    model: TaskModel, images: Any, questions: Texts, strategy: Strategy | None = None, *, batch_size: int | None = None
) -> Answer | Results[Answer]:
    """Answer a question about an image: an `Answer` (`.text`, `.score`, `.question`, `.image`), or `Results` of them.

    Images and questions are paired as in `match`; `strategy` is as in `caption`.
    """
    generate_text = TextGenerator(model, "answer", strategy)

    def answer_batch(batch: Tensor, asked: list[str], items: list[Item]) -> list[Answer]:
        texts = generate_text(_pair(model, batch, asked), len(asked))
        return [Answer(question, *text, item) for question, text, item in zip(asked, texts, items, strict=True)]

    return _in_pairs(model, images, questions, batch_size, "answering", answer_batch)


def _pair(model: TaskModel, batch: Tensor, texts: list[str]) -> dict[str, Tensor]:
    return {main_modality(model): batch, "text": model.tokenizer(texts).to(model.device)}


def _in_pairs(
    model: TaskModel,
    images: Any,
    texts: Texts,
    batch_size: int | None,
    doing: str,
    work: Callable[[Tensor, list[str], list[Item]], list[Result]],
) -> Result | Results[Result]:
    """`work` on batches of images, each with its text; a single image or text goes with all of the others."""
    if not isinstance(texts, str | Sequence):
        raise ValueError(f"texts: expected a str or a list of them, got {type(texts).__name__}")
    modality = main_modality(model)
    sources = sources_of(model, modality, images)
    asked = [texts] if isinstance(texts, str) else list(texts)
    if sources.single and len(asked) > 1:
        sources = sources._replace(items=sources.items * len(asked), names=sources.names * len(asked))
    if len(asked) == 1:
        asked = asked * len(sources.items)
    if len(asked) != len(sources.items):
        raise ValueError(f"texts: expected one, or one for each of {len(sources.items)} images, got {len(asked)}")
    sources = sources._replace(single=sources.single and isinstance(texts, str))

    def on_batch(batch: Tensor, places: list[int], items: list[Item]) -> list[Result]:
        return work(batch, [asked[place] for place in places], items)

    return results_of(model, modality, sources, on_batch, batch_size, doing)
