"""Batches prepared by background processes ahead of the training loop."""

import signal
import sys
import warnings
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")
START_METHOD = "fork" if sys.platform == "linux" else None  # None: the default of the platform


def prefetch(make: Callable[..., T], arguments: Iterable[tuple[Any, ...]], workers: int) -> Generator[T, None, None]:
    """`make(*a)` for each `a` of `arguments`, in order, from `workers` processes (0: lazily, in this one).

    Forked processes share everything that `make` holds; spawned ones share its tensors and copy the rest. They
    start at once and end with the iterator: exhausted, closed or dropped. Errors of `make` are raised here.
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
        multiprocessing_context=START_METHOD,
        generator=torch.Generator(),  # the loader draws a seed: keep the global generator untouched
    )
    with warnings.catch_warnings():
        # Python 3.12 warns about forks beside threads; these workers start no threads and wait for none.
        warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # more than cores
        return (item for item in iter(loader))  # a generator can be closed, which drops the loader's iterator


class _Calls(Dataset[T]):
    """A function as a Dataset."""

    def __init__(self, make: Callable[..., T]) -> None:
        self.make = make

    def __getitem__(self, arguments: tuple[Any, ...]) -> T:
        return self.make(*arguments)


def _unchanged(item: T) -> T:
    return item


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends the workers
