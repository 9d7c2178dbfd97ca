"""Text from a decoder: what captions, answers and continuations have in common.

B = batch, P = tokens of the prompt
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from multimodal.generation import Greedy, Strategy, with_defaults
from multimodal.tasks.task_model import TaskModel, generator


class TextGenerator:
    """Generates text with the decoder of a model. Mistakes in the settings raise ValueError when it is made.

    strategy: None is `Greedy()`. A setting that it leaves open takes the default of the network, and
    `max_new_tokens` otherwise as many tokens as fit. prompt: text that every output begins with.
    """

    def __init__(self, model: TaskModel, strategy: Strategy | None = None, prompt: str | None = None) -> None:
        self.network, self.tokenizer, self.device = generator(model), model.tokenizer, model.device
        config = self.network.decoder.config
        self.bos_id = self.tokenizer.bos_id if config.bos_id is None else config.bos_id
        if self.bos_id is None or self.tokenizer.eos_id is None:
            raise ValueError(
                f"tokenizer: expected a bos_id and an eos_id to generate with, got {self.tokenizer.to_dict()}"
            )
        self.eos_id = self.tokenizer.eos_id
        self.context_length = min(config.context_length, self.tokenizer.context_length)
        self.strategy: Strategy = Greedy() if strategy is None else strategy
        longest = self.context_length - 1
        if self.strategy.max_new_tokens is not None and self.strategy.max_new_tokens > longest:
            raise ValueError(f"max_new_tokens: expected at most {longest}, got {self.strategy.max_new_tokens}")
        self.prompt = self.prompt_ids(prompt)
        self.settled(len(self.prompt))

    def prompt_ids(self, prompt: str | None) -> list[int]:
        """bos, and the tokens of the prompt."""
        ids = self.tokenizer.encode_batch([prompt])[0] if prompt else []
        return [int(self.bos_id or 0), *ids]

    def settled(self, prompt_length: int) -> Strategy:
        """The strategy with all settings filled in; no more tokens than fit after the prompt."""
        room = self.context_length - prompt_length
        if room < 1:
            raise ValueError(f"prompt: expected at most {self.context_length - 1} tokens, got {prompt_length}")
        strategy = with_defaults(self.strategy, {"max_new_tokens": room, **self.network.defaults})
        return replace(strategy, max_new_tokens=min(room, int(strategy.max_new_tokens or room)))  # type: ignore[type-var]

    def __call__(self, inputs: Mapping[str, Tensor], count: int) -> list[tuple[str, float]]:
        """For each of `count` rows of a batch by modality: the text, and its mean log-probability per token."""
        prompt = torch.tensor([self.prompt] * count, device=self.device).reshape(count, -1)  # [B, P]
        return self.complete(prompt, inputs)

    def continue_prompts(self, prompts: Sequence[str]) -> list[tuple[str, float]]:
        """The same for a decoder alone: each prompt with its continuation."""
        ids = [self.prompt_ids(prompt) for prompt in prompts]
        found: dict[int, tuple[str, float]] = {}
        for length in sorted({len(row) for row in ids}):  # rows of equal length need no padding
            rows = [i for i, row in enumerate(ids) if len(row) == length]
            prompt = torch.tensor([ids[i] for i in rows], device=self.device)  # [B, P]
            found |= dict(zip(rows, self.complete(prompt, {}), strict=True))
        return [found[i] for i in range(len(ids))]

    @torch.inference_mode()
    def complete(self, prompt: Tensor, inputs: Mapping[str, Tensor]) -> list[tuple[str, float]]:
        """prompt [B, P] -> texts, beginning with the prompt, and scores of what follows it"""
        decoder, strategy = self.network.decoder, self.settled(prompt.shape[1])
        memory = self.network.memory(inputs)
        cache = decoder.new_cache(prompt.shape[1] + int(strategy.max_new_tokens or 0))
        generated = strategy(
            lambda tokens, cache: decoder(tokens, memory, cache), cache, prompt, self.eos_id, self.tokenizer.pad_id
        )
        rows = torch.cat([prompt[:, 1:], generated.tokens], 1)  # [B, P - 1 + T]
        texts = [self.tokenizer.decode(row) for row in rows.tolist()]
        return list(zip(texts, generated.scores.tolist(), strict=True))
