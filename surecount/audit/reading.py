"""What readings of topics share."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

from surecount.audit.cut import Cut
from surecount.audit.pacing import Place, Run
from surecount.audit.reader import Ranges, appended_at
from surecount.audit.retention import trimmed

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


def first_appended(cut: Cut, open_reader: Callable[[Ranges], Reader]) -> dict[str, int]:
    """For each output topic that has lost a beginning a time by which what is deleted was there, ms since 1970."""
    wanted = {place: cut.outputs[place] for place in trimmed(cut.outputs)}
    # A partition that has nothing left tells no earlier one.
    found = dict.fromkeys(wanted, cut.at_ms)
    unseen = set(wanted)
    if wanted:
        with open_reader(wanted) as reader:
            while unseen and not reader.done:
                for run in reader.poll():
                    if run.place in unseen:
                        unseen.discard(run.place)
                        found[run.place] = appended_at(run.messages[0])
    return {topic: max(at for place, at in found.items() if place[0] == topic) for topic, _ in found}


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Records make no reference cycles, and looking for some in every batch takes a quarter of the time."""
    usual = gc.get_threshold()
    gc.set_threshold(1_000_000, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
