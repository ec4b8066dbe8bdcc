"""udfs.numbers: sums that neither wrap nor round."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from udfs import numbers, partials

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(INT64, min_size=1, max_size=50))
@example([(1 << 63) - 1] * 3)
@example([-(1 << 63)] * 3)
def test_limbs_sum_to_the_sum_of_any_int64(values: list[int]) -> None:
    parts = numbers.limbs(np.array(values, np.int64))
    assert numbers.join_limbs([int(p.sum()) for p in parts]) == sum(values)


@given(st.lists(st.integers(-(10**38) + 1, 10**38 - 1), min_size=1, max_size=20))
def test_decimal128_limbs_sum_to_the_sum_of_38_digits(values: list[int]) -> None:
    data = b"".join(value.to_bytes(16, "little", signed=True) for value in values)
    parts = numbers.decimal128_limbs(np.frombuffer(data, np.int64).reshape(-1, 2))
    assert numbers.join_limbs([int(p.sum()) for p in parts]) == sum(values)


@given(st.lists(INT64, max_size=20), st.integers(1, 100))
def test_a_sum_that_is_called_safe_fits(values: list[int], rows: int) -> None:
    array = np.array(values, np.int64)
    if numbers.int64_sum_is_safe(array, rows) and values:
        assert max(abs(v) for v in values) * rows < 1 << 63


@given(st.lists(FINITE, max_size=30))
@example([8.988465674311579e307, 8.98846567431158e307, -1.0])
@example([5e-324, -5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, -0.0])
def test_float_units_are_exact_and_order_independent(values: list[float]) -> None:
    total = sum(partials.float_units(np.array(values)))
    assert Fraction(total, 1 << numbers.FLOAT_UNIT_BITS) == sum(map(Fraction, values))
    assert total == sum(partials.float_units(np.array(values[::-1])))
    try:
        # Not math.fsum, which overflows on its way to sums that fit.
        nearest = float(sum(map(Fraction, values)))
    except OverflowError:
        assert int(numbers.float_json(total)) == round(sum(map(Fraction, values)))
    else:
        assert numbers.float_from_units(total) == nearest


@given(st.integers(-(10**40), 10**40), st.integers(0, 38))
def test_decimal_text_keeps_value_and_scale(unscaled: int, scale: int) -> None:
    text = numbers.decimal_text(unscaled, scale)
    assert Fraction(text) == Fraction(unscaled, 10**scale)
    assert len(text.partition(".")[2]) == scale


@given(st.decimals(allow_nan=False, allow_infinity=False), st.integers(0, 38))
def test_unscaled_is_exact_or_refuses(value: Decimal, scale: int) -> None:
    number = numbers.unscaled(value, scale)
    exact = Fraction(value) * 10**scale
    if number is None:
        assert exact.denominator != 1
    elif abs(number) < 10**38:
        assert number == exact
    else:
        assert abs(exact) >= 10**38


@pytest.mark.parametrize("text", ["1e999999", "-1e-999999", "0e999999", "1.50", "1e2"])
def test_unscaled_of_extreme_exponents_is_quick(text: str) -> None:
    number = numbers.unscaled(Decimal(text), 2)
    assert number == {"1e999999": 10**64, "-1e-999999": None, "0e999999": 0, "1.50": 150, "1e2": 10000}[text]


@given(st.integers())
def test_bytes_round_trip(value: int) -> None:
    assert numbers.from_bytes(numbers.to_bytes(value)) == value
