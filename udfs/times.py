"""Event times: from a field's value to milliseconds since 1970, checked against Kafka's timestamp."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

import numpy as np
import numpy.typing as npt

from udfs import reasons
from udfs.reasons import RejectedError
from udfs.spec import MAX_EVENT_TIME_MS, MIN_KAFKA_MS, TimeUnit

UNITS_PER_MS: Final[dict[TimeUnit, tuple[int, int]]] = {
    "ms": (1, 1),
    "s": (1000, 1),
    "us": (1, 1000),
    "ns": (1, 1_000_000),
}
"""Milliseconds are ``value * numerator // denominator``."""

_YEAR_MS = 365 * 86_400_000
FAR_MS = 10 * _YEAR_MS
NEAR_MS = _YEAR_MS

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)


def from_rfc3339(text: str) -> int:
    """Milliseconds of an RFC 3339 time, cut down; raises RejectedError where it is none."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise RejectedError(reasons.EVENT_TIME_OUT_OF_RANGE, f"{text[:60]!r} is not an RFC 3339 time")
    year, month, day, hour, minute, second, fraction, sign, off_hour, off_minute = match.groups()
    try:
        if int(off_hour or 0) > 23 or int(off_minute or 0) > 59:
            raise ValueError("its offset is out of range")
        offset = timedelta(hours=int(off_hour or 0), minutes=int(off_minute or 0))
        # Python has no year 0, which RFC 3339 has: a leap year like the year 4, which is 1461 days later.
        before_python = timedelta(days=1461) if year == "0000" else timedelta()
        moment = datetime(
            int(year) or 4, int(month), int(day), int(hour), int(minute), int(second),
            tzinfo=timezone(-offset if sign == "-" else offset),
        )  # fmt: skip
    except ValueError as error:
        raise RejectedError(reasons.EVENT_TIME_OUT_OF_RANGE, f"{text[:60]!r}: {error}") from error
    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC) - before_python) // timedelta(seconds=1)
    return seconds * 1000 + int((fraction or "0")[:3].ljust(3, "0"))


def to_ms(value: int, unit: TimeUnit) -> int:
    """An integer event time in ``unit`` as milliseconds, cut down."""
    numerator, denominator = UNITS_PER_MS[unit]
    return value * numerator // denominator


def is_time(ms: int) -> bool:
    """Whether a Kafka timestamp can be a time in ms: it is set, and not in seconds, microseconds or nanoseconds."""
    return MIN_KAFKA_MS <= ms <= MAX_EVENT_TIME_MS


def are_times(ms: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """The same for many at once."""
    found: npt.NDArray[np.bool_] = (ms >= MIN_KAFKA_MS) & (ms <= MAX_EVENT_TIME_MS)
    return found


def check(value: int, unit: TimeUnit, time_ms: int, kafka_ms: int, max_ahead_ms: int) -> None:
    """Raise RejectedError where an event time breaks a rule of docs/records.md.

    ``value`` is as it stood in ``unit``; ``time_ms`` the same in milliseconds. It is compared with ``kafka_ms`` only
    where that is a time.
    """
    if time_ms < 0:
        raise RejectedError(reasons.EVENT_TIME_NEGATIVE, f"{value} is before 1970")
    if unit != "rfc3339" and (likely := _likely_unit(value, unit, time_ms, kafka_ms)):
        raise RejectedError(reasons.EVENT_TIME_UNIT, f"{value} looks like {likely}, not {unit}")
    if time_ms > MAX_EVENT_TIME_MS:
        raise RejectedError(reasons.EVENT_TIME_OUT_OF_RANGE, f"{value} {unit} is after the year 9998")
    if is_time(kafka_ms) and time_ms > kafka_ms + max_ahead_ms:
        raise RejectedError(
            reasons.EVENT_TIME_AHEAD, f"{time_ms - kafka_ms} ms ahead of the Kafka timestamp {kafka_ms}"
        )


def _likely_unit(value: int, unit: TimeUnit, time_ms: int, kafka_ms: int) -> TimeUnit | None:
    """The unit in which an event time makes sense that makes none in its own."""
    makes_none = abs(time_ms - kafka_ms) > FAR_MS if is_time(kafka_ms) else not is_time(time_ms)
    if makes_none:
        for other in UNITS_PER_MS:
            other_ms = to_ms(value, other)
            if other != unit and (abs(other_ms - kafka_ms) <= NEAR_MS if is_time(kafka_ms) else is_time(other_ms)):
                return other
    return None


def check_kafka(kafka_ms: int) -> None:
    """Raise RejectedError where a Kafka timestamp, which is the event time, is no time."""
    if not is_time(kafka_ms):
        detail = f"the Kafka timestamp {kafka_ms} is no time in ms between the years 1971 and 9998"
        raise RejectedError(reasons.KAFKA_TIMESTAMP, detail)


def to_rfc3339(ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339 in UTC, with milliseconds only where there are some."""
    text = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{ms % 1000:03d}Z" if ms % 1000 else f"{text}Z"
