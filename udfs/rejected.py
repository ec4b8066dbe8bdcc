"""Rejected records, as they travel from Python to the topic of rejects: key, value, headers, and what is said of each.

``java/src/main/java/surecount/Outgoing.java`` reads the blocks that are made here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from surecount import __version__
from udfs import binary, failures, reasons
from udfs.decode import Rejected
from udfs.headers import PREFIX
from udfs.packs import LAYOUT, Int64s, Single, edges
from udfs.records import Arrived, Origin, Places, Records, parts_of
from udfs.tables import offsets

SAID = ("pathway", "topic", "partition", "offset", "reason", "timestamp", "detail")
"""What headers can say of a rejected record, beside the job and its version."""

_BLOCK = struct.Struct("<4sii")  # magic, layout, number of records
_MAGIC = b"SCRJ"
_LENGTH = struct.Struct("<i")
_HERE = -1


@dataclass(frozen=True)
class Whole:
    """For each record the pack that it came in, and where its value, as it came, begins among those of that pack."""

    pack: Int64s
    start: Int64s


@dataclass(frozen=True)
class Content:
    """Rejected records.

    Where ``pack`` is not -1, a value is not here: it stands among that pack's whole values, from ``start`` on, and is
    ``size`` bytes long. ``headers`` are the records' own, as they came. ``said`` has a column of texts for each of
    :data:`SAID`.
    """

    pack: Int64s
    start: Int64s
    size: Int64s
    keys: pa.Array
    values: pa.Array
    headers: pa.MapArray
    said: tuple[pa.Array, ...]


def contents(rejected: Sequence[Rejected], arrived: Arrived, whole: Whole, sizes: Int64s) -> list[Content]:
    """The content of the rejected records of a batch, in order; ``sizes`` are the lengths of values as they came."""
    rejected = sorted(rejected, key=attrgetter("row"))
    rows = np.array([one.row for one in rejected], np.int64)
    chosen = pa.array(rows)
    values = arrived.values.take(chosen)
    is_here = sizes[rows] <= np.diff(offsets(values))
    return [
        Content(
            np.where(is_here, _HERE, whole.pack[rows]),
            np.where(is_here, 0, whole.start[rows]),
            np.where(is_here, 0, sizes[rows]),
            arrived.keys.take(chosen),
            pc.if_else(pa.array(is_here), values, pa.scalar(None, pa.binary())),
            arrived.headers.take(chosen),
            (
                *_of_places(arrived.places, arrived.place[rows]),
                *(_numbers(pa.array(numbers[rows])) for numbers in (arrived.partition, arrived.offset)),
                _texts(one.reason for one in rejected),
                _numbers(pa.array(arrived.kafka_ms[rows])),
                _texts(one.detail for one in rejected),
            ),
        )
    ]


def content_of(single: Single, error: BaseException, origin: Origin) -> Content:
    """The content of a record that made our own code raise, made with as little code as can be."""
    value, pack, start, size = single.value, single.pack, single.start, int(single.entry["size"])
    if value is None or len(value) == size:
        pack, start, size = _HERE, 0, 0
    else:
        value = None
    said = (
        *(origin.pathway, origin.topic, origin.partition, origin.offset),
        *(reasons.INTERNAL_ERROR, int(single.entry["kafka_ms"]), failures.printable(failures.text_of(error))),
    )
    return Content(
        *(np.array([pack]), np.array([start]), np.array([size])),
        *(pa.array([single.key], pa.binary()), pa.array([value], pa.binary())),
        pa.array([[*single.headers()]], pa.map_(pa.binary(), pa.binary())),
        tuple(_texts([str(what)]) for what in said),
    )


def too_old(found: Records, watermark: int) -> Content:
    """The content of records that are further behind the watermark than the horizon."""
    column, times = found.batch.column, found.column("time").tolist()
    here = np.zeros(len(times), np.int64)
    return Content(
        *(here + _HERE, here, here),
        *(column("key"), column("value"), column("headers")),
        (
            *_of_places(found.places, found.column("place")),
            *(_numbers(column("partition")), _numbers(column("offset"))),
            _texts([reasons.BEYOND_HORIZON] * len(times)),
            _numbers(column("kafka_ms")),
            _texts(f"event time {time}, watermark {watermark}" for time in times),
        ),
    )


def _of_places(places: Places, place: Int64s) -> tuple[pa.Array, pa.Array]:
    """Pathways and topics, of numbers of places."""
    pathways, topics = (_texts(names).take(pa.array(place)) for names in zip(*places, strict=True))
    return pathways, topics


def _texts(texts: Iterable[str]) -> pa.Array:
    return pa.array([*texts], pa.string()).cast(pa.binary())


def _numbers(numbers: pa.Array) -> pa.Array:
    return numbers.cast(pa.string()).cast(pa.binary())


def block(rejected: Sequence[Content], job: str, said: Sequence[str]) -> bytes:
    """A block of what a job has rejected; ``said`` names those of :data:`SAID` that headers say.

    Own headers with the names of those are an earlier job's, so they are left out: producers' have other names
    (:mod:`udfs.headers`).
    """
    records = sum(len(content.keys) for content in rejected)
    return b"".join([_BLOCK.pack(_MAGIC, LAYOUT, records), *(_frames(content, job, said) for content in rejected)])


def _frames(content: Content, job: str, said: Sequence[str]) -> pa.Buffer:
    of_job = {"job": job.encode(), "version": __version__.encode()}
    counts, own = _own(content.headers, [*said, *of_job])
    parts = 2 + 2 * (counts + len(said) + len(of_job))
    heads = np.stack([content.pack, content.start, content.size, parts], axis=1).astype("<i4")
    pieces = [_fixed(heads), *_with_length(content.keys), *_with_length(content.values), own]
    for name in said:
        pieces += [pa.scalar(_part(_named(name))), *_with_length(content.said[SAID.index(name)])]
    pieces.append(pa.scalar(b"".join(_part(_named(name)) + _part(value) for name, value in of_job.items())))
    return binary.content(_joined(*pieces))


def _own(headers: pa.MapArray, taken: Sequence[str]) -> tuple[Int64s, pa.Array]:
    """The number of own headers of each record, and their bytes as a frame has them; headers with a taken name are left
    out."""
    counts, names, values = parts_of(headers)
    is_taken = pc.is_in(names, pa.array([_named(name) for name in taken], pa.binary()))
    if is_taken.true_count:
        owner = np.repeat(np.arange(len(counts)), counts)
        is_own = pc.invert(is_taken)
        names, values = names.filter(is_own), values.filter(is_own)
        counts = np.bincount(owner[is_own.to_numpy(zero_copy_only=False)], minlength=len(counts))
    written = _joined(*_with_length(names), *_with_length(values))
    bounds = offsets(written)[edges(counts)]
    return counts, pa.Array.from_buffers(pa.binary(), len(counts), [None, pa.py_buffer(bounds), written.buffers()[2]])


def _named(name: str) -> bytes:
    return f"{PREFIX}{name}".encode()


def _part(data: bytes) -> bytes:
    """Bytes as a frame has them."""
    return _LENGTH.pack(len(data)) + data


def _with_length(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The length of each of binary values, -1 for null, and the values."""
    lengths, values = binary.filled(column)
    return _fixed(lengths.reshape(-1, 1)), values


def _fixed(rows: npt.NDArray[np.int32]) -> pa.Array:
    """The bytes of each row of an array."""
    bounds = np.arange(len(rows) + 1, dtype=np.int32) * (rows.shape[1] * rows.itemsize)
    return pa.Array.from_buffers(pa.binary(), len(rows), [None, pa.py_buffer(bounds), pa.py_buffer(rows)])


def _joined(*columns: pa.Array | pa.Scalar) -> pa.Array:
    return pc.binary_join_element_wise(*columns, pa.scalar(b""))
