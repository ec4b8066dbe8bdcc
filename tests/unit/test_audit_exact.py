"""Exact numbers and times against decimal, fractions and datetime."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surecount.audit import exact, times

FINITE = st.floats(allow_nan=False, allow_infinity=False)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=None), st.integers(0, 38))
def test_unscaled_is_exact_or_none(number: Decimal, scale: int) -> None:
    value = Fraction(number) * 10**scale
    fits = value.denominator == 1 and abs(value) < 10**38
    assert exact.unscaled(str(number), scale) == (int(value) if fits else None)


@pytest.mark.parametrize(
    ("text", "scale", "expected"),
    [
        ("1.50", 1, 15),
        ("-0", 0, 0),
        ("0e99999999999999999999", 2, 0),
        ("1e99999999999999999999", 2, None),
        ("1e-99999999999999999999", 2, None),
        ("1e00000000000000000000002", 0, 100),
        ("12e-1", 1, 12),
        ("12e-1", 0, None),
        ("9" * 38, 0, 10**38 - 1),
        ("1" + "0" * 38, 0, None),
        ("9" * 36 + ".99", 2, 10**38 - 1),
        ("9" * 37 + ".9", 2, None),
        ("+1", 0, 1),
        (".5", 1, 5),
        ("5.", 0, 5),
        ("007", 0, 7),
    ],
)
def test_unscaled(text: str, scale: int, expected: int | None) -> None:
    assert exact.unscaled(text, scale) == expected


@pytest.mark.parametrize("text", ["", ".", "1_0", "1 ", "1e", "e1", "0x1", "NaN", "١", "--1"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="is no number"):
        exact.unscaled(text, 2)


@given(st.integers(-(10**40), 10**40), st.integers(0, 38))
def test_decimal_text(value: int, scale: int) -> None:
    text = exact.decimal_text(value, scale)
    assert Fraction(text) == Fraction(value, 10**scale)
    assert len(text.partition(".")[2]) == scale


@given(st.lists(FINITE, max_size=20))
def test_float_sums_are_exact_and_rounded_once(values: list[float]) -> None:
    total = sum(map(exact.float_units, values))
    assert Fraction(total, 2**1074) == sum(map(Fraction, values), Fraction())
    try:
        assert exact.nearest_float(total) == float(sum(map(Fraction, values), Fraction()))
    except OverflowError:
        assert isinstance(exact.nearest_float(total), int)


@given(st.lists(FINITE, min_size=1, max_size=8), st.integers(1, 8))
def test_rounded_parts_explain_the_sum(values: list[float], cut: int) -> None:
    units = list(map(exact.float_units, values))
    parts = [exact.nearest_float(sum(group)) for group in (units[:cut], units[cut:]) if group]
    residual = sum(units) - sum(map(exact.float_units, parts))
    assert exact.explains(residual, parts)


def test_one_part_has_to_be_the_nearest_double() -> None:
    units = sum(map(exact.float_units, [0.1, 0.2]))
    assert exact.explains(units - exact.float_units(0.30000000000000004), [0.30000000000000004])
    assert not exact.explains(units - exact.float_units(0.3), [0.3])


@given(st.integers(0, 253_402_300_799_999))
def test_times_there_and_back(ms: int) -> None:
    moment = EPOCH + timedelta(milliseconds=ms)
    text = times.format_rfc3339(ms)
    assert datetime.fromisoformat(text) == moment
    assert ("." in text) == bool(ms % 1000)
    assert times.parse_rfc3339(text) == ms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59.9999Z", -1),
        ("2026-01-31T23:59:59.123999999999Z", 1_769_903_999_123),
        ("2024-02-29T00:00:00-00:00", 1_709_164_800_000),
        ("2023-02-29T00:00:00Z", None),
        ("2026-13-01T00:00:00Z", None),
        ("2026-00-01T00:00:00Z", None),
        ("2026-01-01T24:00:00Z", None),
        ("2026-01-01T23:59:60Z", None),
        ("2026-01-01T00:00:00", None),
        ("2026-01-01 00:00:00Z", None),
        ("2026-01-01T00:00:00+24:00", None),
        ("2026-01-01T00:00:00.Z", None),
        ("2026-1-1T00:00:00Z", None),
        ("٢٠٢٦-01-01T00:00:00Z", None),
        ("2026-01-01T00:00:00Z\n", None),
    ],
)
def test_rfc3339(text: str, expected: int | None) -> None:
    assert times.parse_rfc3339(text) == expected
