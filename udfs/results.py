"""Results and corrections as the JSON of docs/records.md, packed by the thousand.

A pack is one text: records by line feed, key and value by tab. JSON escapes both inside strings, so the
JVM can take a pack apart without reading it.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from udfs import numbers, partials, times
from udfs.spec import Field
from udfs.window_log import Merged

PACK_RECORDS = 2000


def lines(merged: Merged) -> Iterator[str]:
    """``key TAB value`` for each key of a window."""
    aggregate = merged.aggregate
    start, end = times.to_rfc3339(merged.start), times.to_rfc3339(merged.end)
    head = f'{{"aggregate":"{aggregate.name}","key":'
    tail = "}" if merged.late_by_ms is None else f',"late_by_ms":{merged.late_by_ms}}}'
    count = merged.partial.column("count").to_pylist()
    for key, n, total in zip(_keys(merged), count, _sums(merged), strict=True):
        common = f'{head}{key},"start":"{start}"'
        yield f'{common}}}\t{common},"end":"{end}","count":{n},"sum":{total}{tail}'


def packs(merged: Merged) -> Iterator[str]:
    """The lines, up to :data:`PACK_RECORDS` in a text."""
    pack: list[str] = []
    for line in lines(merged):
        pack.append(line)
        if len(pack) == PACK_RECORDS:
            yield "\n".join(pack)
            pack = []
    if pack:
        yield "\n".join(pack)


def _keys(merged: Merged) -> Iterator[str]:
    names = [orjson.dumps(field.path).decode() for field in merged.aggregate.key]
    columns = [merged.partial.column(f"k{i}").to_pylist() for i in range(len(names))]
    if len(names) == 1:
        return (f"{{{names[0]}:{orjson.dumps(value).decode()}}}" for value in columns[0])
    return (
        "{" + ",".join(f"{n}:{orjson.dumps(v).decode()}" for n, v in zip(names, row, strict=True)) + "}"
        for row in zip(*columns, strict=True)
    )


def _sums(merged: Merged) -> Iterator[str]:
    fields = merged.aggregate.sums
    if not fields:
        return ("{}" for _ in range(merged.partial.num_rows))
    names = [orjson.dumps(field.path).decode() for field in fields]
    columns = [
        [_number(value, field) for value in column]
        for field, column in zip(fields, partials.sums(merged.partial, merged.aggregate), strict=True)
    ]
    return (
        "{" + ",".join(f"{n}:{v}" for n, v in zip(names, row, strict=True)) + "}" for row in zip(*columns, strict=True)
    )


def _number(value: int, field: Field) -> str:
    match field.type:
        case "decimal":
            return f'"{numbers.decimal_text(value, field.scale)}"'
        case "float":
            return numbers.float_json(value)
    return str(value)
