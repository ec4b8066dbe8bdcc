"""What the measurement needs of a program.

It says honestly how strong its guarantee is, and is set up as its own documentation advises for this work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import orjson

from benchmarks.peers.work import Work

Result = tuple[int, str, int, int, int]
"""One window of one key: the aggregate's number, the key, the start in ms since 1970, count and sum."""


@dataclass(frozen=True)
class About:
    """What a peer is. ``guarantee`` is that of the results: ``exactly-once``, ``at-least-once`` or ``none``.
    ``reason`` says why, where it is not the first. ``supports`` are the fields of :class:`Work` that it can vary."""

    name: str
    version: str
    guarantee: str
    reason: str = ""
    supports: frozenset[str] = frozenset({"slots", "event_time", "aggregates"})


class Running(Protocol):
    """A run that goes on."""

    def processes(self) -> Iterable[int]:
        """Pids of what does the work now, without brokers; their children are counted with them."""

    def check(self) -> None:
        """Raise SurecountError, with the end of its log, where it has failed."""

    def stop(self) -> None:
        """End it; nothing is left running when this returns. Nothing where it has ended."""


class Peer(ABC):
    """A program, of which runs can be started."""

    sentinel_per_key = False
    """Whether a key's windows end by that key's own events only."""

    @property
    @abstractmethod
    def about(self) -> About:
        """What it is."""

    def prepare(self) -> None:  # noqa: B027  # nothing, for most
        """Fetch and build what it needs into its own folder, where that has not been done."""

    @abstractmethod
    def start(self, work: Work) -> Running:
        """Start a run, which reads by itself from now on. Raises SurecountError where it does not start."""

    def parse(self, value: bytes) -> Result:
        """One of its results. ValueError or KeyError where it is none."""
        found = orjson.loads(value)
        return found.get("aggregate", 0), found["key"], found["start"], found["count"], found["sum"]

    def leftovers(self, work: Work) -> Iterable[str]:  # noqa: ARG002
        """Topics that a run leaves beside its results."""
        return ()
