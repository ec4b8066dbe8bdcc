"""A plain model of packs, which the interceptor and what reads them are held against, and random records for it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from udfs import packs

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True)
class Sent:
    """A record as a producer sends it."""

    value: bytes | None = b""
    key: bytes | None = None
    headers: Headers = ()
    kafka_ms: int = 0
    offset: int = 0
    whole: bytes | None = None
    """The value as it came, of which ``value`` is what is left; null where that is the same."""


def columns(batch: Sequence[Sequence[Sent]]) -> list[pa.Array]:
    """The columns that :func:`udfs.packs.unpack` gets of these packs."""
    rows = [_pack(records) for records in batch]
    return [pa.array(column, pa.binary()) for column in zip(*rows, strict=True)]


def batch(packs: Sequence[Sequence[Sent]], *, number: int = 0, source: int = 0, partition: int = 3) -> bytes:
    """What Python gets of these packs, all of one topic and partition."""
    rows = [_pack(records) for records in packs]
    columns = [*zip(*rows, strict=True)] if rows else [()] * 5
    bounds = [accumulate(map(len, column), initial=0) for column in columns]
    numbers = [*[source] * len(rows), *[partition] * len(rows), *(bound for of in bounds for bound in of)]
    head = struct.pack("<4siii", b"SCBA", 4, len(rows), number)
    return b"".join(
        [head, struct.pack(f"<{len(numbers)}i", *numbers), *(data for column in columns for data in column)]
    )


def _pack(records: Sequence[Sent]) -> list[bytes]:
    index = b"".join(map(_entry, records))
    headers = [(name.encode(), value) for record in records for name, value in record.headers]
    return [
        index,
        b"".join(r.value or b"" for r in records),
        b"".join(r.key or b"" for r in records),
        b"".join(struct.pack("<ii", len(name), _length(value)) for name, value in headers),
        b"".join(name + (value or b"") for name, value in headers),
    ]


def _entry(r: Sent) -> bytes:
    whole = r.value if r.whole is None else r.whole
    return struct.pack(
        "<qqiiii", r.offset, r.kafka_ms, _length(r.key), _length(r.value), len(r.headers), _length(whole)
    )


def _length(data: bytes | None) -> int:
    return -1 if data is None else len(data)


def unpacked(found: packs.Unpacked) -> list[tuple[int, Sent]]:
    """Each record with the row of its pack."""
    columns = (found.values, found.keys, found.headers)
    return [
        (pack, Sent(value, key, tuple(headers), kafka_ms, offset))
        for pack, kafka_ms, offset, value, key, headers in zip(
            found.pack.tolist(),
            found.kafka_ms.tolist(),
            found.offset.tolist(),
            *(column.to_pylist() for column in columns),
            strict=True,
        )
    ]


@dataclass(frozen=True)
class Reject:
    """A record of a rejects block. With a ``pack`` its value is there, from ``start``, ``size`` bytes long."""

    pack: int
    start: int
    size: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]

    @property
    def said(self) -> dict[str, str]:
        """What our headers say of it, without their prefix."""
        return {
            name.removeprefix("surecount."): (value or b"").decode()
            for name, value in self.headers
            if name.startswith("surecount.")
        }

    @property
    def own(self) -> list[tuple[str, bytes | None]]:
        """The headers that it came with."""
        return [(name, value) for name, value in self.headers if not name.startswith("surecount.")]


def read_rejects(block: bytes) -> list[Reject]:
    """The records of a block, read one number at a time."""
    assert struct.unpack_from("<4si", block) == (b"SCRJ", 4)
    (number,), at, found = struct.unpack_from("<i", block, 8), 12, []
    for _ in range(number):
        pack, start, size, count = struct.unpack_from("<4i", block, at)
        at += 16
        parts: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from("<i", block, at)
            at += 4
            parts.append(None if length < 0 else block[at : at + length])
            at += max(length, 0)
        key, value, *rest = parts
        names = [(name or b"").decode() for name in rest[::2]]
        found.append(Reject(pack, start, size, key, value, [*zip(names, rest[1::2], strict=True)]))
    assert at == len(block)
    return found


@dataclass(frozen=True)
class Answer:
    """What a decoding function makes of a batch; ``times`` are those by topic's number and partition."""

    pieces: dict[int, bytes]
    rejected: list[Reject]
    times: dict[tuple[int, int], tuple[int, int]]


def answer(function: Any, data: bytes) -> Answer:
    """Give a batch to a decoding function. The end of the batch comes last."""
    rows = [(row[0], bytes(row[1])) for row in function.process_element(data, None)]
    pieces = {number: content for number, content in rows if number >= 0}
    rejected = [reject for number, content in rows if number == -1 for reject in read_rejects(content)]
    (last, end) = rows[-1]
    assert last == -2 and len(pieces) + len([n for n, _ in rows if n == -1]) + 1 == len(rows)
    number, count = struct.unpack_from("<ii", end)
    assert number == struct.unpack_from("<i", data, 12)[0]
    times = {}
    for at in range(8, 8 + 24 * count, 24):
        source, partition, *of_both = struct.unpack_from("<iiqq", end, at)
        times[source, partition] = (of_both[0], of_both[1])
    assert len(end) == 8 + 24 * count
    return Answer(pieces, rejected, times)


def opened(function: Any) -> Any:
    """A function as Flink opens it, where metrics are off, and nothing is replaced of PyFlink and Beam."""
    context = SimpleNamespace(get_metrics_group=lambda: None, get_job_parameter=lambda *_: "false")
    function.open(context)
    return function


_data = st.none() | st.binary(max_size=6)
records = st.builds(
    Sent,
    value=_data,
    key=_data,
    headers=st.lists(st.tuples(st.text(st.characters(codec="utf-8"), max_size=3), _data), max_size=3).map(tuple),
    kafka_ms=st.integers(-1, (1 << 63) - 1),
    offset=st.integers(0, (1 << 63) - 1),
)
"""Records with anything in them, in no order."""
