"""udfs.times: event times in every unit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs import reasons, times
from udfs.reasons import RejectedError

NOW = 1_769_904_000_000


@given(
    st.datetimes(datetime(1970, 1, 3), datetime(9999, 12, 29)),
    st.integers(-1439, 1439),
    st.sampled_from("Tt"),
)
def test_rfc3339_with_any_offset(moment: datetime, offset: int, separator: str) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    expected = (zoned - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert times.from_rfc3339(zoned.isoformat(separator)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "2026-01-31", "2026-01-31T23:59:59", "2026-02-30T00:00:00Z", "2026-01-31T24:00:00Z",
     "2026-01-31T23:59:60Z", "2026-01-31 23:59:59Z", "2026-01-31T23:59:59+24:00", "x", "２026-01-31T23:59:59Z"],
)  # fmt: skip
def test_what_is_no_rfc3339_is_refused(text: str) -> None:
    with pytest.raises(RejectedError) as caught:
        times.from_rfc3339(text)
    assert caught.value.reason == reasons.EVENT_TIME_OUT_OF_RANGE


@given(st.integers(0, times.MAX_EVENT_TIME_MS))
def test_to_rfc3339_reads_back(ms: int) -> None:
    assert times.from_rfc3339(times.to_rfc3339(ms)) == ms


def test_milliseconds_are_written_only_where_there_are_some() -> None:
    assert times.to_rfc3339(1_000) == "1970-01-01T00:00:01Z"
    assert times.to_rfc3339(1_500) == "1970-01-01T00:00:01.500Z"


@pytest.mark.parametrize(
    ("value", "unit", "reason"),
    [
        (-1, "ms", reasons.EVENT_TIME_NEGATIVE),
        (NOW // 1000, "ms", reasons.EVENT_TIME_UNIT),
        (NOW * 1000, "ms", reasons.EVENT_TIME_UNIT),
        (NOW * 1_000_000, "ms", reasons.EVENT_TIME_UNIT),
        (NOW, "s", reasons.EVENT_TIME_UNIT),
        (times.MAX_EVENT_TIME_MS + 1, "ms", reasons.EVENT_TIME_OUT_OF_RANGE),
        (32_472_144_000_000, "ms", reasons.EVENT_TIME_AHEAD),
        (NOW + 60_001, "ms", reasons.EVENT_TIME_AHEAD),
    ],
)
def test_times_that_break_a_rule(value: int, unit: times.TimeUnit, reason: str) -> None:
    with pytest.raises(RejectedError) as caught:
        times.check(value, unit, times.to_ms(value, unit), NOW, 60_000)
    assert caught.value.reason == reason


@pytest.mark.parametrize("value", [0, 1_000_000_000_000, NOW, NOW + 60_000])
def test_old_and_slightly_early_times_pass(value: int) -> None:
    times.check(value, "ms", value, NOW, 60_000)
