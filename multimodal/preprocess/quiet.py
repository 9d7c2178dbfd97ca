"""Silence for the warnings of one thread, whatever the other threads do.

`warnings.catch_warnings` swaps the filters of the whole process: two threads that enter and leave it in
turn leave the wrong ones behind. Here one filter stays in the list, and matches only in a thread that asked.
"""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_thread = threading.local()


class _Asked:
    """In place of the pattern of a filter: matches in a thread that asked for silence."""

    def match(self, text: str) -> bool:
        return getattr(_thread, "quiet", False)


_newest: Any = None


@contextmanager
def quiet() -> Iterator[None]:
    """No warning of this thread is shown, recorded or raised inside; those of other threads are untouched."""
    _put_in_front()
    before, _thread.quiet = getattr(_thread, "quiet", False), True
    try:
        yield
    finally:
        _thread.quiet = before


def _put_in_front() -> None:
    """Our filter has to come before any that shows or raises; the list may have been changed or swapped."""
    global _newest
    filters: Any = warnings.filters
    if filters and isinstance(filters[0][1], _Asked):
        return
    fresh = ("ignore", _Asked(), Warning, None, 0)
    filters.insert(0, fresh)  # before the older one goes: there is never a moment without
    older, _newest = _newest, fresh
    with suppress(ValueError):  # it was in a list that is no longer used
        filters.remove(older)
