"""Batches made ahead of the training loop by background processes."""

import signal
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")
START = "fork" if sys.platform == "linux" else None  # None: as the platform does


def made_ahead(
    make: Callable[..., T], arguments: Iterable[tuple[Any, ...]], workers: int, start: str | None = START
) -> Generator[T, None, None]:
    """`make(*a)` for each `a` of `arguments`, in order, by `workers` processes (0: here, when asked for).

    Forked processes share all that `make` holds; others ("spawn") share its tensors and copy the rest. They
    begin at once and end with the iterator: exhausted, closed or dropped. What `make` raises is raised here.
    """
    if workers < 0:
        raise ValueError(f"workers: expected 0 or more, got {workers}")
    if workers == 0:
        return (make(*argument) for argument in arguments)
    loader: DataLoader[T] = DataLoader(
        _Calls(make),
        batch_size=None,
        sampler=arguments,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=_start_worker,
        multiprocessing_context=start,
        generator=torch.Generator(),  # a loader draws a seed: not from the global generator
    )
    return _closable(iter(loader))


def _closable(items: Iterator[T]) -> Generator[T, None, None]:
    """A generator can be closed; the loader's iterator ends its workers when the generator lets go of it."""
    yield from items


class _Calls(Dataset[T], Generic[T]):
    """A function as the DataLoader wants it."""

    def __init__(self, make: Callable[..., T]) -> None:
        self.make = make

    def __getitem__(self, arguments: tuple[Any, ...]) -> T:
        return self.make(*arguments)


def _unchanged(item: T) -> T:
    return item


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it ends the workers
