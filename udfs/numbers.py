"""Exact sums: of integers of any size, of decimals as integers at their scale, of doubles.

Arrow's int64 sum wraps silently, and adding doubles rounds at each step in an order that a replay
does not keep. So integers are summed in int64 only where a bound shows that nothing can wrap, else in
32-bit limbs; doubles are summed as integers in units of 2**-1074, of which each double is a multiple.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import numpy.typing as npt

INT64_MAX = (1 << 63) - 1
FLOAT_UNIT_BITS = 1074
"""A double is an integer times 2**-1074, the smallest subnormal."""

Int64s = npt.NDArray[np.int64]


def int64_sum_is_safe(values: Int64s, rows: int) -> bool:
    """Whether no sum over up to ``rows`` of these values can leave int64."""
    if len(values) == 0:
        return True
    largest = max(abs(int(values.min())), abs(int(values.max())))
    return largest * rows <= INT64_MAX


def limbs(values: Int64s) -> list[Int64s]:
    """Split into 32-bit limbs, lowest first, the highest signed: each sums safely over 2**31 rows."""
    return [values & 0xFFFFFFFF, values >> 32]


def decimal128_limbs(words: Int64s) -> list[Int64s]:
    """The four limbs of Arrow decimal128 values, given as their ``(rows, 2)`` little-endian words."""
    low, high = words[:, 0], words[:, 1]
    # The low word is unsigned: shift it as such, so that its top limb does not inherit a sign.
    low_top = (low.view(np.uint64) >> np.uint64(32)).view(np.int64)
    return [low & 0xFFFFFFFF, low_top, high & 0xFFFFFFFF, high >> 32]


def join_limbs(sums: list[int]) -> int:
    """The integer that limb sums stand for."""
    return sum(value << (32 * position) for position, value in enumerate(sums))


def float_parts(values: npt.NDArray[np.float64]) -> tuple[list[Int64s], Int64s]:
    """Finite doubles as ``(limbs, shift)``: each equals ``join_limbs(limbs) << shift`` units of 2**-1074."""
    fraction, exponent = np.frexp(values)
    mantissa = np.ldexp(fraction, 53).astype(np.int64)
    shift = exponent.astype(np.int64) + (FLOAT_UNIT_BITS - 53)
    # A subnormal has zeros at the end of its 53 bits: shifting them out is exact.
    negative = np.minimum(shift, 0)
    return limbs(mantissa >> -negative), shift - negative


def float_from_units(units: int) -> float:
    """The double nearest to ``units`` times 2**-1074; raises OverflowError beyond a double's range."""
    return units / (1 << FLOAT_UNIT_BITS)


def float_json(units: int) -> str:
    """The sum of doubles as a JSON number; an integer of full length where no double can hold it."""
    try:
        return repr(float_from_units(units))
    except OverflowError:
        return str(round(Fraction(units, 1 << FLOAT_UNIT_BITS)))


def decimal_text(unscaled: int, scale: int) -> str:
    """A decimal with exactly ``scale`` decimals, such as ``-0.05`` for -5 at 2."""
    digits = str(abs(unscaled)).rjust(scale + 1, "0")
    sign = "-" if unscaled < 0 else ""
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else sign + digits


def unscaled(value: Decimal, scale: int) -> int | None:
    """The integer ``value * 10**scale``, or None where decimals would be lost. ``value`` is finite."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    significant = text.rstrip("0")
    if not significant:
        return 0
    shift = exponent + len(text) - len(significant) + scale
    if shift < 0:
        return None
    if shift + len(significant) > 64:
        # Beyond 38 digits in any case; do not build a number of a million digits to find out.
        return 10**64
    number: int = int(significant) * 10**shift
    return -number if sign else number


def to_bytes(value: int) -> bytes:
    """Two's complement, little-endian, as short as it can be."""
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def from_bytes(data: bytes) -> int:
    """The inverse of :func:`to_bytes`."""
    return int.from_bytes(data, "little", signed=True)
