"""What is asked of ``surecount generate``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from surecount.config import format_duration, parse_duration
from surecount.errors import SurecountError

MAX_EVENTS = 10**12
_MAX_DISORDER_MS = parse_duration("1 d")


@dataclass(frozen=True)
class Options:
    """The options of one run; raises SurecountError that names the option, its value and the range.

    ``events`` counts the events without copies and bad records. ``keys`` of None is chosen to fit.
    ``rate`` is in events a second; without it they are made as fast as it goes, and ``per_window``
    is then how many events each key has in a window. ``late``, ``bad`` and ``duplicates`` are
    fractions of the events. ``start_ms`` is the first event time, in ms since 1970. ``partitions`` is for
    source topics that don't exist yet. ``huge`` adds values of 5 MB to the bad records. ``pathway`` is the
    one to send on; without it every record goes on all of them. ``skew_ms`` is how far the clocks of two producers in
    three are off, one before and one after the right time: Kafka's timestamps, never event times.
    """

    events: int
    keys: int | None = None
    rate: float | None = None
    seed: int = 0
    late: float = 0.0
    bad: float = 0.0
    duplicates: float = 0.0
    disorder_ms: int = 0
    partitions: int = 4
    start_ms: int | None = None
    per_window: int = 10
    huge: bool = False
    pathway: str | None = None
    skew_ms: int = 0

    def __post_init__(self) -> None:
        _within("--events", self.events, 1, MAX_EVENTS)
        if self.keys is not None:
            _within("--keys", self.keys, 1, self.events)
        if self.rate is not None and not (math.isfinite(self.rate) and 0.001 <= self.rate <= 10_000_000):
            raise SurecountError(f"--rate {self.rate:g} is outside of 0.001 to 10,000,000 events a second")
        _within("--seed", self.seed, 0, 2**63 - 1)
        for option in ("late", "bad", "duplicates"):
            fraction = getattr(self, option)
            # Written so that NaN is outside as well.
            if not 0 <= fraction <= 1:
                raise SurecountError(f"--{option} {fraction:g} is no fraction", "write 0.01 for one in a hundred")
        if not 0 <= self.disorder_ms <= _MAX_DISORDER_MS:
            raise SurecountError(f"--disorder {format_duration(self.disorder_ms)} is outside of 0 s to 1 d")
        if not 0 <= self.skew_ms <= _MAX_DISORDER_MS:
            raise SurecountError(f"--skew {format_duration(self.skew_ms)} is outside of 0 s to 1 d")
        if self.late > 0.5:
            raise SurecountError(
                f"--late {self.late:g} is over 0.5: events are late by those that are on time",
                "write 0.5 at most",
            )
        _within("--partitions", self.partitions, 1, 10_000)
        _within("--per-window", self.per_window, 1, 1_000_000)
        if self.start_ms is not None and self.start_ms < 0:
            raise SurecountError("--start is before 1970", "such event times are rejected")
        if self.huge and not self.bad:
            raise SurecountError("--huge is one kind of bad record", "say how many with --bad, such as --bad 0.001")


def _within(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise SurecountError(f"{option} {value} is outside of {low:,} to {high:,}")


def parse_start(text: str) -> int:
    """Milliseconds since 1970 of ``--start``, an ISO 8601 time; without an offset it is UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise SurecountError(f"--start {text!r} is no time", "write it as 2026-01-31T00:00:00Z") from error
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    # Not timestamp(): a float of seconds can't hold every millisecond exactly.
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
