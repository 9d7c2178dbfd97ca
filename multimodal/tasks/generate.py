"""Text from a decoder: captions of images, and text from text.

B = batch, P = tokens of the prompt
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, overload

import torch
from torch import Tensor

from multimodal.config import check_at_least
from multimodal.generation import Greedy, Strategy, with_defaults
from multimodal.models import Generates
from multimodal.results import Caption, Generation, Item, Results
from multimodal.tasks.batches import Many, Texts, check_finite, results_of, sources_of
from multimodal.tasks.task_model import TaskModel, require


@overload
def caption(
    model: TaskModel, images: Many, strategy: Strategy | None = ..., prompt: str = ..., *, batch_size: int | None = ...
) -> Results[Caption]: ...
@overload
def caption(
    model: TaskModel, images: Any, strategy: Strategy | None = ..., prompt: str = ..., *, batch_size: int | None = ...
) -> Caption | Results[Caption]: ...
def caption(
    model: TaskModel, images: Any, strategy: Strategy | None = None, prompt: str = "", *, batch_size: int | None = None
) -> Caption | Results[Caption]:
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
    generate_text = TextGenerator(model, "caption", strategy, prompt)
    [modality] = generate_text.network.sources

    def caption_batch(batch: Tensor, _: list[int], items: list[Item]) -> list[Caption]:
        texts = generate_text({modality: batch}, [prompt] * len(items))
        return [Caption(*text, item) for text, item in zip(texts, items, strict=True)]

    return results_of(model, modality, sources_of(model, modality, images), caption_batch, batch_size, "captioning")


@overload
def generate(model: TaskModel, texts: str, strategy: Strategy | None = ..., *, batch_size: int = ...) -> Generation: ...
@overload
def generate(
    model: TaskModel, texts: list[str] | tuple[str, ...], strategy: Strategy | None = ..., *, batch_size: int = ...
) -> Results[Generation]: ...
def generate(
    model: TaskModel, texts: Texts, strategy: Strategy | None = None, *, batch_size: int = 32
) -> Generation | Results[Generation]:
    """Continue texts (a decoder alone, such as GPT), or write the output for them (an encoder-decoder, such as T5).

    texts: one gives a `Generation` (`.text`, `.score`, `.prompt`), a list gives `Results` of them.
    strategy: see `caption`. batch_size: texts per forward pass.

    >>> model.generate("a dog is").text  # doctest: +SKIP
    """
    generate_text = TextGenerator(model, "generate", strategy)
    check_at_least(1, batch_size=batch_size)
    prompts = [texts] if isinstance(texts, str) else list(texts)
    results: Results[Generation] = Results()
    for start in range(0, len(prompts), batch_size):
        chunk = prompts[start : start + batch_size]
        if generate_text.network.sources:
            written = generate_text({"text": model.tokenizer(chunk).to(model.device)}, [""] * len(chunk))
        else:
            written = generate_text({}, chunk)
        check_finite(torch.tensor([score for _, score in written]), chunk)
        results += [Generation(prompt, *each) for prompt, each in zip(chunk, written, strict=True)]
    return results[0] if isinstance(texts, str) else results


class TextGenerator:
    """Generates text with the decoder of a model. Mistakes in the settings raise ValueError when it is made.

    ability: what the model must be able to do, such as "caption". strategy: None is `Greedy()`. A setting that it
    leaves open takes the default of the network, and `max_new_tokens` otherwise as many tokens as fit.
    prompt: the longest text that an output begins with.
    """

    def __init__(self, model: TaskModel, ability: str, strategy: Strategy | None = None, prompt: str = "") -> None:
        require(model, ability)
        assert isinstance(model.network, Generates)
        self.network, self.tokenizer, self.device = model.network, model.tokenizer, model.device
        config = self.network.decoder.config
        bos_id = self.tokenizer.bos_id if config.bos_id is None else config.bos_id
        if bos_id is None or self.tokenizer.eos_id is None:
            got = self.tokenizer.to_dict()
            raise ValueError(f"tokenizer: expected a bos_id and an eos_id to generate with, got {got}")
        self.bos_id, self.eos_id = bos_id, self.tokenizer.eos_id
        self.context_length = min(config.context_length, self.tokenizer.context_length)
        self.strategy: Strategy = Greedy() if strategy is None else strategy
        longest = self.context_length - 1
        if self.strategy.max_new_tokens is not None and self.strategy.max_new_tokens > longest:
            raise ValueError(f"max_new_tokens: expected at most {longest}, got {self.strategy.max_new_tokens}")
        self.settled(1 + len(self.tokenizer.encode_batch([prompt])[0]))

    def settled(self, prompt_length: int) -> Strategy:
        """The strategy with all settings filled in; no more tokens than fit after the prompt."""
        room = self.context_length - prompt_length
        if room < 1:
            raise ValueError(f"prompt: expected at most {self.context_length - 1} tokens, got {prompt_length}")
        strategy = with_defaults(self.strategy, {"max_new_tokens": room, **self.network.defaults})
        return replace(strategy, max_new_tokens=min(room, int(strategy.max_new_tokens or room)))  # type: ignore[type-var]

    def __call__(self, inputs: Mapping[str, Tensor], prompts: list[str]) -> list[tuple[str, float]]:
        """For each row of a batch by modality: the text, beginning with its prompt, and the mean log-probability of
        a token after the prompt.
        """
        ids = [[self.bos_id, *row] for row in self.tokenizer.encode_batch(prompts)]
        found: dict[int, tuple[str, float]] = {}
        for length in {len(row) for row in ids}:  # rows of equal length need no padding
            rows = [i for i, row in enumerate(ids) if len(row) == length]
            part = inputs if len(rows) == len(ids) else {name: batch[rows] for name, batch in inputs.items()}
            prompt = torch.tensor([ids[i] for i in rows], device=self.device)  # [B, P]
            found |= zip(rows, self.complete(part, prompt), strict=True)
        return [found[i] for i in range(len(ids))]

    @torch.inference_mode()
    def complete(self, inputs: Mapping[str, Tensor], prompt: Tensor) -> list[tuple[str, float]]:
        """The same for prompts of equal length as tokens [B, P]."""
        decoder, strategy = self.network.decoder, self.settled(prompt.shape[1])
        memory = self.network.memory(inputs)
        cache = decoder.new_cache(prompt.shape[1] + int(strategy.max_new_tokens or 0))
        generated = strategy(
            lambda tokens, cache: decoder(tokens, memory, cache), cache, prompt, self.eos_id, self.tokenizer.pad_id
        )
        rows = torch.cat([prompt[:, 1:], generated.tokens], 1)  # [B, P - 1 + T]
        texts = [self.tokenizer.decode(row) for row in rows.tolist()]
        return list(zip(texts, generated.scores.tolist(), strict=True))
