"""The records of the kept savepoints: those that had been read when one was taken, and those that come after it."""

from __future__ import annotations

import json
from typing import Any

T0 = 1_790_000_100_000  # starts five minutes
READ, KNOWN, LATE, ALL = 200, 150, 10, 350


def record(number: int, *, late: bool = False) -> dict[str, Any]:
    """An event: one a half second, or where it is ``late``, in the first minute."""
    return {
        "id": f"event {number}",
        "ts": T0 + (number * 10 if late else number * 500),
        "who": ("ada", "bob", 'ç"\\')[number % 3],
        "shard": number % 2,
        "amount": number * 10**17 - 10**18,
        "tax": f"{number - 100}.{number % 100:02}",
        "weight": number * 0.1,
    }


def before() -> list[dict[str, Any]]:
    """What had been read: 100 s of events, so that the first minute is closed, and the second is not."""
    return [record(number) for number in range(READ)]


def after() -> list[dict[str, Any]]:
    """Copies of some of those, then new events, the last of them late."""
    copies = [record(number) for number in range(KNOWN, READ)]
    new = [record(number) for number in range(READ, ALL - LATE)]
    return copies + new + [record(number, late=True) for number in range(ALL - LATE, ALL)]


def closing() -> list[dict[str, Any]]:
    """Two events of ten minutes later."""
    return [record(number) for number in (1_200, 1_201)]


def encode(event: dict[str, Any]) -> bytes:
    """As JSON."""
    return json.dumps(event, ensure_ascii=False).encode()
