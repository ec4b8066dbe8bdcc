"""What a batch says of event time: for each pack, from its accepted records, what watermarks are made of."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from udfs import times
from udfs.decode import Columns
from udfs.headers import WATERMARK_HEADER
from udfs.packs import Batch, Int64s, Unpacked
from udfs.records import Arrived

NONE = -(1 << 63)
"""The time of a pack that has none."""

_MS = re.compile(rb"[0-9]{1,18}")
_END = struct.Struct("<ii")
_ENTRY = np.dtype([("source", "<i4"), ("partition", "<i4"), ("time", "<i8"), ("newest", "<i8")])


@dataclass(frozen=True)
class PackTimes:
    """For each pack of a batch, in ms since 1970, or NONE: the ``time`` that moves its partition's watermark, and the
    ``newest`` event time."""

    time: Int64s
    newest: Int64s

    @classmethod
    def none(cls, packs: int) -> PackTimes:
        """Of so many packs that have no times."""
        return cls(np.full(packs, NONE), np.full(packs, NONE))

    def add(self, pack: Int64s, other: PackTimes) -> None:
        """Take in times of parts: entry i of ``other`` belongs to ``pack[i]``."""
        np.maximum.at(self.time, pack, other.time)
        np.maximum.at(self.newest, pack, other.newest)

    def encode(self, batch: Batch) -> bytes:
        """The end of a batch, as ``java/src/main/java/surecount/Decoded.java`` reads it."""
        places, of_pack = np.unique(np.stack([batch.source, batch.partition]), axis=1, return_inverse=True)
        entries = np.full(places.shape[1], 0, _ENTRY)
        entries["source"], entries["partition"] = places
        for name in ("time", "newest"):
            found = np.full(len(entries), NONE)
            np.maximum.at(found, of_pack.reshape(-1), getattr(self, name))
            entries[name] = found
        return _END.pack(batch.number, len(entries)) + entries.tobytes()


EventTimes = Callable[[Unpacked, Arrived, Columns, int], PackTimes]
"""From records, their origins, what was accepted of them, and the number of packs, to the times of each pack."""


def no_times(_found: Unpacked, _arrived: Arrived, _columns: Columns, packs: int) -> PackTimes:
    """Of records that move no watermark."""
    return PackTimes.none(packs)


@dataclass(frozen=True)
class OfRecords:
    """The event times of records, none later than its Kafka timestamp: what is ahead moves no watermark.

    Where ``late_relays`` is given, a relay's copy counts as no more than that older than when it was made, so that a
    pathway that catches up does not hold all windows back until it has. It counts as at most ``most`` younger than it
    is, so that none becomes too old by it. All in ms.
    """

    late_relays: int | None = None
    most: int = 0

    def __call__(self, found: Unpacked, arrived: Arrived, columns: Columns, packs: int) -> PackTimes:
        time, kafka_ms = columns.time_ms, arrived.kafka_ms[columns.rows]
        mark = np.where(times.are_times(kafka_ms), np.minimum(time, kafka_ms), time)
        if self.late_relays is not None:
            relayed_ms = arrived.relayed_ms[columns.rows]
            raised = np.minimum(relayed_ms - self.late_relays, time + self.most)
            mark = np.where(relayed_ms < 0, mark, np.maximum(mark, raised))
        of_packs = PackTimes.none(packs)
        of_packs.add(found.pack[columns.rows], PackTimes(mark, time))
        return of_packs


def of_ingest(found: Unpacked, _arrived: Arrived, columns: Columns, packs: int) -> PackTimes:
    """How far the ingest job's watermark was when it wrote the last record of each pack: what comes behind it is not
    earlier. Clean records come in the order of several raw partitions, so their own times say nothing of that."""
    of_packs = PackTimes.none(packs)
    np.maximum.at(of_packs.newest, found.pack[columns.rows], columns.time_ms)
    bounds = found.headers.offsets.to_numpy()
    for row in np.flatnonzero(np.diff(found.pack, append=-1)).tolist():
        own = slice(bounds[row], bounds[row + 1])
        names, contents = (part[own].to_pylist() for part in (found.headers.keys, found.headers.items))
        said = dict(zip(names, contents, strict=True)).get(WATERMARK_HEADER) or b""
        if _MS.fullmatch(said):
            of_packs.time[found.pack[row]] = int(said)
    return of_packs
