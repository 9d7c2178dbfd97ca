"""Images and texts in pairs: does a text describe an image, and what is the answer to a question about it?"""

from collections.abc import Iterable, Sequence
from typing import Any, overload

from torch import Tensor

from multimodal.generation import Strategy
from multimodal.models import Matches
from multimodal.preprocess import Sources
from multimodal.results import Answer, Item, Match, Results
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

    modality, (sources, asked) = main_modality(model), _in_pairs(model, images, texts)

    def match_batch(batch: Tensor, places: list[int], items: list[Item]) -> Iterable[Match]:
        chosen = [asked[place] for place in places]
        logits = network.match({modality: batch, "text": model.tokenizer(chosen).to(model.device)})  # [B, 2]
        return map(Match, chosen, logits.float().softmax(-1)[:, 1].tolist(), items)

    return results_of(model, modality, sources, match_batch, batch_size, "matching")


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

    modality, (sources, asked) = main_modality(model), _in_pairs(model, images, questions)

    def answer_batch(batch: Tensor, places: list[int], items: list[Item]) -> list[Answer]:
        chosen = [asked[place] for place in places]
        inputs = {modality: batch, "text": model.tokenizer(chosen).to(model.device)}
        texts = generate_text(inputs, [""] * len(chosen))
        return [Answer(question, *text, item) for question, text, item in zip(chosen, texts, items, strict=True)]

    return results_of(model, modality, sources, answer_batch, batch_size, "answering")


def _in_pairs(model: TaskModel, images: Any, texts: Texts) -> tuple[Sources, list[str]]:
    """As many images as texts; a single image or text goes with all of the others."""
    if not isinstance(texts, str | Sequence):
        raise ValueError(f"texts: expected a str or a list of them, got {type(texts).__name__}")
    sources = sources_of(model, main_modality(model), images)
    asked = [texts] if isinstance(texts, str) else list(texts)
    if sources.single and len(asked) > 1:
        sources = sources._replace(items=sources.items * len(asked), names=sources.names * len(asked))
    if len(asked) == 1:
        asked = asked * len(sources.items)
    if len(asked) != len(sources.items):
        raise ValueError(f"texts: expected one, or one for each of {len(sources.items)} images, got {len(asked)}")
    return sources._replace(single=sources.single and isinstance(texts, str)), asked
