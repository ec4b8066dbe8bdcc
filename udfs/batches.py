"""What decoding makes of a batch of packs, and of one in which anything raises: it is tried in halves, down to single
records, and what still raises then is rejected.
"""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from udfs import failures, reasons, rejected
from udfs.decode import Batch as Values
from udfs.decode import Columns, Decoder, Rejected
from udfs.event_times import EventTimes, PackTimes
from udfs.packs import Batch, Int64s, Single, Unpacked, split, unpack
from udfs.records import Arrived, Origin, Places
from udfs.rejected import Content, Whole
from udfs.spec import Spec

Arrive = Callable[[Unpacked, Int64s, Int64s], Arrived]
"""From records, numbers of their topics, and partitions to records with their origins."""
Shape = Callable[[Columns, Arrived], Iterable[tuple[int, bytes]]]
"""From accepted records to what is sent on, each bucket once; pieces of one bucket may be joined."""

_LOG = logging.getLogger(__name__)


@dataclass
class Taken:
    """What a batch sends on by bucket, its rejected records, and what each pack says of event time; how many records
    it had, and of those rejected how many by reason."""

    pieces: dict[int, bytes]
    rejected: list[Content]
    times: PackTimes
    records: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


class Taker:
    """Takes batches of packs for a spec. ``places`` are the pathways and topics that packs number."""

    def __init__(self, spec: Spec, places: Places, arrive: Arrive, shape: Shape, event_times: EventTimes) -> None:
        self._places = places
        self._arrive = arrive
        self._decode = Decoder(spec)
        self._shape = shape
        self._event_times = event_times

    def take(self, packs: Batch) -> Taken:
        """Each record in a piece or rejected, whatever is in it."""
        try:
            return self._take(packs)
        except Exception:  # noqa: BLE001  # also a bug of ours: one record may not stop all others
            return self._take_apart(packs)

    def _take(self, packs: Batch, whole: Whole | None = None) -> Taken:
        """``whole`` says where values stand as they came, where these are not the packs that they came in."""
        found = unpack(*packs.columns)
        arrived = self._arrive(found, packs.source[found.pack], packs.partition[found.pack])
        columns, refused = self._decode(Values(arrived.values, arrived.kafka_ms, found.size))
        times = self._event_times(found, arrived, columns, len(packs.source))
        taken = Taken(dict(self._shape(columns, arrived)), [], times, len(found.size))
        taken.reasons.update(one.reason for one in refused)
        if refused:
            where = Whole(found.pack, found.starts()) if whole is None else whole
            taken.rejected = rejected.contents(refused, arrived, where, found.size)
        return taken

    def _take_apart(self, packs: Batch) -> Taken:
        singles = split(packs.columns)
        if not singles:
            return Taken({}, [], PackTimes.none(len(packs.source)))
        taken = Taken({}, [], PackTimes.none(len(packs.source)))
        pieces, failed, why = dict[int, list[bytes]](), 0, ""
        # Each part is as many singles, the next one on top.
        parts = [(0, len(singles))]
        while parts:
            first, last = parts.pop()
            try:
                part = self._take_singles(singles[first:last], packs)
            except Exception as error:  # noqa: BLE001
                if last - first > 1:
                    middle = (first + last) // 2
                    parts += [(middle, last), (first, middle)]
                    continue
                content = self._give_up(singles[first], packs, error)
                part = Taken({}, [content], PackTimes.none(1), 1, Counter([reasons.INTERNAL_ERROR]))
                failed, why = failed + 1, why or _where(error)
            taken.records += part.records
            taken.reasons.update(part.reasons)
            taken.rejected += part.rejected
            taken.times.add(np.array([single.pack for single in singles[first:last]]), part.times)
            for bucket, piece in part.pieces.items():
                pieces.setdefault(bucket, []).append(piece)
        taken.pieces = {bucket: b"".join(of_bucket) for bucket, of_bucket in pieces.items()}
        if failed:
            _LOG.error(
                "%d of %d records of a batch are rejected as internal_error. The first:\n%s", failed, len(singles), why
            )
        return taken

    def _take_singles(self, singles: Sequence[Single], packs: Batch) -> Taken:
        of_pack = [single.pack for single in singles]
        columns = [
            pa.array(column, pa.binary()) for column in zip(*(single.columns for single in singles), strict=True)
        ]
        whole = Whole(np.array(of_pack), np.array([single.start for single in singles], np.int64))
        part = Batch(packs.number, packs.source[of_pack], packs.partition[of_pack], tuple(columns))
        return self._take(part, whole)

    def _give_up(self, single: Single, packs: Batch, error: Exception) -> Content:
        of_pack, whole = [single.pack], Whole(np.array([single.pack]), np.array([single.start]))
        try:
            found = unpack(*(pa.array([column], pa.binary()) for column in single.columns))
            arrived = self._arrive(found, packs.source[of_pack], packs.partition[of_pack])
            one = Rejected(0, reasons.INTERNAL_ERROR, failures.printable(failures.text_of(error)))
            return rejected.contents([one], arrived, whole, found.size)[0]
        except Exception:  # noqa: BLE001  # here is where it raises, so it is of where it stands
            pathway, topic = self._places[int(packs.source[single.pack])]
            partition, offset = int(packs.partition[single.pack]), int(single.entry["offset"])
            return rejected.content_of(single, error, Origin(pathway, topic, partition, offset))


def _where(error: BaseException) -> str:
    """An exception with the lines that led to it, fit for a log."""
    lines = [failures.printable(line) for line in traceback.format_tb(error.__traceback__)]
    return "\n".join([*lines, failures.printable(failures.text_of(error))])
