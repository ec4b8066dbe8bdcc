"""Packs: consecutive records of a Kafka partition. Batches of them cross to Python as one array of bytes.

``java/src/main/java/surecount/Pack.java`` makes packs, ``Batcher.java`` batches, and they say how they are laid out.
The columns of a batch hold the same for all records of all packs, one after the other, so numpy and Arrow take them as
they stand.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from udfs.binary import content
from udfs.tables import offsets

LAYOUT = 4
"""Of packs, and of all other bytes that Java and Python exchange. Each side refuses another one."""

RECORDS = 251
"""How many records a pack holds at most."""

_BATCH = struct.Struct("<4siii")
_BATCH_MAGIC = b"SCBA"
_COLUMNS = 5

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]

ENTRY = np.dtype(
    [("offset", "<i8"), ("kafka_ms", "<i8"), ("key", "<i4"), ("value", "<i4"), ("headers", "<i4"), ("size", "<i4")]
)
"""What a pack's index says of a record: lengths in bytes, -1 for null, and a number of headers. ``size`` is the length
of the value as it came, ``value`` that of what is left of it."""


@dataclass(frozen=True)
class Unpacked:
    """The records of a batch of packs, one entry a record; ``pack`` is the row of the pack that it came in.

    ``values`` may be projected: without members that no field of the pipeline is in, or without all where they are too
    large. ``size`` is a value's length as it came, -1 for null.
    """

    pack: Int64s
    offset: Int64s
    kafka_ms: Int64s
    size: Int64s
    values: pa.Array
    keys: pa.Array
    headers: pa.MapArray

    def starts(self) -> Int64s:
        """Where each value, as it came, begins among those of its pack."""
        sizes = np.maximum(self.size, 0)
        before = np.cumsum(sizes) - sizes
        found: Int64s = before - before[np.searchsorted(self.pack, self.pack)]
        return found


@dataclass(frozen=True)
class Batch:
    """A batch as it crosses: for each pack the number of its topic and its partition, and the columns that
    :func:`unpack` takes. ``number`` is what Java calls it."""

    number: int
    source: Int64s
    partition: Int64s
    columns: tuple[pa.Array, ...]


def read_batch(data: bytes) -> Batch:
    """The packs of a batch, as views of its bytes. ValueError where it is none, or of another layout."""
    if len(data) < _BATCH.size:
        raise ValueError(f"a batch of packs has {_BATCH.size} bytes or more, not {len(data)}")
    magic, layout, packs, number = _BATCH.unpack_from(data)
    if (magic, layout) != (_BATCH_MAGIC, LAYOUT):
        raise ValueError(
            f"a batch of packs begins with {_BATCH_MAGIC!r} and layout {LAYOUT}, not with {magic!r} and {layout}: "
            "job and jar have to be of one version of surecount"
        )
    numbers = np.frombuffer(data, "<i4", 2 * packs + _COLUMNS * (packs + 1), _BATCH.size)
    bounds = [numbers[first : first + packs + 1] for first in range(2 * packs, len(numbers), packs + 1)]
    ends = np.cumsum([_BATCH.size + numbers.nbytes, *(of[-1] for of in bounds)])
    if ends[-1] != len(data):
        raise ValueError(f"a batch of {len(data)} bytes says that it has {ends[-1]}")
    whole = pa.py_buffer(data)
    columns = [
        pa.Array.from_buffers(pa.binary(), packs, [None, pa.py_buffer(of), whole[first:last]])
        for of, first, last in zip(bounds, ends, ends[1:], strict=False)
    ]
    source, partition = numbers[:packs].astype(np.int64), numbers[packs : 2 * packs].astype(np.int64)
    return Batch(number, source, partition, tuple(columns))


def unpack(
    index: pa.Array, values: pa.Array, keys: pa.Array, header_lengths: pa.Array, header_bytes: pa.Array
) -> Unpacked:
    """The records of packs, of which these binary arrays have one entry each.

    ValueError where they contradict one another.
    """
    entries = np.frombuffer(content(index), ENTRY)
    lengths = np.frombuffer(content(header_lengths), "<i4")
    # Names and values in turns.
    texts = _split(lengths, content(header_bytes))
    names, contents = (texts.take(pa.array(np.arange(first, len(texts), 2))) for first in (0, 1))
    bounds = edges(entries["headers"])
    if bounds[-1] != len(names):
        raise ValueError(f"packs of {bounds[-1]} headers hold {len(names)}")
    return Unpacked(
        np.repeat(np.arange(len(index)), np.diff(offsets(index)) // ENTRY.itemsize),
        entries["offset"].astype(np.int64),
        entries["kafka_ms"].astype(np.int64),
        entries["size"].astype(np.int64),
        _split(entries["value"], content(values)),
        _split(entries["key"], content(keys)),
        pa.MapArray.from_arrays(pa.array(bounds), names.cast(pa.string()), contents),
    )


@dataclass(frozen=True)
class Single:
    """One record of a batch, as bytes of a pack that holds no other.

    ``pack`` is the row of the pack that it came in, ``start`` where its value, as it came, begins among those of that.
    """

    pack: int
    start: int
    columns: tuple[bytes, ...]

    @property
    def entry(self) -> Any:
        """What the index says of it, of type :data:`ENTRY`."""
        return np.frombuffer(self.columns[0], ENTRY)[0]

    @property
    def key(self) -> bytes | None:
        """Its key."""
        return self.columns[2] if self.entry["key"] >= 0 else None

    @property
    def value(self) -> bytes | None:
        """Its value, or what is left of that."""
        return self.columns[1] if self.entry["value"] >= 0 else None

    def headers(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Names, and values."""
        at = 0
        for name, length in np.frombuffer(self.columns[3], "<i4").reshape(-1, 2).tolist():
            end = at + name + max(length, 0)
            yield self.columns[4][at : at + name], None if length < 0 else self.columns[4][at + name : end]
            at = end


def split(columns: Sequence[pa.Array]) -> list[Single]:
    """The records of packs, given as :func:`unpack` takes them, one by one and without Arrow."""
    found = []
    for pack, (index, values, keys, lengths, texts) in enumerate(zip(*(c.to_pylist() for c in columns), strict=True)):
        contents = [_Cut(values), _Cut(keys), _Cut(lengths), _Cut(texts)]
        start = 0
        for at in range(0, len(index), ENTRY.itemsize):
            entry = index[at : at + ENTRY.itemsize]
            _, _, key, value, headers, size = np.frombuffer(entry, ENTRY)[0].tolist()
            of_headers = contents[2].next(headers * 8)
            of_texts = sum(length for length in np.frombuffer(of_headers, "<i4").tolist() if length > 0)
            parts = (contents[0].next(value), contents[1].next(key), of_headers, contents[3].next(of_texts))
            found.append(Single(pack, start, (entry, *parts)))
            start += max(size, 0)
    return found


class _Cut:
    """Bytes that are taken piece by piece."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def next(self, length: int) -> bytes:
        at, self._at = self._at, self._at + max(length, 0)
        return self._data[at : self._at]


def _split(lengths: Int32s, data: pa.Buffer) -> pa.Array:
    """Bytes of these lengths, one after the other; a length of -1 is null."""
    is_null = lengths < 0
    bounds = edges(np.where(is_null, 0, lengths))
    if bounds[-1] != data.size:
        raise ValueError(f"packs of {bounds[-1]} bytes hold {data.size}")
    valid = pa.array(~is_null).buffers()[1] if is_null.any() else None
    return pa.Array.from_buffers(pa.binary(), len(lengths), [valid, pa.py_buffer(bounds), data])


def edges(lengths: npt.NDArray[Any]) -> Int32s:
    """Where the first of these lengths begins, and each ends, as Arrow's offsets."""
    bounds = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=bounds[1:])
    return bounds
