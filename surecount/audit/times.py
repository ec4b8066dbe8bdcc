"""RFC 3339 and milliseconds since 1970, by the arithmetic of the Gregorian calendar."""

from __future__ import annotations

import re
from functools import lru_cache

DAY_MS = 86_400_000
FOREVER = 1 << 62
NEVER = -FOREVER
"""ms since 1970, after and before all that records say."""

_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def parse_rfc3339(text: str) -> int | None:
    """Whole milliseconds since 1970, cut down, negative before; None for a text that is no such time.

    Any offset up to 23:59 counts, leap seconds do not.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    date, hour, minute, second, fraction, sign, offset_hour, offset_minute = match.groups()
    days = _days(date)
    hours, minutes, seconds = int(hour), int(minute), int(second)
    if days is None or hours > 23 or minutes > 59 or seconds > 59:
        return None
    ms = days * DAY_MS + hours * 3_600_000 + minutes * 60_000 + seconds * 1_000
    if fraction:
        ms += int(fraction[:3].ljust(3, "0"))
    if sign:
        ahead_hours, ahead_minutes = int(offset_hour), int(offset_minute)
        if ahead_hours > 23 or ahead_minutes > 59:
            return None
        ahead = ahead_hours * 3_600_000 + ahead_minutes * 60_000
        ms += ahead if sign == "-" else -ahead
    return ms


def format_rfc3339(ms: int) -> str:
    """The UTC time at ``ms`` >= 0, with milliseconds only where it has some."""
    days, rest = divmod(ms, DAY_MS)
    seconds, millis = divmod(rest, 1_000)
    fraction = f".{millis:03}" if millis else ""
    return f"{_date(days)}T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction}Z"


@lru_cache(maxsize=4096)
def _days(date: str) -> int | None:
    year, month, day = int(date[:4]), int(date[5:7]), int(date[8:])
    if not 1 <= month <= 12 or not 1 <= day <= _MONTH_DAYS[month - 1] + (month == 2 and _is_leap(year)):
        return None
    months = sum(_MONTH_DAYS[: month - 1]) + (month > 2 and _is_leap(year))
    return _days_before(year) + months + day - 1


@lru_cache(maxsize=4096)
def _date(days: int) -> str:
    year = 1970 + days // 366
    while _days_before(year + 1) <= days:
        year += 1
    rest = days - _days_before(year)
    month = 0
    while rest >= (length := _MONTH_DAYS[month] + (month == 1 and _is_leap(year))):
        rest -= length
        month += 1
    return f"{year:04}-{month + 1:02}-{rest + 1:02}"


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _days_before(year: int) -> int:
    """Days from 1970 to the first day of ``year``; negative before."""
    past = year - 1
    return year * 365 + past // 4 - past // 100 + past // 400 - 719_527
