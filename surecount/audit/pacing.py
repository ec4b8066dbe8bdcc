"""Keeping partitions at about the same event time, however unevenly they arrive."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from confluent_kafka import Message

Place = tuple[str, int]
"""A topic and a partition."""


class Run(NamedTuple):
    """Records of one partition in their order; at least one."""

    place: Place
    messages: list[Message]

    @property
    def size(self) -> int:
        """Bytes of the records' values."""
        return sum(map(len, self.messages))


class Pacer:
    """Holds the runs of partitions that are more than ``spread_ms`` ahead of the slowest one.

    A partition's clock is told by ``advance`` as its runs are used. The slowest is looked for among
    ``unfinished`` (which the caller changes as it goes) and those that are held.
    """

    def __init__(self, unfinished: set[Place], spread_ms: int) -> None:
        self._unfinished = unfinished
        self._spread_ms = spread_ms
        self._clocks: dict[Place, int] = {}
        self._held: dict[Place, deque[Run]] = {}
        self.held_bytes = 0

    @property
    def held(self) -> frozenset[Place]:
        """Partitions of which runs are held."""
        return frozenset(self._held)

    @property
    def clock(self) -> int | None:
        """The clock of the slowest partition; None where none has told one."""
        waiting = self._unfinished | self._held.keys()
        return min((self._clocks[place] for place in waiting if place in self._clocks), default=None)

    def advance(self, place: Place, clock_ms: int) -> None:
        """Set a partition's clock; it may go back."""
        self._clocks[place] = clock_ms

    def release(self) -> Run | None:
        """A held run whose turn has come."""
        for place, runs in self._held.items():
            if not self._is_ahead(place):
                run = runs.popleft()
                if not runs:
                    del self._held[place]
                self.held_bytes -= run.size
                return run
        return None

    def admit(self, runs: list[Run]) -> list[Run]:
        """The runs whose turn it is; others are held."""
        admitted = []
        for run in runs:
            if run.place in self._held or self._is_ahead(run.place):
                self._held.setdefault(run.place, deque()).append(run)
                self.held_bytes += run.size
            else:
                admitted.append(run)
        return admitted

    def _is_ahead(self, place: Place) -> bool:
        slowest = self.clock
        return slowest is not None and self._clocks.get(place, slowest) > slowest + self._spread_ms
