"""Batches prepared by background processes ahead of the training loop."""

import signal
import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar, cast

import torch
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")
START_METHOD = "fork" if sys.platform == "linux" else None  # None: the default of the platform


def prefetch(make: Callable[[Any], T], arguments: Sequence[Any], workers: int) -> Generator[T, None, None]:
    """`make(a)` for each `a` of `arguments`, in order, from `workers` processes (0: lazily, in this one).

    Forked processes share everything that `make` holds; spawned ones share its tensors and copy the rest. They
    start at once and end with the iterator: exhausted, closed or dropped. Errors of `make` are raised here.
    """
    if workers < 0:
        raise ValueError(f"workers: expected 0 or more, got {workers}")
    loader: DataLoader[T] = DataLoader(
        cast("Dataset[Any]", arguments),
        batch_size=None,
        collate_fn=make,  # is called in the worker, with one argument at a time
        num_workers=workers,
        worker_init_fn=_start_worker,
        multiprocessing_context=START_METHOD if workers else None,
        generator=torch.Generator(),  # the loader draws a seed: keep the global generator untouched
    )
    with warnings.catch_warnings():
        # Python 3.12 warns about forks beside threads; these workers start no threads and wait for none.
        warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # more than cores
        return (item for item in iter(loader))  # a generator can be closed, which drops the loader's iterator


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends the workers
