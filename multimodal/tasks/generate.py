"""Captions of images, and text from text."""

from collections.abc import Sequence
from typing import Any, overload

from torch import Tensor

from multimodal.generation import Strategy
from multimodal.results import Caption, Generation, Item, Results
from multimodal.tasks.batches import Many, results_of, sources_of
from multimodal.tasks.task_model import TaskModel, require
from multimodal.tasks.text_generation import TextGenerator


@overload
def caption(
    model: TaskModel, images: Many, strategy: Strategy | None = ..., prompt: str | None = ...,
    *, batch_size: int | None = ...,
) -> Results[Caption]: ...  # fmt: skip
@overload
def caption(
    model: TaskModel, images: Any, strategy: Strategy | None = ..., prompt: str | None = ...,
    *, batch_size: int | None = ...,
) -> Caption | Results[Caption]: ...  # fmt: skip
def caption(
    model: TaskModel, images: Any, strategy: Strategy | None = None, prompt: str | None = None,
    *, batch_size: int | None = None,
) -> Caption | Results[Caption]:  # fmt: skip
    """Write a sentence about each image.

    images: one or many, see `Model`.
    strategy: how tokens are chosen: `Greedy()` (default), `Beam(num_beams=3)`, see `multimodal.generation`.
    prompt: how every caption begins, such as "a photo of".
    batch_size: images per forward pass; by default 32 on a CPU, 256 elsewhere.

    Returns a `Caption` (`.text`, `.score`: mean log-probability per token, `.image`), or `Results` of them. Raises
    ValueError for a model without a decoder and for settings beyond what the model can do.

    >>> model.caption("cat.jpg").text  # doctest: +SKIP
    'a cat is sleeping on a couch.'
    """
    require(model, "caption")
    generate_text = TextGenerator(model, strategy, prompt)
    [modality] = generate_text.network.sources

    def caption_batch(batch: Tensor, _: list[int], items: list[Item]) -> list[Caption]:
        texts = generate_text({modality: batch}, len(items))
        return [Caption(text, score, item) for (text, score), item in zip(texts, items, strict=True)]

    return results_of(model, modality, sources_of(model, modality, images), caption_batch, batch_size, "captioning")


@overload
def generate(model: TaskModel, texts: str, strategy: Strategy | None = ..., *, batch_size: int = ...) -> Generation: ...
@overload
def generate(
    model: TaskModel, texts: list[str] | tuple[str, ...], strategy: Strategy | None = ..., *, batch_size: int = ...
) -> Results[Generation]: ...
def generate(
    model: TaskModel, texts: str | Sequence[str], strategy: Strategy | None = None, *, batch_size: int = 32
) -> Generation | Results[Generation]:
    """Continue texts (a decoder alone, such as GPT), or write the output for them (an encoder-decoder, such as T5).

    texts: one gives a `Generation` (`.text`, `.score`, `.prompt`), a list gives `Results` of them.
    strategy: see `caption`. batch_size: texts per forward pass.

    >>> model.generate("a dog is").text  # doctest: +SKIP
    """
    require(model, "generate")
    generate_text = TextGenerator(model, strategy)
    prompts = [texts] if isinstance(texts, str) else list(texts)
    results: Results[Generation] = Results()
    for start in range(0, len(prompts), batch_size):
        chunk = prompts[start : start + batch_size]
        if generate_text.network.sources:
            tokens = model.tokenizer(chunk).to(model.device)  # [B, L]
            written = generate_text({"text": tokens}, len(chunk))
        else:
            written = generate_text.continue_prompts(chunk)
        results += [Generation(prompt, *each) for prompt, each in zip(chunk, written, strict=True)]
    return results[0] if isinstance(texts, str) else results
