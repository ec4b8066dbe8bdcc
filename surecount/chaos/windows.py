"""Results and corrections of a run whose answers are known, read strictly as docs/records.md has them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import orjson

from surecount.audit import times
from surecount.generator.answers import Answer

Number = int | Decimal | float

_RESULT = ("aggregate", "key", "start", "end", "count", "sum")
_FIELDS = {"results": _RESULT, "corrections": (*_RESULT, "late_by_ms")}
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_WHITE_SPACE = re.compile(r"[ \t\n\r]")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.([0-9]+))?")
_INT64 = range(-(1 << 63), 1 << 63)


class UnreadableError(Exception):
    """The value is not as the contract has it; the message says in what."""


class Window(NamedTuple):
    """What one result or correction says of a key's window. ``answer`` is the index of the aggregate's answer, ``key``
    the key's JSON, times are ms since 1970. ``sums`` are in the order of the answer's, or empty where it has none."""

    answer: int
    key: bytes
    start: int
    end: int
    records: int
    sums: tuple[Number, ...]


class WindowReader:
    """Reads the results and corrections of the answers' aggregates.

    ValueError where two answers are about the same aggregate and window.
    """

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = answers
        self._indexes = {(answer.aggregate, answer.window_ms): index for index, answer in enumerate(answers)}
        self._keys: dict[bytes, bytes] = {}
        if len(self._indexes) < len(answers):
            raise ValueError("two answers are about the same aggregate and window")

    def read(self, output: Literal["results", "corrections"], value: bytes) -> Window:
        """Read one; raises UnreadableError, whatever the bytes are."""
        record = _load(value)
        fields = _FIELDS[output]
        if not isinstance(record, dict) or tuple(record) != fields:
            raise UnreadableError(f"it is no object of the fields {', '.join(fields)}")
        start, end = _time(record["start"]), _time(record["end"])
        name, count, late_by = record["aggregate"], record["count"], record.get("late_by_ms", 0)
        index = self._indexes.get((name, end - start)) if isinstance(name, str) else None
        if index is None:
            raise UnreadableError("its aggregate, with windows as long as this, has no answer")
        answer = self._answers[index]
        if start % answer.window_ms:
            raise UnreadableError("no window begins at its start")
        if type(count) is not int or count < 1:
            raise UnreadableError("its count is no number of records")
        if type(late_by) is not int or late_by < 0:
            raise UnreadableError("its late_by_ms is no number of ms")
        key = _key(record["key"])
        return Window(index, self._keys.setdefault(key, key), start, end, count, _sums(record["sum"], answer))


@lru_cache(maxsize=4096)
def rfc3339(ms: int) -> str:
    """The time at ``ms`` since 1970, as outputs write it."""
    return times.format_rfc3339(ms)


def _load(value: bytes) -> Any:
    try:
        record = orjson.loads(value)
        # What orjson would write so has no white space and no name twice, and its ints are exact.
        if orjson.dumps(record) == value:
            return record
    except (orjson.JSONDecodeError, TypeError):
        pass  # An integer of more than 64 bits, say, which the slow way reads.
    try:
        text = value.decode()
        record = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
        json.dumps(record, ensure_ascii=False).encode()  # A lone surrogate is no text.
    except (ValueError, RecursionError) as error:
        raise UnreadableError("it is not JSON, names a field twice or holds a number too long to read") from error
    if _WHITE_SPACE.search(_STRING.sub("", text)):
        raise UnreadableError("it has white space between its fields")
    return record


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a name stands twice")
    return record


def _constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _time(value: object) -> int:
    ms = _parsed(value) if isinstance(value, str) else None
    if ms is None:
        raise UnreadableError("its start or end is no time as results have them")
    return ms


@lru_cache(maxsize=4096)
def _parsed(text: str) -> int | None:
    ms = times.parse_rfc3339(text)
    return ms if ms is not None and ms >= 0 and rfc3339(ms) == text else None


def _key(value: object) -> bytes:
    if not isinstance(value, dict) or not value:
        raise UnreadableError("its key is no object with fields")
    for part in value.values():
        if not isinstance(part, str) and (type(part) is not int or part not in _INT64):
            raise UnreadableError("its key has a field that is neither a string nor an int of 64 bits")
    return orjson.dumps(value)


def _sums(value: object, answer: Answer) -> tuple[Number, ...]:
    if not isinstance(value, dict):
        raise UnreadableError("its sum is no object")
    if answer.unknown:
        if not all(map(_is_number, value.values())):
            raise UnreadableError("it has a sum that is no number")
        return ()
    if tuple(value) != tuple(answer.sums):
        raise UnreadableError(f"its sums are not of {', '.join(answer.sums) or 'no field'}, in this order")
    return tuple([_sum(path, total, value[path]) for path, total in answer.sums.items()])


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return _DECIMAL.fullmatch(value) is not None
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _sum(path: str, total: Number, value: object) -> Number:
    """A sum of the type of the answer's, whose decimals are also those of the field."""
    if isinstance(total, float):
        if isinstance(value, int | float) and _is_number(value):
            return _double(value)
    elif isinstance(total, Decimal):
        match = _DECIMAL.fullmatch(value) if isinstance(value, str) else None
        if match and len(match[1] or "") == len(f"{total:f}".partition(".")[2]):
            number = Decimal(match[0])
            if number or not match[0].startswith("-"):
                return number
    elif type(value) is int:
        return value
    raise UnreadableError(f"its sum of {path} is not written as one of {type(total).__name__} {total}")


def _double(value: float) -> Number:
    try:
        return float(value)
    except OverflowError:
        return value  # An int beyond a double's range stands for itself.
