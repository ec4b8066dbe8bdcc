"""Numbers without rounding: every sum of the audit is a Python int.

An int is itself, a decimal its unscaled value (12.34 at scale 2 is 1234), a float a count of 2^-1074,
the smallest step between doubles, of which every double is a whole multiple.
"""

from __future__ import annotations

import math
import re

MAX_DIGITS = 38
_FLOAT_BITS = 1074
_ONE = 1 << _FLOAT_BITS
# Digits with an optional point: every JSON number, and texts such as "+1", ".5" and "007".
_NUMBER = re.compile(r"([+-]?)(?=\.?[0-9])([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?)([0-9]+))?")
# Exponents beyond this many digits are out of every range; int() need not look at them.
_EXPONENT_DIGITS = 12


def unscaled(text: str, scale: int) -> int | None:
    """The unscaled value, at ``scale`` decimals, of an optional sign, digits with an optional point, and
    an optional exponent.

    None where it has more decimals than that (zeros at the end do not count) or more than 38 digits
    at that scale. ValueError for a text that is no such number.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no number")
    sign, whole, decimals, exponent_sign, exponent = match.groups(default="")
    digits = (whole + decimals).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return 0
    exponent = exponent.lstrip("0") or "0"
    if len(exponent) > _EXPONENT_DIGITS:
        return None
    shift = int(exponent_sign + exponent) - len(decimals) + (len(digits) - len(significant)) + scale
    if shift < 0 or len(significant) + shift > MAX_DIGITS:
        return None
    power: int = 10**shift
    return int(sign + significant) * power


def decimal_text(value: int, scale: int) -> str:
    """``value`` with exactly ``scale`` decimals."""
    sign, digits = "-" if value < 0 else "", str(abs(value)).rjust(scale + 1, "0")
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else sign + digits


def float_units(value: float) -> int:
    """A finite double (or an int) in units of 2^-1074."""
    numerator, denominator = value.as_integer_ratio()
    return numerator << (_FLOAT_BITS + 1 - denominator.bit_length())


def nearest_float(units: int) -> float | int:
    """The double nearest to ``units`` of 2^-1074; beyond the range of a double the nearest int."""
    try:
        return units / _ONE
    except OverflowError:
        return (units + (_ONE >> 1)) >> _FLOAT_BITS


def _step(found: float | int) -> int:
    """Twice the error of rounding to ``found``, in units of 2^-1074: the distance of its neighbours."""
    return float_units(math.ulp(found)) if isinstance(found, float) else 2 * _ONE


def explains(residual: int, parts: list[float | int]) -> bool:
    """Whether rounding alone can leave ``residual`` = exact sum - sum of ``parts``, in 2^-1074.

    One part has to be the very double nearest to the exact sum (an int beyond a double's range may
    be cut or rounded). Several parts may each be wrong by half the distance to their neighbours,
    and by no more.
    """
    if len(parts) == 1 and isinstance(parts[0], float):
        return nearest_float(residual + float_units(parts[0])) == parts[0]
    return 2 * abs(residual) <= sum(map(_step, parts))
