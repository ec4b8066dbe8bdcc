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
from udfs.headers import ORIGIN_HEADERS, RELAYED_HEADER, TIMESTAMP_HEADER
from udfs.id_log import Ids
from udfs.ids import buckets_of, of_fields, of_origins
from udfs.packs import Unpacked, edges
from udfs.spec import Field, Inlet
from udfs.tables import to_list

REPLAY = "replay"
"""The pathway of what stands in the replay topic and is from nowhere else."""

_RELAYED = "^[0-9]{1,9} [0-9]{1,18} [0-9]{1,18} [a-zA-Z0-9._-]+$"
_INT64 = 1 << 63
_PARTITION, _OFFSET, _MS = (re.compile(pattern) for pattern in (rb"[0-9]{1,9}", rb"[0-9]{1,18}", rb"-?[0-9]{1,19}"))

_FRAME = struct.Struct("<QQ")  # lengths of places and batch
_ALIGNED = 64

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


Places = tuple[tuple[str, str], ...]
"""Pathways and topics, by the numbers that records have of them."""


@dataclass(frozen=True)
class Arrived:
    """Records as they came, one entry each; arrays of Arrow where there can be nulls.

    Place, partition and offset are those on their pathway's cluster, and ``kafka_ms`` is the timestamp there.
    ``headers`` are the records' own, without what a relay or a replay has added to say that, and without those of value
    null: Flink's Kafka sink cannot write them. ``replayed`` says that they are of the replay topic.
    """

    values: pa.Array
    keys: pa.Array
    headers: pa.MapArray
    place: Int64s
    partition: Int64s
    offset: Int64s
    kafka_ms: Int64s
    places: Places
    replayed: bool = False

    def origin(self, row: int) -> Origin:
        """Where a record stands on its pathway's cluster."""
        pathway, topic = self.places[self.place[row]]
        return Origin(pathway, topic, int(self.partition[row]), int(self.offset[row]))

    def own_headers(self, rows: Int64s) -> dict[int, list[tuple[str, bytes]]]:
        """Of these rows, those that have headers."""
        rows = rows[np.diff(self.headers.offsets.to_numpy())[rows] > 0]
        chosen = self.headers.take(pa.array(rows))
        # Not one by one: a value of Arrow's own for each record takes ten times as long.
        given = [*zip(*(to_list(part) for part in (chosen.keys, chosen.items)), strict=True)]
        bounds = pairwise(to_list(chosen.offsets))
        return {row: given[first:last] for row, (first, last) in zip(rows.tolist(), bounds, strict=True)}


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
    names, contents = found.headers.keys, found.headers.items
    owner = _owner(found)
    is_own = contents.is_valid().to_numpy(zero_copy_only=False)
    for relay in dict.fromkeys(inlet.relay for inlet in inlets if inlet.relay is not None):
        is_origin = pc.equal(names, RELAYED_HEADER).to_numpy(zero_copy_only=False)
        is_origin &= source[owner] == sources(inlets).index(relay)
        is_own &= ~is_origin
        # Null does not match.
        is_origin[is_origin] = pc.match_substring_regex(contents.filter(pa.array(is_origin)), _RELAYED).fill_null(False)
        rows = owner[is_origin]
        parts = pc.split_pattern(contents.filter(pa.array(is_origin)).cast(pa.string()), " ").flatten()
        stated = [parts.take(pa.array(np.arange(part, len(parts), 4))) for part in range(4)]
        partition[rows], offset[rows] = (part.cast(pa.int64()).to_numpy() for part in stated[:2])
        topics = stated[3].dictionary_encode()
        place[rows] = topics.indices.to_numpy() + len(found_places)
        found_places += [(pathways[relay], topic) for topic in to_list(topics.dictionary)]
    headers = _own(found, is_own)
    return Arrived(found.values, found.keys, headers, place, partition, offset, found.kafka_ms, tuple(found_places))


def arrive_again(found: Unpacked, partition: Int64s, topic: str) -> Arrived:
    """Records of the replay ``topic``: headers say where each was when it was rejected, and its timestamp there.

    They are believed, as nobody but ``surecount rejects replay`` writes that topic. One that does not say it counts as
    a record of that topic, of the pathway :data:`REPLAY`.
    """
    names, contents = found.headers.keys, found.headers.items
    is_ours = pc.is_in(names, pa.array([*ORIGIN_HEADERS, TIMESTAMP_HEADER])).to_numpy(zero_copy_only=False)
    said: list[Headers] = [{} for _ in range(len(partition))]
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
    headers = _own(found, contents.is_valid().to_numpy(zero_copy_only=False) & ~is_ours)
    return Arrived(found.values, found.keys, headers, place, on, at, kafka_ms, tuple(numbers), replayed=True)


def _owner(found: Unpacked) -> Int64s:
    """Of each header the row of its record."""
    return np.repeat(np.arange(len(found.offset)), np.diff(found.headers.offsets.to_numpy()))


def _own(found: Unpacked, is_own: npt.NDArray[np.bool_]) -> pa.MapArray:
    """Those of the headers where the mask is true, but for one that a later one of its name takes the place of, which
    has no value: as Flink's tables have it, and so what relays copy."""
    if found.headers.items.null_count:
        owner, names = _owner(found).tolist(), to_list(found.headers.keys)
        is_null = found.headers.items.is_null().to_numpy(zero_copy_only=False)
        ends = {(owner[at], names[at]): at for at in np.flatnonzero(is_null).tolist()}
        is_own = is_own & [at > ends.get(of, -1) for at, of in enumerate(zip(owner, names, strict=True))]
    chosen = pa.array(is_own)
    return pa.MapArray.from_arrays(
        pa.array(edges(np.bincount(_owner(found)[is_own], minlength=len(found.offset)))),
        found.headers.keys.filter(chosen),
        found.headers.items.filter(chosen),
    )


def _stated(headers: Headers) -> Origin | None:
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
    arrived: Arrived, columns: Columns, event_id: Sequence[Field], buckets: int
) -> Iterator[tuple[int, Records]]:
    """The accepted records of a batch, apart by bucket of their ids, each bucket's in order of arrival."""
    if len(columns.rows) == 0:
        return
    in_order = np.argsort(columns.rows, kind="stable")
    rows = columns.rows[in_order]
    place, partition, offset = arrived.place[rows], arrived.partition[rows], arrived.offset[rows]
    own = arrived.own_headers(rows)
    headers = [own.get(row) for row in rows.tolist()]
    if event_id:
        fields = [columns.fields[field.path].take(pa.array(in_order)) for field in event_id]
        identities = of_fields(fields)
    else:
        origins = zip(place.tolist(), partition.tolist(), offset.tolist(), strict=True)
        identities = of_origins((*arrived.places[at], *behind) for at, *behind in origins)
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
            pa.array(np.full(len(rows), arrived.replayed)),
        ],
        schema=_SCHEMA,
    ).take(pa.array(order))
    bounds = [0, *(np.flatnonzero(np.diff(bucket[order])) + 1).tolist(), len(order)]
    for first, last in pairwise(bounds):
        yield int(bucket[order[first]]), Records(whole.slice(first, last - first), arrived.places)


def _of(values: pa.Array, rows: Int64s) -> pa.Array:
    """Those of some rows, in order; most often of all."""
    return values if len(rows) == len(values) else values.take(pa.array(rows))
