"""Results and corrections as the JSON of docs/records.md, packed by the thousand.

What all keys of a window share leaves Python once; the JVM puts each record together. A pack's text has
one key a line: the key's JSON, a tab, and what the value has beyond the shared parts. JSON escapes line
feeds and tabs inside strings, so the JVM can take a pack apart without reading it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from udfs import numbers, partials, times
from udfs.spec import Field
from udfs.tables import to_list
from udfs.window_log import Merged

PACK_RECORDS = 2000
_PACK_CHARACTERS = 4 << 20
"""Where a key may be as large as a record, a pack holds fewer."""


@dataclass(frozen=True)
class Pack:
    """Up to :data:`PACK_RECORDS` records of one window.

    With a line's two parts ``key`` and ``rest``, a record's key is ``head + key + key_tail``, its value
    ``head + key + middle + rest + tail``.
    """

    head: str
    key_tail: str
    middle: str
    tail: str
    lines: str

    def records(self) -> Iterator[tuple[str, str]]:
        """Keys and values, put together as the JVM does it."""
        for line in self.lines.split("\n"):
            key, _, rest = line.partition("\t")
            yield f"{self.head}{key}{self.key_tail}", f"{self.head}{key}{self.middle}{rest}{self.tail}"


def packs(merged: Merged) -> Iterator[Pack]:
    """All keys of a window."""
    start, end = times.to_rfc3339(merged.start), times.to_rfc3339(merged.end)
    head = f'{{"aggregate":"{merged.aggregate.name}","key":'
    key_tail = f',"start":"{start}"}}'
    middle = f',"start":"{start}","end":"{end}","count":'
    tail = "}" if merged.late_by_ms is None else f',"late_by_ms":{merged.late_by_ms}}}'
    counts = to_list(merged.partial.column("count"))
    lines = [
        f'{key}\t{count},"sum":{total}' for key, count, total in zip(_keys(merged), counts, _sums(merged), strict=True)
    ]
    most = max(1, min(PACK_RECORDS, _PACK_CHARACTERS // max(map(len, lines), default=1)))
    for at in range(0, len(lines), most):
        yield Pack(head, key_tail, middle, tail, "\n".join(lines[at : at + most]))


def _keys(merged: Merged) -> Iterator[str]:
    return _objects(
        [field.path for field in merged.aggregate.key],
        [
            [orjson.dumps(value).decode() for value in to_list(merged.partial.column(f"k{i}"))]
            for i in range(len(merged.aggregate.key))
        ],
        merged.partial.num_rows,
    )


def _sums(merged: Merged) -> Iterator[str]:
    fields = merged.aggregate.sums
    columns = [
        [_number(value, field) for value in column]
        for field, column in zip(fields, partials.sums(merged.partial, merged.aggregate), strict=True)
    ]
    return _objects([field.path for field in fields], columns, merged.partial.num_rows)


def _objects(names: list[str], columns: list[list[str]], rows: int) -> Iterator[str]:
    """A JSON object for each row, of names and of columns that are JSON already."""
    if not names:
        return ("{}" for _ in range(rows))
    names = [orjson.dumps(name).decode() for name in names]
    if len(names) == 1:
        return (f"{{{names[0]}:{value}}}" for value in columns[0])
    escaped = [name.replace("{", "{{").replace("}", "}}") for name in names]
    template = "{{" + ",".join(f"{name}:{{}}" for name in escaped) + "}}"
    return (template.format(*row) for row in zip(*columns, strict=True))


def _number(value: int, field: Field) -> str:
    match field.type:
        case "decimal":
            return f'"{numbers.decimal_text(value, field.scale)}"'
        case "float":
            return numbers.float_json(value)
    return str(value)
