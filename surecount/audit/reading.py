"""What readings of topics share."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

from surecount.audit.pacing import Place, Run

Progress = Callable[[int, int], None]
"""Gets the offsets that are read, and how many there are to read."""


class Reader(Protocol):
    """What a reading needs of a ``TopicReader``, which says more."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    @property
    def done(self) -> bool: ...

    @property
    def offsets_read(self) -> int: ...

    @property
    def clock(self) -> int | None: ...

    def advance(self, place: Place, clock_ms: int) -> None: ...

    def poll(self) -> list[Run]: ...


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Records make no reference cycles, and looking for some in every batch takes a quarter of the time."""
    usual = gc.get_threshold()
    gc.set_threshold(1_000_000, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
