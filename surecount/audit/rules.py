"""Why a record does not count: docs/records.md, read a second time.

These rules look at one record that was taken apart already. They are complete and slow; ``truth``
has a fast way for the records that break none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from surecount.audit import exact, times
from surecount.audit.strictjson import WHITE_SPACE, Number, Object, parse

if TYPE_CHECKING:
    from udfs.spec import Field, Spec

Row = tuple[Any, ...]
"""An accepted record: its event time in ms, and the exact value of each field; see ``first_field``."""

TOMBSTONE = "tombstone"
VALUE_TOO_LARGE = "value_too_large"
EMPTY = "empty"
INVALID_UTF8 = "invalid_utf8"
NOT_JSON = "not_json"
NESTING_TOO_DEEP = "nesting_too_deep"
NOT_AN_OBJECT = "not_an_object"
DUPLICATE_FIELD = "duplicate_field"
MISSING_FIELD = "missing_field"
NULL_FIELD = "null_field"
MISTYPED_FIELD = "mistyped_field"
NOT_FINITE = "not_finite"
INTEGER_TOO_LARGE = "integer_too_large"
TOO_MANY_DECIMALS = "too_many_decimals"
EVENT_TIME_NEGATIVE = "event_time_negative"
EVENT_TIME_UNIT = "event_time_unit"
EVENT_TIME_OUT_OF_RANGE = "event_time_out_of_range"
EVENT_TIME_AHEAD = "event_time_ahead"
KAFKA_TIMESTAMP = "kafka_timestamp"
BELOW_MINIMUM = "below_minimum"
ABOVE_MAXIMUM = "above_maximum"
NOT_ALLOWED = "not_allowed"
DECODE_FAILED = "decode_failed"
INTERNAL_ERROR = "internal_error"

GIVEN_UP = frozenset({INTERNAL_ERROR, DECODE_FAILED})
"""Reasons that are a job's own, by a bug or by a user's function: an audit need not come to the same."""

MAX_DEPTH = 200
MAX_EVENT_TIME_MS = 253_370_764_799_999
"""The end of the year 9998."""
MIN_KAFKA_MS = 365 * times.DAY_MS
"""An earlier Kafka timestamp, or one after the year 9998, is none that a record's event time can be held against."""
FAR_MS = 10 * 365 * times.DAY_MS
"""An event time this far from the Kafka timestamp makes its unit doubtful."""
_NEAR_MS = 365 * times.DAY_MS
_PER_MS = {"s": (1_000, 1), "ms": (1, 1), "us": (1, 1_000), "ns": (1, 1_000_000)}
_SURROGATE = re.compile("[\ud800-\udfff]")
_MISSING = object()
# Stands where an object should be on the way to a field: of no field's type.
_NO_OBJECT = object()


class RejectedError(Exception):
    """The record breaks a rule; ``reason`` is its code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def first_field(spec: Spec) -> int:
    """Where the values of ``spec.fields`` begin in a Row: behind the event time, or, where the first field
    is the event time in ms, at 0."""
    return 0 if spec.event_time.path is not None and spec.event_time.unit == "ms" else 1


@dataclass(frozen=True)
class Limits:
    """A check on exact values; ``place`` is its field's among ``spec.fields`` and behind it ``spec.optional``."""

    place: int
    low: int | None
    high: int | None
    allowed: frozenset[str | int] | None


def limits(spec: Spec) -> list[Limits]:
    """The checks of a pipeline in the order of its file."""
    places = {field.path: place for place, field in enumerate((*spec.fields, *spec.optional))}

    def bound(field: Field, value: int | float | None) -> int | None:
        if value is None:
            return None
        return exact.float_units(value) if field.type == "float" else int(value)

    return [
        Limits(
            places[check.field.path],
            bound(check.field, check.low),
            bound(check.field, check.high),
            None if check.allowed is None else frozenset(check.allowed),
        )
        for check in spec.checks
    ]


def is_kafka_time(ms: int) -> bool:
    """Whether ms since 1970, as a Kafka timestamp has them, are a time; they may be missing, or in another unit."""
    return MIN_KAFKA_MS <= ms <= MAX_EVENT_TIME_MS


def to_ms(time: int, unit: str) -> int:
    """A count of ``unit`` since 1970 in whole milliseconds, cut down."""
    factor, divisor = _PER_MS[unit]
    return time * factor // divisor


_STRING = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)
_STEP = {"{": 1, "[": 1, "}": -1, "]": -1}


def _open_at_once(text: str) -> int:
    """The most arrays and objects that are open anywhere in a text, JSON or not, strings left out."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return 0
    return max(accumulate(_STEP.get(character, 0) for character in _STRING.sub("", text)))


def parse_json(value: bytes) -> Object:
    """The JSON object in ``value``; raises RejectedError, ``empty`` … ``not_an_object`` or ``not_finite``."""
    if not value.strip(WHITE_SPACE.encode()):
        raise RejectedError(EMPTY)
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RejectedError(INVALID_UTF8) from error
    if _open_at_once(text) > MAX_DEPTH:
        raise RejectedError(NESTING_TOO_DEEP)
    document = parse(text)
    if document is None:
        raise RejectedError(NOT_JSON)
    if not document.finite:
        raise RejectedError(NOT_FINITE)
    if not isinstance(document.value, Object):
        raise RejectedError(NOT_AN_OBJECT)
    return document.value


class Reader:
    """Takes the fields that a pipeline uses out of records."""

    def __init__(self, spec: Spec) -> None:
        self._fields = spec.fields
        self._optional = spec.optional
        self._limits = limits(spec)
        self._event_time = spec.event_time
        self._first_field = first_field(spec)
        self._max_ahead_ms = spec.max_ahead_ms
        self._narrow = spec.narrow

    def read(self, record: Mapping[str, object], timestamp_ms: int) -> Row:
        """The record's Row; raises RejectedError.

        ``timestamp_ms`` is its Kafka timestamp. Decimals and floats are ints as in ``exact``.
        """
        found = [_find(record, field.parts) for field in (*self._fields, *self._optional)]
        if any(twice for _, twice in found):
            raise RejectedError(DUPLICATE_FIELD)
        values = []
        for field, (value, _) in zip(self._fields, found, strict=False):
            values.append(_exact(field, value, 64 if field.path in self._narrow else None))
        optional = [
            None if value is None or value is _MISSING else _exact(field, value, None)
            for field, (value, _) in zip(self._optional, found[len(values) :], strict=True)
        ]
        self._check([*values, *optional])
        time = self._time(values, timestamp_ms)
        return (time, *values) if self._first_field else tuple(values)

    def _check(self, values: list[Any]) -> None:
        for limit in self._limits:
            value = values[limit.place]
            if value is None:
                continue
            if limit.low is not None and value < limit.low:
                raise RejectedError(BELOW_MINIMUM)
            if limit.high is not None and value > limit.high:
                raise RejectedError(ABOVE_MAXIMUM)
            if limit.allowed is not None and value not in limit.allowed:
                raise RejectedError(NOT_ALLOWED)

    def _time(self, values: list[object], timestamp_ms: int) -> int:
        unit, written = self._event_time.unit, values[0]
        is_stamped = is_kafka_time(timestamp_ms)
        if self._event_time.path is None:
            if not is_stamped:
                raise RejectedError(KAFKA_TIMESTAMP)
            return timestamp_ms
        time: int | None
        if unit == "rfc3339":
            time = times.parse_rfc3339(str(written))
        else:
            assert isinstance(written, int)
            time = to_ms(written, unit)
        if time is None:
            raise RejectedError(EVENT_TIME_OUT_OF_RANGE)
        if time < 0:
            raise RejectedError(EVENT_TIME_NEGATIVE)
        if isinstance(written, int):
            others = [to_ms(written, other) for other in _PER_MS if other != unit]
            if is_stamped:
                is_likely = [abs(other - timestamp_ms) <= _NEAR_MS for other in others]
                is_doubtful = abs(time - timestamp_ms) > FAR_MS
            else:
                is_likely, is_doubtful = list(map(is_kafka_time, others)), not is_kafka_time(time)
            if is_doubtful and any(is_likely):
                raise RejectedError(EVENT_TIME_UNIT)
        if time > MAX_EVENT_TIME_MS:
            raise RejectedError(EVENT_TIME_OUT_OF_RANGE)
        if is_stamped and time - timestamp_ms > self._max_ahead_ms:
            raise RejectedError(EVENT_TIME_AHEAD)
        return time


def _find(record: object, parts: tuple[str, ...]) -> tuple[object, bool]:
    """The value at a path, or _MISSING, and whether a name on the way to it stands twice."""
    twice = False
    for part in parts:
        if record is None or record is _MISSING:
            return record, twice
        if not isinstance(record, Mapping):
            return _NO_OBJECT, twice
        twice = twice or (isinstance(record, Object) and part in record.twice)
        record = record.get(part, _MISSING)
    return record, twice


def _exact(field: Field, value: object, bits: int | None) -> object:
    if value is _MISSING:
        raise RejectedError(MISSING_FIELD)
    if value is None:
        raise RejectedError(NULL_FIELD)
    if isinstance(value, bool):
        raise RejectedError(MISTYPED_FIELD)
    match field.type:
        case "string":
            if not isinstance(value, str) or isinstance(value, Number) or _SURROGATE.search(value):
                raise RejectedError(MISTYPED_FIELD)
            return value
        case "int":
            return _int(value, bits)
        case "decimal":
            return _decimal(value, field.scale)
        case "float":
            return _float(value)


def _is_finite(value: object) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite()
    return not isinstance(value, float) or math.isfinite(value)


def _int(value: object, bits: int | None) -> int:
    if isinstance(value, Number):
        if not value.lstrip("-").isdigit():
            raise RejectedError(MISTYPED_FIELD)
        if len(value.lstrip("-")) > exact.MAX_DIGITS:
            raise RejectedError(INTEGER_TOO_LARGE)
        value = int(value)
    if not isinstance(value, int):
        raise RejectedError(MISTYPED_FIELD)
    limit = 10**exact.MAX_DIGITS if bits is None else 1 << (bits - 1)
    if not -limit < value < limit and not (bits is not None and value == -limit):
        raise RejectedError(INTEGER_TOO_LARGE)
    return value


def _decimal(value: object, scale: int) -> int:
    if not isinstance(value, str | int | float | Decimal):
        raise RejectedError(MISTYPED_FIELD)
    if not _is_finite(value):
        raise RejectedError(NOT_FINITE)
    if isinstance(value, int) and abs(value) >= 10**exact.MAX_DIGITS:
        raise RejectedError(TOO_MANY_DECIMALS)
    try:
        # A float of a user's decode function stands for the shortest number that reads as it.
        unscaled = exact.unscaled(str(value), scale)
    except ValueError as error:
        raise RejectedError(MISTYPED_FIELD) from error
    if unscaled is None:
        raise RejectedError(TOO_MANY_DECIMALS)
    return unscaled


def _float(value: object) -> int:
    if not isinstance(value, Number | int | float | Decimal):
        raise RejectedError(MISTYPED_FIELD)
    if not _is_finite(value):
        raise RejectedError(NOT_FINITE)
    try:
        number = float(value)
    except OverflowError as error:
        raise RejectedError(NOT_FINITE) from error
    if not math.isfinite(number):
        raise RejectedError(NOT_FINITE)
    return exact.float_units(number)
