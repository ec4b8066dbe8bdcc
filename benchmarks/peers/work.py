"""What every program that is measured does. A run's work comes to it as JSON, its one argument.

The work: read JSON objects ``{"ts": ms since 1970, "key": text, "amount": int, …}`` from all partitions of a topic,
from its beginning and for ever; count them and sum ``amount`` for each ``key`` and tumbling window of ``ts``, with
events up to ``out_of_orderness_ms`` out of order; write each window once, when it is over, to the topic of results as a
JSON object ``{"key", "start": ms since 1970, "count", "sum"}``. State is kept, and what was written is committed, every
``checkpoint_ms``.

This is read in peers' own environments too, so nothing but the standard library is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


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


def to_json(work: Work) -> str:
    """The work as text."""
    return json.dumps(asdict(work), default=str)


def from_json(text: str) -> Work:
    """The work that :func:`to_json` wrote."""
    fields = json.loads(text)
    return Work(**{**fields, "folder": Path(fields["folder"])})


def key_fields(work: Work) -> list[str]:
    """The key field of each aggregate: ``key``, ``key_1``, …"""
    return ["key", *(f"key_{number}" for number in range(1, work.aggregates))]


def result(work: Work, aggregate: int, key: str, start: int, count: int, total: int) -> dict[str, Any]:
    """One record of the results; ``start`` is in ms since 1970."""
    number: Mapping[str, int] = {"aggregate": aggregate} if work.aggregates > 1 else {}
    return {**number, "key": key, "start": start, "count": count, "sum": total}
