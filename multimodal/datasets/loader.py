"""Batches made ahead of the training loop by background processes."""

import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")


def made_ahead(make: Callable[..., T], arguments: Iterable[tuple[Any, ...]], workers: int) -> Iterator[T]:
    """`make(*a)` for each `a` of `arguments`, in order, by `workers` processes (0: here, when asked for).

    Processes are forked where the platform forks, and share what `make` holds. They end with the iterator.
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
    )
    return iter(loader)


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
