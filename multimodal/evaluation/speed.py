"""The speed of a model on this machine."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from multimodal.generation import Greedy
from multimodal.model import Model

IMAGES, TEXTS, SIDE = 64, 256, 256  # inputs of one round; pixels
ROUNDS = 3


def measure_speed(model: Model) -> dict[str, float]:
    """Images embedded, texts embedded and, if the model can, captions written per second (greedy).

    Medians of 3 rounds after a warm-up. Images are uint8 tensors [3, 256, 256]: decoding files is not measured.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (IMAGES, 3, 8, 8), generator=generator, dtype=torch.uint8)
    images: list[Any] = list(torch.nn.functional.interpolate(noise, (SIDE, SIDE)))
    texts = [f"a photo of {i} people walking in a street" for i in range(TEXTS)]
    found = {
        "images embedded per second": IMAGES / _seconds(lambda: model.embed_images(images)),
        "texts embedded per second": TEXTS / _seconds(lambda: model.embed_texts(texts)),
    }
    if "caption" in model.can:
        found["captions per second"] = IMAGES / _seconds(lambda: model.caption(images, strategy=Greedy()))
    return {name: round(value, 1) for name, value in found.items()}


def _seconds(work: Callable[[], object]) -> float:
    rounds = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        work()
        rounds.append(time.perf_counter() - start)
    return statistics.median(rounds[1:])
