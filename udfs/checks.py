"""What a pipeline checks of values: one value, with the reason where it fails, or a column at once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from udfs import numbers, reasons
from udfs.reasons import RejectedError
from udfs.spec import MAX_DIGITS, Check, Field

_INT64 = range(-(1 << 63), 1 << 63)


def refuse(check: Check, value: Any) -> None:
    """Raise RejectedError for a value that fails; None stands for a missing one, and passes."""
    if value is None:
        return
    field = check.field
    if check.low is not None and value < check.low:
        detail = f"{field.path!r} is {_text(value, field)}, below {_text(check.low, field)}"
        raise RejectedError(reasons.BELOW_MINIMUM, detail)
    if check.high is not None and value > check.high:
        detail = f"{field.path!r} is {_text(value, field)}, above {_text(check.high, field)}"
        raise RejectedError(reasons.ABOVE_MAXIMUM, detail)
    if check.allowed is not None and value not in check.allowed:
        raise RejectedError(reasons.NOT_ALLOWED, f"{field.path!r} is {value!r:.60}, none of the allowed values")


def _text(value: int | float, field: Field) -> str:
    return numbers.decimal_text(int(value), field.scale) if field.type == "decimal" else str(value)


def passing(check: Check, column: pa.Array) -> npt.NDArray[np.bool_]:
    """Which values of a column pass: string, int64, float64, or decimal128 at the field's scale. Nulls do."""
    tests = []
    if check.field.type == "float":
        tests.append(pc.is_finite(column))
    if check.low is not None:
        tests.append(pc.greater_equal(column, _bound(check.low, column.type)))
    if check.high is not None:
        tests.append(pc.less_equal(column, _bound(check.high, column.type)))
    if check.allowed is not None:
        values = [value for value in check.allowed if isinstance(value, str) or value in _INT64]
        tests.append(pc.or_(pc.is_in(column, value_set=pa.array(values, column.type)), column.is_null()))
    good = np.ones(len(column), bool)
    for test in tests:
        good &= test.fill_null(True).to_numpy(zero_copy_only=False)
    return good


def _bound(value: int | float, kind: pa.DataType) -> pa.Scalar:
    """A bound that compares exactly with a column of that type."""
    if pa.types.is_decimal(kind):
        return pa.scalar(Decimal(f"{value}E{-kind.scale}"), kind)
    if pa.types.is_integer(kind) and value not in _INT64:
        return pa.scalar(Decimal(value), pa.decimal128(MAX_DIGITS, 0))
    return pa.scalar(value, kind)
