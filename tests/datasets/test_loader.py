import multiprocessing
import os
import time

import pytest

from multimodal.datasets.loader import prefetch


def product(pair):
    a, b = pair
    return a * b, os.getpid()


def fails_at_three(i):
    if i == 3:
        raise ValueError("sample 3 is spoilt")
    return i


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_order_is_kept(workers):
    arguments = [(i, i + 1) for i in range(20)]
    made = list(prefetch(product, arguments, workers))
    assert [value for value, _ in made] == [a * b for a, b in arguments]
    processes = {process for _, process in made}
    assert len(processes) == max(1, workers)
    assert (os.getpid() in processes) == (workers == 0)


def uneven(i):
    time.sleep(0.02 if i % 2 == 0 else 0)
    return i


def test_a_slow_worker_is_waited_for():
    assert list(prefetch(uneven, range(10), 2)) == list(range(10))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_surfaces_with_its_kind_and_message(workers):
    made = prefetch(fails_at_three, range(6), workers)
    assert [next(made) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="sample 3 is spoilt"):
        next(made)


def test_workers_end_when_the_iterator_is_dropped():
    before = {child.pid for child in multiprocessing.active_children()}
    made = prefetch(uneven, range(10**12), 2)
    assert [next(made) for _ in range(3)] == [0, 1, 2]
    started = {child.pid for child in multiprocessing.active_children()} - before
    assert len(started) == 2
    del made
    deadline = time.monotonic() + 30
    while started & {child.pid for child in multiprocessing.active_children()}:
        assert time.monotonic() < deadline, "the workers are still there"
        time.sleep(0.01)


def test_less_than_no_workers():
    with pytest.raises(ValueError, match="0 or more, got -1"):
        prefetch(product, [], -1)
