"""One record at a time: every rule of docs/records.md, with the exact reason.

Only records that the Arrow reader in :mod:`udfs.decode` refuses come here.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

import orjson

from udfs import checks, numbers, reasons, times
from udfs.reasons import RejectedError
from udfs.spec import MAX_DIGITS, MAX_EVENT_TIME_MS, Field, Spec

MAX_DEPTH = 200
_LIMIT = 10**MAX_DIGITS
_WHITE_SPACE = b" \t\r\n"


class RecordReader:
    """Reads single JSON records for a spec."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._types = [(field.parts, _PLAIN_TYPES.get(field.type)) for field in spec.fields]
        self._tokens = [f'"{part}"'.encode() for part in {p for field in spec.fields for p in field.parts}]
        self._numerator, self._denominator = times.UNITS_PER_MS.get(spec.event_time.unit, (1, 1))
        self._plain = (
            None not in (kind for _, kind in self._types) and spec.event_time.unit != "rfc3339" and not spec.checks
        )

    def read(self, value: bytes, kafka_ms: int) -> tuple[int, list[Any]]:
        """The event time in ms and the values of ``spec.fields``; raises RejectedError."""
        if self._plain and (read := self._read_plain(value, kafka_ms)):
            return read
        document = _parse_strictly(value, (*self._spec.fields, *self._spec.optional))
        return read_document(document, self._spec, kafka_ms)

    def _read_plain(self, value: bytes, kafka_ms: int) -> tuple[int, list[Any]] | None:
        """The same for a record that is beyond doubt, else None.

        orjson keeps the last of two equal names, makes doubles of integers of more than 64 bits, and has
        a depth limit of its own; the strict reading has the last word on all that, and the exact reason.
        """
        # Only these escapes stand for what a name may hold.
        if b"\\u" in value or b"\\/" in value or len(value) > 2 * MAX_DEPTH:
            return None
        for token in self._tokens:
            if value.count(token) > 1:
                return None
        values: list[Any] = []
        try:
            document = orjson.loads(value)
            for parts, kind in self._types:
                read: Any = document
                for part in parts:
                    read = read[part]
                values.append(read)
                if type(read) is not kind or (kind is not str and not _LOW < values[-1] < _HIGH):
                    return None
        except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
            return None
        if self._spec.event_time.path is None:
            return (kafka_ms, values) if times.is_time(kafka_ms) else None
        if not times.is_time(kafka_ms):
            return None
        time_ms = values[0] * self._numerator // self._denominator
        ahead = time_ms - kafka_ms
        if not 0 <= time_ms <= MAX_EVENT_TIME_MS or ahead > self._spec.max_ahead_ms or abs(ahead) > times.FAR_MS:
            return None
        return time_ms, values


# Within 64 bits, and leaving out infinity for doubles; what lies beyond is read strictly.
_LOW, _HIGH = -(1 << 63), 1 << 63
_PLAIN_TYPES: dict[str, type] = {"string": str, "int": int, "float": float}


def _parse_strictly(value: bytes, fields: tuple[Field, ...]) -> dict[str, Any]:
    """Numbers are int, or Decimal where they have a fraction or an exponent."""
    if not value.strip(_WHITE_SPACE):
        raise RejectedError(reasons.EMPTY, "no bytes but white space")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise RejectedError(reasons.INVALID_UTF8, str(error)) from error
    if _depth_exceeds(text, MAX_DEPTH):
        raise RejectedError(reasons.NESTING_TOO_DEEP, f"more than {MAX_DEPTH} levels")
    constants: list[str] = []
    try:
        document = json.loads(
            text,
            object_pairs_hook=_Pairs,
            parse_float=_exact,
            parse_int=_whole,
            parse_constant=lambda name: constants.append(name),
        )
    except json.JSONDecodeError as error:
        raise RejectedError(reasons.NOT_JSON, str(error)) from error
    _refuse_surrogates(document)
    if constants:
        raise RejectedError(reasons.NOT_FINITE, f"{constants[0]} is no JSON number")
    if not isinstance(document, _Pairs):
        raise RejectedError(reasons.NOT_AN_OBJECT, f"a JSON {_json_type(document)}")
    for field in fields:
        _refuse_duplicates(document, field)
    return document


class _Pairs(dict[str, Any]):
    """A JSON object that remembers which of its names stood twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice: frozenset[str] = frozenset()
        if len(self) != len(pairs):
            counts = Counter(name for name, _ in pairs)
            self.twice = frozenset(name for name, count in counts.items() if count > 1)
        # Here, as a later pair of the same name hides an earlier one.
        for name, value in pairs:
            _refuse_surrogates(name)
            _refuse_surrogates(value)


class _HugeNumber:
    """A number of more digits than anything here can use."""


class _HugeInteger(_HugeNumber):
    """One without a fraction or an exponent."""


def _whole(text: str) -> int | _HugeInteger:
    return int(text) if len(text) <= 4000 else _HugeInteger()


def _exact(text: str) -> Decimal | _HugeNumber:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond what Decimal holds
        return _HugeNumber() if re.match(r"[^eE]*[1-9]", text) else Decimal(0)


def _depth_exceeds(text: str, limit: int) -> bool:
    """Whether more than ``limit`` arrays and objects are open at once, strings left out."""
    if text.count("[") + text.count("{") <= limit:
        return False
    depth, in_string, escaped = 0, False, False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            if depth > limit:
                return True
        elif character in "]}":
            depth -= 1
    return False


def _refuse_surrogates(value: object) -> None:
    """The stdlib lets a lone surrogate escape pass; it is no text and could not be written again.

    Objects inside ``value`` have looked at themselves.
    """
    if isinstance(value, list):
        for item in value:
            _refuse_surrogates(item)
    elif isinstance(value, str) and _has_surrogate(value):
        raise RejectedError(reasons.NOT_JSON, "a lone surrogate in a string")


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and _SURROGATE.search(text) is not None


_SURROGATE = re.compile("[\ud800-\udfff]")


def _refuse_duplicates(document: _Pairs, field: Field) -> None:
    level: object = document
    for part in field.parts:
        if not isinstance(level, _Pairs):
            return
        if part in level.twice:
            raise RejectedError(reasons.DUPLICATE_FIELD, f"{part!r} stands twice")
        level = level.get(part)


def read_field(document: Mapping[str, Any], field: Field) -> Any:
    """The value of a field as ``str``, ``int`` (unscaled for decimals) or ``float``; raises RejectedError."""
    value: Any = document
    for position, part in enumerate(field.parts):
        if not isinstance(value, Mapping):
            _mistyped(".".join(field.parts[:position]), "an object", value)
        if part not in value:
            raise RejectedError(reasons.MISSING_FIELD, f"{field.path!r} is missing")
        value = value[part]
        if value is None:
            raise RejectedError(reasons.NULL_FIELD, f"{'.'.join(field.parts[: position + 1])!r} is null")
    match field.type:
        case "string":
            return _string(value, field)
        case "int":
            return _integer(value, field)
        case "float":
            return _double(value, field)
        case "decimal":
            return _decimal(value, field)


def _read_optional(document: Mapping[str, Any], field: Field) -> Any:
    """The same, or None where a record has no value there."""
    try:
        return read_field(document, field)
    except RejectedError as error:
        if error.reason in (reasons.MISSING_FIELD, reasons.NULL_FIELD):
            return None
        raise


def read_narrow(value: int, field: Field) -> int:
    """An integer that is a key or an id has at most 64 bits."""
    if not -(1 << 63) <= value < 1 << 63:
        raise RejectedError(reasons.INTEGER_TOO_LARGE, f"{field.path!r}, a key or an id, has more than 64 bits")
    return value


def _string(value: Any, field: Field) -> str:
    if not isinstance(value, str):
        _mistyped(field.path, "a string", value)
    # What a user's function gives may be of a subclass, with methods of its own.
    text: str = value if type(value) is str else str.__str__(value)
    if _has_surrogate(text):
        raise RejectedError(reasons.MISTYPED_FIELD, f"{field.path!r} is no text: a lone surrogate")
    return text


def _integer(value: Any, field: Field) -> int:
    if isinstance(value, _HugeInteger):
        _too_large(field)
    if isinstance(value, bool) or not isinstance(value, int):
        _mistyped(field.path, "an integer", value)
    number: int = value if type(value) is int else int.__int__(value)
    if abs(number) >= _LIMIT:
        _too_large(field)
    return number


def _double(value: Any, field: Field) -> float:
    if isinstance(value, _HugeNumber):
        raise RejectedError(reasons.NOT_FINITE, f"{field.path!r} is beyond a double's range")
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        _mistyped(field.path, "a number", value)
    try:
        number = float(value)
    except (OverflowError, ValueError):  # beyond a double, or a signalling NaN
        number = float("inf")
    if number - number != 0:
        raise RejectedError(reasons.NOT_FINITE, f"{field.path!r} is not finite as a double")
    return number


def _decimal(value: Any, field: Field) -> int:
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            _mistyped(field.path, "a decimal", value)
        value = _exact(value)
    if isinstance(value, float):
        # A user's decode function gave a double: its shortest text is what it stands for.
        value = Decimal(float.__repr__(value))
    if isinstance(value, int) and abs(value) >= _LIMIT:
        value = _HugeNumber()
    if isinstance(value, _HugeNumber):
        raise RejectedError(reasons.TOO_MANY_DECIMALS, f"{field.path!r} has over {MAX_DIGITS} digits")
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        _mistyped(field.path, "a decimal", value)
    number = Decimal(value)
    if not number.is_finite():
        raise RejectedError(reasons.NOT_FINITE, f"{field.path!r} is not finite")
    unscaled = numbers.unscaled(number, field.scale)
    if unscaled is None or abs(unscaled) >= _LIMIT:
        raise RejectedError(
            reasons.TOO_MANY_DECIMALS,
            f"{field.path!r} does not fit {MAX_DIGITS} digits with {field.scale} decimals",
        )
    return unscaled


# Possessive: digits may else be shared out between two parts in as many ways as there are digits.
_NUMBER = re.compile(r"[+-]?(\d++\.?+\d*+|\.\d++)([eE][+-]?\d++)?", re.ASCII)


def _too_large(field: Field) -> NoReturn:
    raise RejectedError(reasons.INTEGER_TOO_LARGE, f"{field.path!r} has over {MAX_DIGITS} digits")


def _mistyped(path: str, wanted: str, value: object) -> NoReturn:
    raise RejectedError(reasons.MISTYPED_FIELD, f"{path!r} is {_json_type(value)}, not {wanted}")


def _json_type(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float() | Decimal() | _HugeNumber():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case Mapping():
            return "an object"
    return f"a {type(value).__name__}"


def read_document(document: Mapping[str, Any], spec: Spec, kafka_ms: int) -> tuple[int, list[Any]]:
    """The event time in ms and the values of ``spec.fields``; raises RejectedError."""
    values: list[Any] = []
    for field in spec.fields:
        value = read_field(document, field)
        values.append(read_narrow(value, field) if field.path in spec.narrow else value)
    if spec.checks:
        found = dict(zip(spec.fields, values, strict=True))
        found |= {field: _read_optional(document, field) for field in spec.optional}
        for check in spec.checks:
            checks.refuse(check, found[check.field])
    time, unit = spec.event_time, spec.event_time.unit
    if time.path is None:
        times.check_kafka(kafka_ms)
        return kafka_ms, values
    raw = values[0]
    time_ms = times.from_rfc3339(raw) if unit == "rfc3339" else times.to_ms(raw, unit)
    times.check(raw, unit, time_ms, kafka_ms, spec.max_ahead_ms)
    return time_ms, values
