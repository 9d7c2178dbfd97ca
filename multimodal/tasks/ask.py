"""Pictures and texts two by two: do they match, and what is the answer to a question about a picture?"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from multimodal.generation import Strategy
from multimodal.models import Answerer, Matcher
from multimodal.preprocess import Sources, resolve
from multimodal.results import Answer, Item, Match, Results
from multimodal.tasks.batches import image_batches, pictures, warn_rejected
from multimodal.tasks.protocol import TaskModel, require
from multimodal.tasks.write import Writing, settings_of


def match(
    model: TaskModel, images: Any, texts: str | Sequence[str], batch_size: int | None = None
) -> Match | Results[Match]:
    """Whether text and picture belong together; see `Model.match`."""
    require(model, "match")
    network = model.network
    assert isinstance(network, Matcher)

    def matched(batch: Tensor, asked: list[str], shown: list[Item]) -> list[Match]:
        tokens = model.tokenizer(asked).to(model.device)
        logits = network.match(network.encode_memory(batch), tokens).float()  # [B, 2]
        scores = logits.softmax(-1)[:, 1].tolist()
        return [
            Match(text, score, picture) for text, score, picture in zip(asked, scores, shown, strict=True)
        ]

    return _paired(model, images, texts, batch_size, "matching", matched)


def answer(
    model: TaskModel,
    images: Any,
    questions: str | Sequence[str],
    num_beams: int = 1,
    max_new_tokens: int | None = None,
    batch_size: int | None = None,
    strategy: Strategy | None = None,
) -> Answer | Results[Answer]:
    """The answer to a question about a picture; see `Model.answer`."""
    require(model, "answer")
    network = model.network
    assert isinstance(network, Answerer)
    length_penalty = None
    if strategy is not None:
        num_beams, max_new_tokens, length_penalty = settings_of(strategy)
    writing = Writing(model, network, num_beams, max_new_tokens, length_penalty)

    def answered(batch: Tensor, asked: list[str], shown: list[Item]) -> list[Answer]:
        tokens = model.tokenizer(asked).to(model.device)
        written = writing(network.encode_question(batch, tokens))
        return [
            Answer(question, text, score, picture)
            for question, (text, score), picture in zip(asked, written, shown, strict=True)
        ]

    return _paired(model, images, questions, batch_size, "answering", answered)


def _paired(
    model: TaskModel,
    images: Any,
    texts: str | Sequence[str],
    batch_size: int | None,
    doing: str,
    work: Callable[[Tensor, list[str], list[Item]], list[Any]],
) -> Any:
    """`work` on each picture with its text: one text goes with every picture, one picture with every text,
    and otherwise there must be as many of the one as of the other."""
    if not isinstance(texts, str | Sequence):
        raise ValueError(f"texts: expected a str or a list of them, got {type(texts).__name__}")
    sources = resolve(images)
    single = sources.single and isinstance(texts, str)
    asked = [texts] if isinstance(texts, str) else list(texts)
    if sources.single and len(asked) > 1:
        sources = Sources(
            list(sources.items) * len(asked), list(sources.names) * len(asked), sources.strict, False
        )
    if len(asked) == 1:
        asked = asked * len(sources.items)
    if len(asked) != len(sources.items):
        raise ValueError(
            f"texts: expected one, or one for each of {len(sources.items)} pictures, got {len(asked)}"
        )
    results: Results[Any] = Results()
    for places, batch in image_batches(model, sources, results.rejected, batch_size, doing):
        with torch.inference_mode():
            results += work(batch, [asked[place] for place in places], pictures(sources, places))
    warn_rejected(results.rejected, len(sources.items))
    return results[0] if single else results
