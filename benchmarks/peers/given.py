"""How a run's work comes to a peer's program: as JSON, the program's one argument.

It is read in peers' own environments too, so nothing but the standard library is imported here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import Work


def to_json(work: Work) -> str:
    """The work as text."""
    return json.dumps(dataclasses.asdict(work), default=str)


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
