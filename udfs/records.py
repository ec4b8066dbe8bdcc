"""Accepted records with their ids and origins: how they travel from decoding to deduplication, and on."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from udfs.decode import Columns
from udfs.headers import ORIGIN_HEADERS, PREFIX, RELAYED_HEADER, SIZE_HEADER, TIMESTAMP_HEADER, WATERMARK_HEADER
from udfs.id_log import Ids
from udfs.ids import buckets_of, of_fields, of_origins
from udfs.packs import Unpacked, edges
from udfs.spec import MAX_EVENT_TIME_MS, Field, Inlet
from udfs.tables import to_list

REPLAY = "replay"
"""The pathway of what stands in the replay topic and is from nowhere else."""

_RELAYED = "^[0-9]{1,9} [0-9]{1,18} [0-9]{1,18} [a-zA-Z0-9._-]+$"
_OF_REPLAY = (*ORIGIN_HEADERS, TIMESTAMP_HEADER, f"{PREFIX}version", WATERMARK_HEADER)
"""Headers of the replay topic that are none of the record's own: what they say, the clean record says itself."""
_INT64 = 1 << 63
_PARTITION, _OFFSET, _MS = (re.compile(pattern) for pattern in (rb"[0-9]{1,9}", rb"[0-9]{1,18}", rb"-?[0-9]{1,19}"))

_MOST_BYTES = 63 << 20
"""Of a record that a sink can write: ours write 64 MiB, headers of their own included."""
_HEADER_BYTES = 10
"""Kafka writes two lengths of up to 5 bytes each beside a header's name and value."""

_FRAME = struct.Struct("<QQ")  # lengths of places and batch
_ALIGNED = 64

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


Places = tuple[tuple[str, str], ...]
"""Pathways and topics, by the numbers that records have of them."""


@dataclass(frozen=True)
class Arrived:
    """Records as they came, one entry each; arrays of Arrow where there can be nulls.

    Place, partition and offset are those on their pathway's cluster, and ``kafka_ms`` is the timestamp there.
    ``headers`` are the records' own, as they came, without what a relay or a replay has added to say that.
    ``relayed_ms`` is when a relay made a copy, in ms since 1970, and -1 where a record is none. ``replayed`` says that
    they are of the replay topic.
    """

    values: pa.Array
    keys: pa.Array
    headers: pa.MapArray
    place: Int64s
    partition: Int64s
    offset: Int64s
    kafka_ms: Int64s
    relayed_ms: Int64s
    places: Places
    replayed: bool = False

    def origin(self, row: int) -> Origin:
        """Where a record stands on its pathway's cluster."""
        pathway, topic = self.places[self.place[row]]
        return Origin(pathway, topic, int(self.partition[row]), int(self.offset[row]))


def sources(inlets: Sequence[Inlet]) -> list[str]:
    """The topics that are read; of a relay, that of its copies."""
    return [*dict.fromkeys(inlet.relay or inlet.topic or "" for inlet in inlets)]


def places(inlets: Sequence[Inlet]) -> Places:
    """The pathways of these topics, and the topics."""
    pathways = {inlet.relay or inlet.topic: inlet.pathway for inlet in inlets}
    return tuple((pathways[topic], topic) for topic in sources(inlets))


def arrive(found: Unpacked, source: Int64s, partition: Int64s, inlets: Sequence[Inlet]) -> Arrived:
    """Records with their origins; ``source`` numbers the topic of :func:`sources` that each came from.

    What headers say of that is believed in a relay's topic, which nobody else writes, and in no other. A copy there
    that does not say where it is from counts as a record of the topic of copies.
    """
    pathways = {inlet.relay or inlet.topic: inlet.pathway for inlet in inlets}
    found_places = [*places(inlets)]
    place, partition, offset = source.copy(), partition.copy(), found.offset.copy()
    relayed_ms = np.full(len(offset), -1)
    names, contents = found.headers.keys, found.headers.items
    owner = _owner(found)
    is_own = np.ones(len(names), bool)
    for relay in dict.fromkeys(inlet.relay for inlet in inlets if inlet.relay is not None):
        is_origin = pc.equal(names, RELAYED_HEADER).to_numpy(zero_copy_only=False)
        is_origin &= source[owner] == sources(inlets).index(relay)
        is_own &= ~is_origin
        # Null does not match.
        is_origin[is_origin] = pc.match_substring_regex(contents.filter(pa.array(is_origin)), _RELAYED).fill_null(False)
        rows = owner[is_origin]
        parts = pc.split_pattern(contents.filter(pa.array(is_origin)).cast(pa.string()), " ").flatten()
        stated = [parts.take(pa.array(np.arange(part, len(parts), 4))) for part in range(4)]
        partition[rows], offset[rows], seconds = (part.cast(pa.int64()).to_numpy() for part in stated[:3])
        relayed_ms[rows] = np.minimum(seconds, MAX_EVENT_TIME_MS // 1000) * 1000
        topics = stated[3].dictionary_encode()
        place[rows] = topics.indices.to_numpy() + len(found_places)
        found_places += [(pathways[relay], topic) for topic in to_list(topics.dictionary)]
    arrived = (found.values, found.keys, _own(found, is_own), place, partition, offset, found.kafka_ms, relayed_ms)
    return Arrived(*arrived, tuple(found_places))


def arrive_again(found: Unpacked, partition: Int64s, topic: str) -> Arrived:
    """Records of the replay ``topic``: headers say where each was when it was rejected, and its timestamp there.

    They are believed, as nobody but ``surecount rejects replay`` writes that topic. One that does not say it counts as
    a record of that topic, of the pathway :data:`REPLAY`.
    """
    names, contents = found.headers.keys, found.headers.items
    is_ours = pc.is_in(names, pa.array(_OF_REPLAY)).to_numpy(zero_copy_only=False)
    said: list[dict[str, bytes]] = [{} for _ in range(len(partition))]
    ours = pa.array(is_ours)
    columns = (_owner(found)[is_ours].tolist(), to_list(names.filter(ours)), to_list(contents.filter(ours)))
    for row, name, content in zip(*columns, strict=True):
        said[row][name] = content or b""
    kafka_ms = found.kafka_ms.copy()
    numbers: dict[tuple[str, str], int] = {}
    places: list[tuple[int, int, int]] = []
    for row, stated in enumerate(said):
        origin = _stated(stated) or Origin(REPLAY, topic, int(partition[row]), int(found.offset[row]))
        number = numbers.setdefault((origin.pathway, origin.topic), len(numbers))
        places.append((number, origin.partition, origin.offset))
        ms = stated.get(TIMESTAMP_HEADER, b"")
        if _MS.fullmatch(ms) and -_INT64 <= int(ms) < _INT64:
            kafka_ms[row] = int(ms)
    place, on, at = np.array(places, np.int64).reshape(-1, 3).T
    headers, relayed_ms = _own(found, ~is_ours), np.full(len(kafka_ms), -1)
    arrived = (found.values, found.keys, headers, place, on, at, kafka_ms, relayed_ms)
    return Arrived(*arrived, tuple(numbers), replayed=True)


def _owner(found: Unpacked) -> Int64s:
    """Of each header the row of its record."""
    return np.repeat(np.arange(len(found.offset)), np.diff(found.headers.offsets.to_numpy()))


def parts_of(headers: pa.MapArray) -> tuple[Int64s, pa.Array, pa.Array]:
    """Of headers of records: how many each record has, and the names, as bytes, and values of all."""
    bounds = headers.offsets.to_numpy().astype(np.int64)
    first, number = int(bounds[0]), int(bounds[-1] - bounds[0])
    return np.diff(bounds), headers.keys.slice(first, number).cast(pa.binary()), headers.items.slice(first, number)


def _own(found: Unpacked, is_own: npt.NDArray[np.bool_]) -> pa.MapArray:
    """Those of the headers where the mask is true."""
    if is_own.all():
        return found.headers
    chosen = pa.array(is_own)
    return pa.MapArray.from_arrays(
        pa.array(edges(np.bincount(_owner(found)[is_own], minlength=len(found.offset)))),
        found.headers.keys.filter(chosen),
        found.headers.items.filter(chosen),
    )


def _stated(headers: dict[str, bytes]) -> Origin | None:
    """The origin that headers state; None where they do not."""
    pathway, topic, partition, offset = (headers.get(name, b"") for name in ORIGIN_HEADERS)
    if not (pathway and topic and _PARTITION.fullmatch(partition) and _OFFSET.fullmatch(offset)):
        return None
    return Origin(pathway.decode("utf-8", "replace"), topic.decode("utf-8", "replace"), int(partition), int(offset))


@dataclass(frozen=True)
class Records:
    """Records of one bucket: a batch of ``_SCHEMA``, whose ``place`` numbers pathway and topic in ``places``."""

    batch: pa.RecordBatch
    places: Places

    def encode(self) -> bytes:
        """As bytes that travel; they are not kept."""
        head = orjson.dumps(self.places)
        body: bytes = self.batch.serialize().to_pybytes()
        # Padded, so that Arrow finds its buffers aligned.
        head += b" " * (-(len(head) + _FRAME.size) % _ALIGNED)
        body += bytes(-len(body) % _ALIGNED)
        return _FRAME.pack(len(head), len(body)) + head + body

    @classmethod
    def decode(cls, data: bytes) -> Iterator[Records]:
        """What was encoded, by one :meth:`encode` or by several one after the other."""
        at, buffer = 0, pa.py_buffer(data)
        while at < len(data):
            head, length = _FRAME.unpack_from(data, at)
            body = at + _FRAME.size + head
            places = tuple((pathway, topic) for pathway, topic in orjson.loads(data[at + _FRAME.size : body]))
            yield cls(pa.ipc.read_record_batch(buffer[body : body + length], _SCHEMA), places)
            at = body + length

    def ids(self) -> Ids:
        """The ids, as :mod:`udfs.id_log` takes them."""
        column = self.batch.column("id")
        words = np.frombuffer(column.buffers()[1], "<u8")
        return words.reshape(-1, 2)[column.offset : column.offset + len(column)]

    def cut(self, records: int = 2_000, size: int = 4 << 20) -> Iterator[Records]:
        """Split into parts of at most so many records and bytes; a larger record is a part by itself."""
        ends = np.cumsum(self.sizes())
        start, number = 0, len(ends)
        while start < number:
            before = int(ends[start - 1]) if start else 0
            fitting = int(np.searchsorted(ends, before + size, "right"))
            stop = min(max(fitting, start + 1), start + records)
            yield Records(self.batch.slice(start, stop - start), self.places)
            start = stop

    def sizes(self) -> Int64s:
        """The bytes of each: key, value and headers, with what Kafka adds to each of these."""
        counts, names, contents = parts_of(self.batch.column("headers"))
        of_headers = np.concatenate([[0], np.cumsum(_lengths(names) + _lengths(contents))])
        sizes: Int64s = np.diff(of_headers[edges(counts)])
        sizes += _HEADER_BYTES * counts
        return sizes + _lengths(self.batch.column("key")) + _lengths(self.batch.column("value"))

    def column(self, name: str) -> npt.NDArray[Any]:
        """A column; of objects, which may be None, where it is of bytes."""
        values: npt.NDArray[Any] = self.batch.column(name).to_numpy(zero_copy_only=False)
        return values

    def by_place(self) -> Iterator[tuple[tuple[str, str], Records]]:
        """Those of each pathway and topic, in order."""
        place = self.column("place")
        for number in np.unique(place).tolist():
            yield self.places[number], self.filter(place == number)

    def filter(self, mask: npt.NDArray[np.bool_]) -> Records:
        """Those where the mask is true."""
        return self if mask.all() else Records(self.batch.filter(pa.array(mask)), self.places)


def by_bucket(
    arrived: Arrived, columns: Columns, event_id: Sequence[Field], buckets: int
) -> Iterator[tuple[int, Records]]:
    """The accepted records of a batch, apart by bucket of their ids, each bucket's in order of arrival.

    ValueError where one is so large that no sink can write it, or a relay could not.
    """
    if pc.any(pc.equal(arrived.headers.keys, SIZE_HEADER)).as_py():
        raise ValueError("a relay copied it without its value: it is larger than a sink can write")
    if len(columns.rows) == 0:
        return
    in_order = np.argsort(columns.rows, kind="stable")
    rows = columns.rows[in_order]
    place, partition, offset = arrived.place[rows], arrived.partition[rows], arrived.offset[rows]
    if event_id:
        fields = [columns.fields[field.path].take(pa.array(in_order)) for field in event_id]
        identities = of_fields(fields)
    else:
        origins = zip(place.tolist(), partition.tolist(), offset.tolist(), strict=True)
        identities = of_origins((*arrived.places[at], *behind) for at, *behind in origins)
    bucket = buckets_of(identities, buckets)
    order = np.argsort(bucket, kind="stable")
    chosen = pa.array(rows[order])
    ids = pa.py_buffer(identities[order].tobytes())
    whole = pa.RecordBatch.from_arrays(
        [
            pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(rows), [None, ids]),
            pa.array(columns.time_ms[in_order][order]),
            arrived.keys.take(chosen),
            arrived.values.take(chosen),
            arrived.headers.take(chosen),
            pa.array(place[order], pa.int32()),
            pa.array(partition[order], pa.int32()),
            pa.array(offset[order]),
            pa.array(arrived.kafka_ms[rows][order]),
            pa.array(np.full(len(rows), arrived.replayed)),
        ],
        schema=_SCHEMA,
    )
    largest = int(Records(whole, arrived.places).sizes().max())
    if largest > _MOST_BYTES:
        raise ValueError(f"with key and headers {largest} bytes, over {_MOST_BYTES}")
    bounds = [0, *(np.flatnonzero(np.diff(bucket[order])) + 1).tolist(), len(order)]
    for first, last in pairwise(bounds):
        yield int(bucket[order[first]]), Records(whole.slice(first, last - first), arrived.places)


def _lengths(column: pa.Array) -> Int64s:
    """The length of each of binary values; null has none."""
    lengths: Int64s = pc.binary_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths
