"""A plain model of packs, which the interceptor and what reads them are held against, and random records for it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

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


def _pack(records: Sequence[Sent]) -> list[bytes | None]:
    index = b"".join(map(_entry, records))
    headers = [(name.encode(), value) for record in records for name, value in record.headers]
    return [
        index,
        b"".join(r.value or b"" for r in records),
        b"".join(r.key or b"" for r in records) or None,
        b"".join(struct.pack("<ii", len(name), _length(value)) for name, value in headers) or None,
        b"".join(name + (value or b"") for name, value in headers) or None,
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
