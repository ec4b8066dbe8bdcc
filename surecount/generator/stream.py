"""The order in which events are sent: late ones held back, others shuffled, copies and bad ones added.

Each record has a send time on the events' own clock; records go out in that order. An event's is its
event time, plus a delay where it is shuffled or late. Every choice comes from (seed, purpose, block),
so an option changes nothing but what it is about.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from surecount.generator.options import Options
from surecount.generator.plan import Ints, Plan

BLOCK = 65_536

ON_TIME, LATE, COPY = -1, -2, -3
"""What a record is; from 0 it is a bad one, and the number counts them."""

_LATE_CHOICE, _COPY_CHOICE, _BAD_CHOICE, _DISORDER, _COPY_DELAY = range(5)


class Records(NamedTuple):
    """Records in the order of sending, as columns of the same length.

    ``event`` is the event's number, ``send_ms`` when it is sent on the events' clock, ``kind`` one of
    ON_TIME, LATE, COPY, or the number of a bad record.
    """

    event: Ints
    send_ms: Ints
    kind: Ints

    def __len__(self) -> int:
        return len(self.event)

    def cut(self, which: slice | Ints | NDArray[np.bool_]) -> Records:
        """Some of them."""
        return Records(self.event[which], self.send_ms[which], self.kind[which])


@dataclass(frozen=True)
class Chances:
    """Fractions of the events, and the seed by which they are picked."""

    seed: int
    late: float
    bad: float
    duplicates: float

    @classmethod
    def of(cls, options: Options) -> Chances:
        """Those of a run."""
        return cls(options.seed, options.late, options.bad, options.duplicates)


def stream(plan: Plan, chances: Chances) -> Iterator[Records]:
    """All records of a run, in blocks; what is held back at the end comes last.

    Memory holds a block, and what is late or shuffled meanwhile.
    """
    # Late events have one and the same delay, so they wait in a queue; others wait for a block or so.
    held: deque[Records] = deque()
    waiting = _none()
    bad = 0
    for first in range(0, plan.events, BLOCK):
        fresh, late = _block(plan, chances, first, min(first + BLOCK, plan.events), bad)
        bad += int(np.count_nonzero(fresh.kind >= 0))
        if len(late):
            held.append(late)
        until = int(plan.times(np.array([min(first + BLOCK, plan.events)]))[0])
        due = [waiting, *_released(held, until), fresh]
        records = _sorted(due)
        # All that is still to come is sent at `until` or later, and stable sorting leaves it behind.
        now = int(np.searchsorted(records.send_ms, until, side="left"))
        waiting = records.cut(slice(now, None))
        if now:
            yield records.cut(slice(0, now))
    rest = _sorted([waiting, *held])
    for first in range(0, len(rest), BLOCK):
        yield rest.cut(slice(first, first + BLOCK))


def _block(plan: Plan, chances: Chances, first: int, last: int, bad: int) -> tuple[Records, Records]:
    """The records of some events but the late ones, in no order, and the late events by send time."""
    event = np.arange(first, last, dtype=np.int64)
    time = plan.times(event)
    send = time
    if plan.disorder_ms:
        send = time + _random(chances, _DISORDER, first).integers(0, plan.disorder_ms, len(event))
    late = _picked(chances, _LATE_CHOICE, chances.late, first, len(event))
    send = np.where(late, time + plan.hold_ms, send)
    parts = [_of_kind(event[~late], send[~late], ON_TIME)]
    held = [_of_kind(event[late], send[late], LATE)]
    copied = _picked(chances, _COPY_CHOICE, chances.duplicates, first, len(event))
    if copied.any():
        delay = _random(chances, _COPY_DELAY, first).integers(0, plan.copy_within_ms + 1, len(event))
        copies = _of_kind(event, send + delay, COPY)
        parts.append(copies.cut(copied & ~late))
        # A late event's copy comes right after it: one queue, one delay.
        held.append(_of_kind(event, send, COPY).cut(copied & late))
    spoiled = _picked(chances, _BAD_CHOICE, chances.bad, first, len(event))
    if spoiled.any():
        numbers = np.arange(bad, bad + int(np.count_nonzero(spoiled)), dtype=np.int64)
        parts.append(Records(event[spoiled], time[spoiled], numbers))
    return _joined(parts), _sorted(held)


def _released(held: deque[Records], until: int) -> Iterator[Records]:
    """Take what is due before ``until`` from the front of the queue."""
    while held and held[0].send_ms[0] < until:
        front = held.popleft()
        due = int(np.searchsorted(front.send_ms, until, side="left"))
        if due < len(front):
            held.appendleft(front.cut(slice(due, None)))
        yield front.cut(slice(0, due))


def _random(chances: Chances, purpose: int, block: int) -> np.random.Generator:
    return np.random.default_rng((chances.seed, purpose, block))


def _picked(chances: Chances, purpose: int, fraction: float, block: int, count: int) -> NDArray[np.bool_]:
    if not fraction:
        return np.zeros(count, dtype=np.bool_)
    return _random(chances, purpose, block).random(count) < fraction


def _of_kind(event: Ints, send: Ints, kind: int) -> Records:
    return Records(event, send, np.full(len(event), kind, dtype=np.int64))


def _none() -> Records:
    empty = np.empty(0, dtype=np.int64)
    return Records(empty, empty, empty)


def _joined(parts: list[Records]) -> Records:
    if len(parts) == 1:
        return parts[0]
    return Records(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _sorted(parts: list[Records]) -> Records:
    """By send time, and at the same time in the order given."""
    records = _joined(parts)
    return records.cut(np.argsort(records.send_ms, kind="stable"))
