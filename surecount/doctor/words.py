"""How rules say numbers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from surecount.ops.snapshots import Place

_SHOWN = 5
_LAST_MS = 253_402_300_799_000


def about(ms: float) -> str:
    """A span as people say it: 40 s, 12 min, 3 h, 2 d."""
    seconds = max(0, round(ms / 1000))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def moment(ms: int) -> str:
    """A time in ms since 1970, as RFC 3339 has it; those beyond the year 9999 as that."""
    return datetime.fromtimestamp(min(ms, _LAST_MS) / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def listed(names: Iterable[object]) -> str:
    """Some names, and how many more."""
    texts = [str(name) for name in names]
    more = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def places(found: Iterable[Place]) -> str:
    """Partitions by topic: shop.orders 0, 3."""
    by_topic: dict[str, list[int]] = {}
    for topic, partition in sorted(found):
        by_topic.setdefault(topic, []).append(partition)
    return "; ".join(f"{topic} {listed(numbers)}" for topic, numbers in by_topic.items())
