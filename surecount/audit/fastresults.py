"""The fast way for results that are plainly as docs/records.md has them: one regular expression for each
aggregate. What does not match is for the strict reader to say."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import orjson

from surecount.audit.truth import AggregatePlan, Key

if TYPE_CHECKING:
    from udfs.spec import Field

_NAME_AT = len(b'{"aggregate":"')
_INT64 = rb"(0|-?[1-9][0-9]{0,17})"
_KEY_TYPES = {"string": rb'"([^"\\\x00-\x1f]*)"', "int": _INT64}
_TIME = rb'"([0-9TZ:.-]+)"'


class Plain(NamedTuple):
    """A result: the aggregate's index, its key, ``start`` and ``end`` as text, records, and int sums."""

    aggregate: int
    key: Key
    start: bytes
    end: bytes
    records: int
    sums: tuple[int, ...]


def fast_result(plans: Sequence[AggregatePlan]) -> Callable[[bytes | None, bytes | None], Plain | None]:
    """A function from a record's key and value to the result, or None where it is not plainly one."""
    of_name = {
        plan.name.encode(): (index, _pattern(plan).fullmatch, [field.type == "string" for field in plan.keys])
        for index, plan in enumerate(plans)
        if all(field.type == "int" for field in plan.sums)
    }

    def read(key: bytes | None, value: bytes | None) -> Plain | None:
        if key is None or value is None:
            return None
        known = of_name.get(value[_NAME_AT : value.find(b'"', _NAME_AT)])
        if known is None:
            return None
        index, match, texts = known
        found = match(value)
        # A key is the value's beginning, up to the window's start, and a brace.
        if found is None or value[: found.end("start") + 1] != key[:-1] or key[-1:] != b"}":
            return None
        groups = found.groups()
        width = len(texts)
        try:
            fields = tuple(
                [part.decode() if text else int(part) for text, part in zip(texts, groups[:width], strict=True)]
            )
        except UnicodeDecodeError:
            return None
        start, end, records = groups[width : width + 3]
        return Plain(index, fields, start, end, int(records), tuple(map(int, groups[width + 3 :])))

    return read


def _pattern(plan: AggregatePlan) -> re.Pattern[bytes]:
    key = b",".join(_member(field, _KEY_TYPES[field.type]) for field in plan.keys)
    sums = b",".join(_member(field, _INT64) for field in plan.sums)
    start = _TIME.replace(b"(", b"(?P<start>", 1)
    text = rb'\{"aggregate":"%b","key":\{%b\},"start":%b,"end":%b,"count":([1-9][0-9]{0,17}),"sum":\{%b\}\}'
    return re.compile(text % (re.escape(plan.name.encode()), key, start, _TIME, sums))


def _member(field: Field, value: bytes) -> bytes:
    return re.escape(orjson.dumps(field.path)) + b":" + value
