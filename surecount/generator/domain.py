"""Which values of a field the pipeline's checks let pass, and which they don't."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from itertools import count

from surecount.errors import SurecountError
from udfs import numbers, reasons, spec

_NARROW = (1 << 63) - 1
_WIDE = 10**spec.MAX_DIGITS - 1
_SAMPLES = 100


@dataclass(frozen=True)
class Domain:
    """The values of a field that pass: from ``low`` to ``high``, and ``allowed`` where they are listed.

    Decimals are integers at their scale. A number is between ``-limit`` and ``limit`` in any case.
    """

    field: spec.Field
    limit: int | float
    low: int | float
    high: int | float
    allowed: tuple[str | int, ...] | None

    def __contains__(self, value: str | int | float) -> bool:
        in_range = self.field.type == "string" or self.low <= value <= self.high  # type: ignore[operator]
        return in_range and (self.allowed is None or value in self.allowed)

    @property
    def unchecked(self) -> bool:
        """Whether no check rejects any value."""
        return self.allowed is None and self.low == -self.limit and self.high == self.limit

    @property
    def size(self) -> int | float:
        """How many values there are."""
        if self.allowed is not None:
            return len(self.allowed)
        if self.field.type in ("string", "float"):
            return math.inf if self.low <= self.high else 0
        return self.high - self.low + 1

    def first(self, values: int) -> int:
        """Where ``values`` integers in a row can begin, from 0 if they pass there."""
        return int(min(max(self.low, 0), self.high - values + 1))

    def text(self, value: str | int | float) -> str:
        """A value as JSON."""
        match self.field.type:
            case "float":
                return repr(float(value))
            case "decimal":
                return numbers.decimal_text(int(value), self.field.scale)
        return json.dumps(value, ensure_ascii=False)

    def samples(self) -> list[str]:
        """Some values as JSON: all that are listed, else numbers from 0 on if they pass, else short texts."""
        values: list[str | int | float]
        if self.allowed is not None:
            values = [*self.allowed]
        elif self.field.type == "string":
            values = [f"{self.field.parts[-1]}-{number}" for number in range(10)]
        else:
            start = min(max(self.low, 0), self.high)
            values = [*dict.fromkeys(min(start + number, self.high) for number in range(_SAMPLES))]
        return [self.text(value) for value in values]

    def faults(self) -> dict[str, str]:
        """A value as JSON for each reason for which the checks reject some, and by no other rule."""
        if self.allowed is not None:
            stranger = self._stranger(self.allowed)
            return {} if stranger is None else {reasons.NOT_ALLOWED: self.text(stranger)}
        found = {}
        if self.low > -self.limit:
            found[reasons.BELOW_MINIMUM] = self.text(self._beside(self.low, -1))
        if self.high < self.limit:
            found[reasons.ABOVE_MAXIMUM] = self.text(self._beside(self.high, 1))
        return found

    def _beside(self, bound: int | float, step: int) -> int | float:
        """The next number after a bound."""
        return math.nextafter(bound, step * math.inf) if self.field.type == "float" else bound + step

    def _stranger(self, allowed: tuple[str | int, ...]) -> str | int | None:
        """A value that is not listed, and that only the list keeps from passing."""
        if self.field.type == "string":
            return next(text for number in count() if (text := f"other-{number}") not in allowed)
        number = next(number for number in count(self.first(1)) if number not in allowed)
        return number if number <= self.high else None


def domains(data: spec.Spec) -> dict[str, Domain]:
    """The domain of each field of a record, by path; raises SurecountError where one is empty."""
    found = {field.path: _domain(data, field) for field in (*data.fields, *data.optional)}
    if empty := next((path for path, domain in found.items() if domain.size <= 0), None):
        raise SurecountError(f"no value of {empty!r} passes all of its checks", "mend the [[source.check]] tables")
    return found


def _domain(data: spec.Spec, field: spec.Field) -> Domain:
    checks = [check for check in data.checks if check.field == field]
    limit = _limit(data, field)
    low = max([-limit, *(check.low for check in checks if check.low is not None)])
    high = min([limit, *(check.high for check in checks if check.high is not None)])
    lists = [check.allowed for check in checks if check.allowed is not None]
    if not lists:
        return Domain(field, limit, low, high, None)
    in_all = [value for value in dict.fromkeys(lists[0]) if all(value in values for values in lists)]
    return Domain(field, limit, low, high, tuple(v for v in in_all if isinstance(v, str) or low <= v <= high))


def _limit(data: spec.Spec, field: spec.Field) -> int | float:
    match field.type:
        case "string":
            return 0
        case "float":
            return sys.float_info.max
    return _NARROW if field.path in data.narrow else _WIDE
