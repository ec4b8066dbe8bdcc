"""What every program that is measured does, and what the measurement needs of it.

The work: read JSON objects ``{"ts": ms since 1970, "key": text, "amount": int, …}`` from all partitions of a topic,
from its beginning and for ever; count them and sum ``amount`` for each ``key`` and tumbling window of ``ts``, with
events up to ``out_of_orderness_ms`` out of order; write each window once, when it is over, to the topic of results as a
JSON object ``{"key", "start": ms since 1970, "count", "sum"}``. State is kept, and what was written is committed, every
``checkpoint_ms``.

A peer says honestly how strong its guarantee is, and is set up as its own documentation advises for this work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Work:
    """One run. ``slots`` is how many threads (or processes) may process at once. ``folder`` is empty, the run's own,
    and goes with it: state, checkpoints and logs belong there. Times are in milliseconds.

    ``event_time`` is ``field`` (``ts`` in the value) or ``kafka`` (the record's timestamp, which is the same).
    ``aggregates`` is how many such aggregates are computed of the same records, numbered from 0, the number being
    ``"aggregate"`` in a result where there are several; the one numbered i has ``key`` for i = 0, else ``key_i``, a
    field of the value.
    """

    bootstrap_servers: str
    source: str
    results: str
    folder: Path
    slots: int = 1
    window_ms: int = 60_000
    out_of_orderness_ms: int = 5_000
    checkpoint_ms: int = 5_000
    event_time: str = "field"
    aggregates: int = 1


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


class Peer(Protocol):
    """A program, of which runs can be started."""

    @property
    def about(self) -> About:
        """What it is."""

    def prepare(self) -> None:
        """Fetch and build what it needs into its own folder, where that has not been done."""

    def start(self, work: Work) -> Running:
        """Start a run, which reads by itself from now on. Raises SurecountError where it does not start."""
