"""What a job wrote: results and corrections, read strictly as docs/records.md has them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from surecount.audit import exact, strictjson, times
from surecount.audit.fastresults import fast_result
from surecount.audit.truth import AggregatePlan, Key

if TYPE_CHECKING:
    from udfs.spec import Field

_STRINGS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
_WHITE_SPACE = re.compile(r"\s")
_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_RESULT = ("aggregate", "key", "start", "end", "count", "sum")
_CORRECTION = (*_RESULT, "late_by_ms")
_NOT_INT64 = 1 << 63
_MOST_DIGITS = 4_000
"""Python refuses to make integers of more than 4,300."""


class MalformedError(Exception):
    """The output is not as the contract has it; the message says in what."""


class UnknownAggregateError(Exception):
    """The output names an aggregate that the pipeline doesn't have; ``name`` is its name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Found(NamedTuple):
    """One result or correction. ``start`` and ``late_by_ms`` are ms. Sums are ints as in ``exact``, but for
    floats: the double that was written, or an int beyond the range of a double."""

    aggregate: int
    key: Key
    start: int
    records: int
    sums: tuple[float | int, ...]
    late_by_ms: int


class OutputReader:
    """Reads the outputs of one pipeline."""

    def __init__(self, plans: Sequence[AggregatePlan]) -> None:
        self._plans = plans
        # By name: plans that differ in their windows.
        self._by_name: dict[str, list[int]] = {}
        for index, plan in enumerate(plans):
            self._by_name.setdefault(plan.name, []).append(index)
        self._key_names = [tuple(field.path for field in plan.keys) for plan in plans]
        self._sum_names = [tuple(field.path for field in plan.sums) for plan in plans]
        self._fast_result = fast_result(plans)

    def result(self, key: bytes | None, value: bytes | None) -> Found:
        """Read a result; raises MalformedError or UnknownAggregateError."""
        plain = self._fast_result(key, value)
        if plain is not None:
            for index in self._by_name[self._plans[plain.aggregate].name]:
                start = _window_start(plain.start, plain.end, self._plans[index].window_ms)
                if start is not None:
                    return Found(index, plain.key, start, plain.records, plain.sums, 0)
        return self._read(key, value, _RESULT)

    def correction(self, key: bytes | None, value: bytes | None) -> Found:
        """Read a correction; raises as ``result`` does."""
        return self._read(key, value, _CORRECTION)

    def _read(self, key: bytes | None, value: bytes | None, names: tuple[str, ...]) -> Found:
        record = _load(value, "value")
        if tuple(record) != names:
            raise MalformedError(f"its value has the fields {list(record)} instead of {list(names)}")
        identity = {name: record[name] for name in names[:3]}
        # Texts are compared, since dicts are equal in any order.
        if _dump(identity) != key and json.dumps(_load(key, "key")) != json.dumps(identity):
            raise MalformedError("its key does not say the same as its value")
        indexes = self._by_name.get(record["aggregate"]) if isinstance(record["aggregate"], str) else None
        if indexes is None:
            raise UnknownAggregateError(str(record["aggregate"]))
        *others, index = indexes
        index = next((other for other in others if self._is_window_of(record, self._plans[other])), index)
        plan = self._plans[index]
        start = self._start(record, plan)
        count = record["count"]
        if type(count) is not int or count < 1:
            raise MalformedError(f"its count is {count!r}")
        late_by = record.get("late_by_ms", 0)
        if type(late_by) is not int:
            raise MalformedError(f"its late_by_ms is {late_by!r}")
        key_values = _named(record["key"], self._key_names[index], "key")
        sums = _named(record["sum"], self._sum_names[index], "sum")
        return Found(
            index,
            tuple(map(_key_value, plan.keys, key_values)),
            start,
            count,
            tuple(map(_sum_value, plan.sums, sums)),
            late_by,
        )

    def _is_window_of(self, record: Mapping[str, Any], plan: AggregatePlan) -> bool:
        try:
            self._start(record, plan)
        except MalformedError:
            return False
        return True

    def _start(self, record: Mapping[str, Any], plan: AggregatePlan) -> int:
        start = _time(record["start"]) if isinstance(record["start"], str) else None
        if start is None or start % plan.window_ms:
            raise MalformedError(f"its start {record['start']!r} starts no window of {plan.name}")
        if record["end"] != _text(start + plan.window_ms):
            raise MalformedError(f"its end is {record['end']!r} instead of {_text(start + plan.window_ms)!r}")
        return start


@lru_cache(maxsize=4096)
def _time(text: str) -> int | None:
    ms = times.parse_rfc3339(text)
    return ms if ms is not None and ms >= 0 and _text(ms) == text else None


@lru_cache(maxsize=4096)
def _window_start(start: bytes, end: bytes, window_ms: int) -> int | None:
    """Epoch ms of a window's start; None where the two are no window's."""
    ms = _time(start.decode())
    return ms if ms is not None and ms % window_ms == 0 and _text(ms + window_ms).encode() == end else None


@lru_cache(maxsize=4096)
def _text(ms: int) -> str:
    return times.format_rfc3339(ms)


def _load(value: bytes | None, what: str) -> dict[str, Any]:
    if value is None:
        raise MalformedError(f"it has no {what}")
    try:
        record = orjson.loads(value)
        # What is written as orjson would has no white space and no name twice, and its ints are exact.
        if isinstance(record, dict) and _dump(record) == value:
            return record
    except orjson.JSONDecodeError:
        pass  # An integer beyond a double's range, say; the strict reader has the last word.
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(f"its {what} is not UTF-8") from error
    document = strictjson.parse(text)
    if document is None or not document.finite or not isinstance(document.value, strictjson.Object):
        raise MalformedError(f"its {what} is no JSON object")
    if _WHITE_SPACE.search(_STRINGS.sub("", text)):
        raise MalformedError(f"its {what} has white space between its fields")
    try:
        return _plain(document.value)
    except RecursionError as error:
        raise MalformedError(f"its {what} is nested too deeply") from error


def _plain(record: strictjson.Object) -> dict[str, Any]:
    if record.twice:
        raise MalformedError(f"it names {sorted(record.twice)} twice")
    plain: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, strictjson.Object):
            plain[name] = _plain(value)
        elif isinstance(value, strictjson.Number):
            plain[name] = _number(value)
        else:
            plain[name] = value
    return plain


def _number(text: str) -> float | int:
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError as error:
        raise MalformedError(f"it has a number of {len(text)} digits") from error


def _dump(record: dict[str, Any]) -> bytes | None:
    try:
        return orjson.dumps(record)
    except TypeError:  # an int of more than 64 bits
        return None


def _named(record: object, names: tuple[str, ...], what: str) -> list[Any]:
    if not isinstance(record, dict) or tuple(record) != names:
        raise MalformedError(f"its {what} is {record!r}, not an object with the fields {list(names)}")
    return list(record.values())


def _key_value(field: Field, value: Any) -> str | int:
    if field.type == "string" and isinstance(value, str):
        return value
    if field.type == "int" and type(value) is int and -_NOT_INT64 <= value < _NOT_INT64:
        return value
    raise MalformedError(f"its key field {field.path} is {value!r}, not {_article(field)}")


def _sum_value(field: Field, value: Any) -> float | int:
    match field.type:
        case "int" if type(value) is int:
            return value
        case "decimal" if isinstance(value, str) and len(value) < _MOST_DIGITS and _DECIMAL.fullmatch(value):
            unscaled = int(value.replace(".", ""))
            if exact.decimal_text(unscaled, field.scale) == value:
                return unscaled
        case "float" if type(value) is int:
            try:
                return float(value)
            except OverflowError:
                return value
        case "float" if type(value) is float and math.isfinite(value):
            return value
    raise MalformedError(f"its sum of {field.path} is {value!r}, not {_article(field)}")


def _article(field: Field) -> str:
    return {
        "string": "a string",
        "int": "an int",
        "decimal": f"a string with {field.scale} decimals",
        "float": "a finite number",
    }[field.type]
