"""Columns of accepted records become partials, one for each aggregate, bucket and window.

A bucket is a stable hash of the key: Flink keys its state by bucket, so one timer and one write serve
all keys of a bucket.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from udfs import partials
from udfs.decode import Columns
from udfs.spec import Aggregate, Spec
from udfs.tables import to_list

_FRAME = struct.Struct("<HqI")  # length of the name, window start, length of the partial


@dataclass(frozen=True)
class Piece:
    """One partial on its way: ``start`` is its window's, in ms."""

    bucket: int
    aggregate: str
    start: int
    partial: bytes


def combine(columns: Columns, spec: Spec) -> Iterator[Piece]:
    """The pieces of a batch; their counts add up to its records for each aggregate."""
    if len(columns.rows) == 0:
        return
    for aggregate in spec.aggregates:
        grouped = _group(columns, aggregate)
        buckets = bucket_of([grouped.column(f"k{i}") for i in range(len(aggregate.key))], spec.buckets)
        starts = grouped.column("start").to_numpy()
        order = np.lexsort((starts, buckets))
        buckets, starts = buckets[order], starts[order]
        sorted_ = grouped.take(pa.array(order)).drop_columns(["start"])
        edges = np.flatnonzero(np.diff(buckets) | np.diff(starts)) + 1
        bounds = [0, *edges.tolist(), len(order)]
        for first, last in pairwise(bounds):
            partial = partials.encode(sorted_.slice(first, last - first), aggregate)
            yield Piece(int(buckets[first]), aggregate.name, int(starts[first]), partial)


def _group(columns: Columns, aggregate: Aggregate) -> pa.RecordBatch:
    names = [f"k{i}" for i in range(len(aggregate.key))]
    table = {name: columns.fields[field.path] for name, field in zip(names, aggregate.key, strict=True)}
    table["start"] = pa.array(columns.time_ms - columns.time_ms % aggregate.window_ms)
    table["count"] = pa.array(np.ones(len(columns.rows), np.int64))
    for i, field in enumerate(aggregate.sums):
        table[f"s{i}"] = columns.fields[field.path]
    return partials.group(pa.table(table), [*names, "start"], aggregate)


def bucket_of(keys: list[pa.Array], buckets: int) -> npt.NDArray[np.int64]:
    """The bucket of each key: CRC-32 over its columns, strings as UTF-8, integers as decimal text."""
    hashes: list[int] | None = None
    for column in keys:
        data = to_list(column.cast(pa.string()).cast(pa.binary()))
        hashes = list(map(crc32, data, hashes) if hashes is not None else map(crc32, data))
    return np.asarray(hashes, np.int64) % buckets


def by_bucket(pieces: Iterable[Piece]) -> dict[int, bytes]:
    """Pieces as one value for each bucket."""
    found: dict[int, list[bytes]] = {}
    for piece in pieces:
        name = piece.aggregate.encode()
        head = _FRAME.pack(len(name), piece.start, len(piece.partial))
        found.setdefault(piece.bucket, []).extend((head, name, piece.partial))
    return {bucket: b"".join(parts) for bucket, parts in found.items()}


def unpack(bucket: int, data: bytes) -> Iterator[Piece]:
    """The pieces of one bucket of :func:`by_bucket`."""
    at = 0
    while at < len(data):
        name_length, start, length = _FRAME.unpack_from(data, at)
        at += _FRAME.size
        name = data[at : at + name_length].decode()
        at += name_length
        yield Piece(bucket, name, start, data[at : at + length])
        at += length
