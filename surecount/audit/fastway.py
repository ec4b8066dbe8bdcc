"""The fast way for JSON records that are plainly valid: whole batches, by functions that run in C."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import orjson

from surecount.audit import exact, rules, times
from surecount.audit.rules import Limits, Row

if TYPE_CHECKING:
    from udfs.spec import Field, Spec

FastWay = Callable[[Sequence[bytes | None], Sequence[int]], list[Row] | None]
Convert = Callable[[bytes, Any], int | None]

_JSON_TYPES: dict[str, frozenset[type]] = {
    "string": frozenset([str]),
    "int": frozenset([int]),
    "decimal": frozenset([int, str, float]),
    "float": frozenset([int, float]),
}


def fast_way(spec: Spec) -> FastWay:
    """A function from values and Kafka timestamps (ms), one or more, to a Row for each of them.

    It returns None unless every record is plainly valid.
    """
    get = _getter(spec.fields)
    types = [_JSON_TYPES[field.type] for field in spec.fields]
    names_are_unique = _unique_names(spec.fields, spec.optional)
    get_optional = _optional_getter(spec.optional)
    limits = rules.limits(spec)
    converts = [
        (index, convert)
        for index, field in enumerate(spec.fields)
        if (convert := _convert(field, field.path in spec.narrow)) is not None
    ]
    to_times = _to_times(spec)
    time_is_field, is_by_kafka = rules.first_field(spec) == 0, spec.event_time.path is None
    max_value, max_ahead = spec.max_value_bytes, spec.max_ahead_ms
    loads = orjson.loads

    def agree(time_ms: int, timestamp_ms: int) -> bool:
        if not rules.is_kafka_time(timestamp_ms):
            return rules.is_kafka_time(time_ms)
        return -rules.FAR_MS <= time_ms - timestamp_ms <= max_ahead

    def fits(value: bytes) -> bool:
        return len(value) <= max_value and _brackets(value) <= rules.MAX_DEPTH

    def rows(values: Sequence[Any], timestamps_ms: Sequence[int]) -> list[Row] | None:
        try:
            records = list(map(loads, values))
            found = list(map(get, records))
            optional = get_optional(values, records)
        except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
            return None
        together = b"".join(values)
        # Every pair has its colon, so no record has more names than colons: as many of both in all means
        # that no name stands twice.
        if together.count(b":") != sum(map(len, records)) and not all(map(names_are_unique, values, records)):
            return None
        if (len(together) > max_value or _brackets(together) > rules.MAX_DEPTH) and not all(map(fits, values)):
            return None
        columns: list[Sequence[Any]] = list(zip(*found, strict=True))
        for column, allowed in zip(columns, types, strict=True):
            kinds = list(map(type, column))
            if sum(map(kinds.count, allowed)) != len(kinds):
                return None
        times_ms = to_times(columns, timestamps_ms)
        if times_ms is None or min(times_ms) < 0 or max(times_ms) > rules.MAX_EVENT_TIME_MS:
            return None
        latest, earliest = max(timestamps_ms), min(timestamps_ms)
        if is_by_kafka:
            if earliest < rules.MIN_KAFKA_MS or latest > rules.MAX_EVENT_TIME_MS:
                return None
        elif (
            earliest < rules.MIN_KAFKA_MS
            or latest > rules.MAX_EVENT_TIME_MS
            or max(times_ms) - earliest > max_ahead
            or min(times_ms) - latest < -rules.FAR_MS
        ) and not all(map(agree, times_ms, timestamps_ms)):
            return None
        for index, convert in converts:
            columns[index] = list(map(convert, values, columns[index]))
            if None in columns[index]:
                return None
        if optional is None or not all(_all_pass(limit, [*columns, *optional]) for limit in limits):
            return None
        if time_is_field and not converts:
            return found
        return list(zip(*columns, strict=True)) if time_is_field else list(zip(times_ms, *columns, strict=True))

    return rows


def _to_times(spec: Spec) -> Callable[[list[Sequence[Any]], Sequence[int]], Sequence[int] | None]:
    """From the fields' columns and the Kafka timestamps to event times in ms; None where one has none."""
    unit = spec.event_time.unit
    if spec.event_time.path is None:
        return lambda _columns, timestamps_ms: timestamps_ms
    if unit == "ms":
        return lambda columns, _timestamps: columns[0]
    if unit != "rfc3339":
        return lambda columns, _timestamps: [rules.to_ms(time, unit) for time in columns[0]]

    def parse(columns: list[Sequence[Any]], _timestamps: Sequence[int]) -> list[int] | None:
        parsed = list(map(times.parse_rfc3339, columns[0]))
        known = [time for time in parsed if time is not None]
        return known if len(known) == len(parsed) else None

    return parse


def _getter(fields: Sequence[Field]) -> Callable[[Any], tuple[Any, ...]]:
    """Takes all fields out of a record; LookupError or TypeError where one can't be reached."""
    names = [field.path for field in fields]
    if len(names) > 1 and all(len(field.parts) == 1 for field in fields):
        return itemgetter(*names)
    paths = [field.parts for field in fields]

    def get(record: Any) -> tuple[Any, ...]:
        found = []
        for parts in paths:
            value = record
            for part in parts:
                value = value[part]
            found.append(value)
        return tuple(found)

    return get


def _optional_getter(fields: Sequence[Field]) -> Callable[[Sequence[bytes], Sequence[Any]], list[list[Any]] | None]:
    """For each field the exact values of the records that have one; None where only the strict rules can."""
    plans = [(field.parts, _JSON_TYPES[field.type], _convert(field, narrow=False)) for field in fields]

    def columns(values: Sequence[bytes], records: Sequence[Any]) -> list[list[Any]] | None:
        found = []
        for parts, types, convert in plans:
            written = [(value, _reach(record, parts)) for value, record in zip(values, records, strict=True)]
            pairs = [(value, inner) for value, inner in written if inner is not None]
            if not types.issuperset(type(inner) for _, inner in pairs):
                return None
            column = [convert(*pair) if convert else pair[1] for pair in pairs]
            if None in column:
                return None
            found.append(column)
        return found

    return columns


def _reach(record: Any, parts: Sequence[str]) -> Any:
    """The value at a path, or None; AttributeError where a value stands on the way."""
    for part in parts:
        if record is None:
            break
        record = record.get(part)
    return record


def _all_pass(limit: Limits, columns: Sequence[Sequence[Any]]) -> bool:
    column = columns[limit.place]
    return not column or (
        (limit.low is None or min(column) >= limit.low)
        and (limit.high is None or max(column) <= limit.high)
        and (limit.allowed is None or limit.allowed.issuperset(column))
    )


def _brackets(value: bytes) -> int:
    return value.count(b"[") + value.count(b"{")


def _unique_names(fields: Sequence[Field], optional: Sequence[Field]) -> Callable[[bytes, Any], bool]:
    """A test of a value and the record in it, which has the names of all ``fields``: true only where no
    name of these and of ``optional`` stands twice."""
    expected = Counter(node[-1] for node in _nodes(fields))
    possible = Counter(node[-1] for node in _nodes(optional) - _nodes(fields))
    # Between two strings stand marks such as ","; a name that looks like those can't be told by its quotes.
    if any(name[0] in ",:]}" for name in expected | possible):
        return lambda value, record: value.count(b":") == len(record)
    # Where an optional name is that of another field, too, its place can't be told by counting.
    most = {name: expected[name] or int(count == 1) for name, count in (expected | possible).items()}
    limits = [(f'"{name}"'.encode(), count) for name, count in most.items()]

    def unique(value: bytes, record: Any) -> bool:
        if value.count(b":") == len(record):
            return True
        # A name may be written with \u0061 or \/ as well; no other escape stands for what a name may hold.
        if b"\\" in value and (b"\\u" in value or b"\\/" in value):
            return False
        return all(value.count(name) <= count for name, count in limits)

    return unique


def _nodes(fields: Sequence[Field]) -> set[tuple[str, ...]]:
    """Every path that stands in a record: to the fields, and to the objects around them."""
    return {field.parts[: depth + 1] for field in fields for depth in range(len(field.parts))}


def _convert(field: Field, narrow: bool) -> Convert | None:
    """From a value that orjson read to the exact one, None where only the strict rules can; no function
    where orjson's value is exact already."""
    match field.type:
        case "float":
            return lambda _record, value: exact.float_units(float(value))
        case "decimal":
            return _decimal_converter(field)
        case "int" if narrow:
            return lambda _record, value: value if value < 1 << 63 else None
    return None


def _decimal_converter(field: Field) -> Convert:
    """orjson reads 0.10 as a double; the text that stood there is found again behind its name."""
    name = re.escape(field.parts[-1].encode())
    number = re.compile(rb'"' + name + rb'"[ \t\n\r]*:[ \t\n\r]*(-?[0-9][0-9.eE+-]*)')
    scale = field.scale

    def convert(record: bytes, value: Any) -> int | None:
        if type(value) is float:
            if b"\\" in record:
                return None
            texts = number.findall(record)
            if len(texts) != 1:
                return None
            value = texts[0].decode()
        try:
            return exact.unscaled(str(value), scale)
        except ValueError:
            return None

    return convert
