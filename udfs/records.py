"""Accepted records with their ids and origins: how they travel from decoding to deduplication, and on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from udfs.decode import Columns
from udfs.id_log import Ids
from udfs.ids import buckets_of, of_fields, of_origins
from udfs.spec import Field, Inlet

ORIGIN_HEADERS = ("surecount.pathway", "surecount.topic", "surecount.partition", "surecount.offset")
REPLAYED_HEADER = "surecount.replayed"
RELAYED_HEADER = "surecount.relayed"
"""On a relay's copy: the record's partition and offset on its pathway's cluster, when the copy was made, in s since
1970, or 0, and the record's topic, apart by spaces. One header, as Flink copies a map of headers entry by entry."""

Headers = dict[str, bytes]
Int64s = npt.NDArray[np.int64]

_HEADERS = pa.map_(pa.string(), pa.binary())
_SCHEMA = pa.schema(
    [
        ("id", pa.binary(16)),
        ("time", pa.int64()),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", _HEADERS),
        ("place", pa.int32()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("kafka_ms", pa.int64()),
        ("replayed", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Origin:
    """Where a record stands on its pathway's cluster."""

    pathway: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Arrived:
    """A batch as Kafka's source gives it, one entry a record; arrays of Arrow where there can be nulls.

    ``headers`` are empty where a record has only that of a relay, which says no more than the rest: ``inlet`` numbers
    where it comes from, partition and offset are those there.
    """

    values: pa.Array
    keys: pa.Array
    headers: pa.MapArray
    inlet: Int64s
    partition: Int64s
    offset: Int64s
    kafka_ms: Int64s

    def origin(self, row: int, inlets: Sequence[Inlet]) -> Origin:
        """Where a record stands on its pathway's cluster."""
        inlet = inlets[self.inlet[row]]
        topic = inlet.topic or dict(self.headers[row].as_py())[RELAYED_HEADER].decode().split(" ", 3)[3]
        return Origin(inlet.pathway, topic, int(self.partition[row]), int(self.offset[row]))

    def own_headers(self, rows: Int64s, inlets: Sequence[Inlet]) -> dict[int, list[tuple[str, bytes]]]:
        """Of these rows, those that have headers beside a relay's, without it.

        Those of value null are left out: Flink's Kafka sink cannot write them.
        """
        rows = rows[np.diff(self.headers.offsets.to_numpy())[rows] > 0]
        chosen = self.headers.take(pa.array(rows))
        # Not one by one: a value of Arrow's own for each record takes ten times as long.
        names, values = (part.to_numpy(zero_copy_only=False).tolist() for part in (chosen.keys, chosen.items))
        found = {}
        for row, (first, last) in zip(rows.tolist(), pairwise(chosen.offsets.to_numpy().tolist()), strict=True):
            dropped = RELAYED_HEADER if inlets[self.inlet[row]].relay is not None else None
            given = zip(names[first:last], values[first:last], strict=True)
            if own := [(name, value) for name, value in given if value is not None and name != dropped]:
                found[row] = own
        return found


def _stated_origin(headers: Headers) -> Origin:
    pathway, topic, partition, offset = (headers[name].decode() for name in ORIGIN_HEADERS)
    return Origin(pathway, topic, int(partition), int(offset))


@dataclass(frozen=True)
class Records:
    """Records of one bucket: a batch of ``_SCHEMA``, whose ``place`` numbers pathway and topic in ``places``."""

    batch: pa.RecordBatch
    places: tuple[tuple[str, str], ...]

    def encode(self) -> bytes:
        """As bytes that travel; they are not kept."""
        head = orjson.dumps(self.places)
        body: bytes = self.batch.serialize().to_pybytes()
        # Padded, so that Arrow finds its buffers aligned.
        head += b" " * (-(len(head) + 8) % 64)
        return len(head).to_bytes(8, "little") + head + body

    @classmethod
    def decode(cls, data: bytes) -> Records:
        """The inverse of :meth:`encode`."""
        body = 8 + int.from_bytes(data[:8], "little")
        places = tuple((pathway, topic) for pathway, topic in orjson.loads(data[8:body]))
        return cls(pa.ipc.read_record_batch(pa.py_buffer(data)[body:], _SCHEMA), places)

    def ids(self) -> Ids:
        """The ids, as :mod:`udfs.id_log` takes them."""
        column = self.batch.column("id")
        words = np.frombuffer(column.buffers()[1], "<u8")
        return words.reshape(-1, 2)[column.offset : column.offset + len(column)]

    def slice(self, start: int, length: int) -> Records:
        """So many from there on, or fewer at the end."""
        return Records(self.batch.slice(start, length), self.places)

    def column(self, name: str) -> npt.NDArray[Any]:
        """A column; of objects, which may be None, where it is of bytes."""
        values: npt.NDArray[Any] = self.batch.column(name).to_numpy(zero_copy_only=False)
        return values

    def headers(self) -> list[Headers | None]:
        """The own headers of each, None where there are none."""
        column = self.batch.column("headers")
        if column.null_count == len(column):
            return [None] * len(column)
        return [given and dict(given) for given in column.to_pylist()]

    def by_place(self) -> Iterator[tuple[tuple[str, str], Records]]:
        """Those of each pathway and topic, in order."""
        place = self.column("place")
        for number in np.unique(place).tolist():
            yield self.places[number], self.filter(place == number)

    def filter(self, mask: npt.NDArray[np.bool_]) -> Records:
        """Those where the mask is true."""
        return self if mask.all() else Records(self.batch.filter(pa.array(mask)), self.places)


def by_bucket(
    arrived: Arrived, columns: Columns, event_id: Sequence[Field], inlets: Sequence[Inlet], buckets: int
) -> Iterator[tuple[int, Records]]:
    """The accepted records of a batch, apart by bucket of their ids, each bucket's in order of arrival."""
    if len(columns.rows) == 0:
        return
    in_order = np.argsort(columns.rows, kind="stable")
    rows = columns.rows[in_order]
    place, partition, offset, headers, places = _places(arrived, rows, inlets)
    if event_id:
        fields = [columns.fields[field.path].take(pa.array(in_order)) for field in event_id]
        identities = of_fields(fields)
    else:
        identities = of_origins(_origins(headers, places, place, partition, offset))
    bucket = buckets_of(identities, buckets)
    order = np.argsort(bucket, kind="stable")
    whole = pa.RecordBatch.from_arrays(
        [
            pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(rows), [None, pa.py_buffer(identities.tobytes())]),
            pa.array(columns.time_ms[in_order]),
            _of(arrived.keys, rows),
            _of(arrived.values, rows),
            pa.array(headers, _HEADERS) if any(headers) else pa.nulls(len(rows), _HEADERS),
            pa.array(place, pa.int32()),
            pa.array(partition, pa.int32()),
            pa.array(offset, pa.int64()),
            pa.array(arrived.kafka_ms[rows]),
            pa.array([given is not None and any(n == REPLAYED_HEADER for n, _ in given) for given in headers]),
        ],
        schema=_SCHEMA,
    ).take(pa.array(order))
    edges = [0, *(np.flatnonzero(np.diff(bucket[order])) + 1).tolist(), len(order)]
    for first, last in pairwise(edges):
        yield int(bucket[order[first]]), Records(whole.slice(first, last - first), places)


def _of(values: pa.Array, rows: Int64s) -> pa.Array:
    """Those of some rows, in order; most often of all."""
    return values if len(rows) == len(values) else values.take(pa.array(rows))


def _places(
    arrived: Arrived, rows: Int64s, inlets: Sequence[Inlet]
) -> tuple[Int64s, Int64s, Int64s, list[list[tuple[str, bytes]] | None], tuple[tuple[str, str], ...]]:
    """Place, partition and offset of each record's origin, its own headers, and what the places are."""
    places = {(inlet.pathway, inlet.topic or ""): number for number, inlet in enumerate(inlets)}
    place = arrived.inlet[rows].astype(np.int64)
    nameless = np.array([inlet.topic is None for inlet in inlets])[place]
    for at in np.flatnonzero(nameless).tolist():
        origin = arrived.origin(int(rows[at]), inlets)
        place[at] = places.setdefault((origin.pathway, origin.topic), len(places))
    own = arrived.own_headers(rows, inlets)
    headers = [own.get(row) for row in rows.tolist()]
    return place, arrived.partition[rows], arrived.offset[rows], headers, tuple(places)


def _origins(
    headers: Sequence[list[tuple[str, bytes]] | None],
    places: Sequence[tuple[str, str]],
    place: Int64s,
    partition: Int64s,
    offset: Int64s,
) -> Iterator[tuple[str, str, int, int]]:
    """What tells records apart that have no id: the origin that one states, or else its own."""
    for given, *own in zip(headers, place.tolist(), partition.tolist(), offset.tolist(), strict=True):
        named = dict(given or ())
        if all(name in named for name in ORIGIN_HEADERS):
            try:
                stated = _stated_origin(named)
            except ValueError:  # someone else's headers of these names
                pass
            else:
                yield stated.pathway, stated.topic, stated.partition, stated.offset
                continue
        yield *places[own[0]], own[1], own[2]
