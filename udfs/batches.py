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
from udfs.decode import Batch, Columns, Decoder, Rejected
from udfs.packs import Int64s, Single, Unpacked, split, unpack
from udfs.records import Arrived, Origin, Places
from udfs.rejected import Content
from udfs.spec import Spec

Arrive = Callable[[Unpacked, Int64s, Int64s], Arrived]
"""From records, numbers of their topics, and partitions to records with their origins."""
Shape = Callable[[Columns, Arrived], Iterable[tuple[int, bytes]]]
"""From accepted records to what is sent on, each bucket once; pieces of one bucket may be joined."""

_LOG = logging.getLogger(__name__)


@dataclass
class Taken:
    """What a batch sends on by bucket, and by pack the numbers and contents of its rejected records; how many records
    it had, and of those rejected how many by reason."""

    pieces: dict[int, bytes] = field(default_factory=dict)
    rejected: dict[int, list[tuple[int, Content]]] = field(default_factory=dict)
    records: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Packs:
    """Packs of records: the columns of :func:`udfs.packs.unpack`, and for each pack the number of its topic among
    ``places``, which are pathways and topics, and its partition."""

    columns: Sequence[pa.Array]
    places: Places
    source: Int64s
    partition: Int64s


class Taker:
    """Takes batches of packs for a spec."""

    def __init__(self, spec: Spec, arrive: Arrive, shape: Shape) -> None:
        self._arrive = arrive
        self._decode = Decoder(spec)
        self._shape = shape

    def take(self, packs: Packs) -> Taken:
        """Each record in a piece or rejected, whatever is in it."""
        try:
            return self._take(packs)
        except Exception:  # noqa: BLE001  # also a bug of ours: one record may not stop all others
            return self._take_apart(packs)

    def _take(self, packs: Packs, starts: Int64s | None = None) -> Taken:
        """``starts`` says where values, as they came, begin among those of packs, where these are not the packs."""
        found = unpack(*packs.columns)
        arrived = self._arrive(found, packs.source[found.pack], packs.partition[found.pack])
        columns, refused = self._decode(Batch(arrived.values, arrived.kafka_ms, found.size))
        taken = Taken(dict(self._shape(columns, arrived)), records=len(found.size))
        taken.reasons.update(one.reason for one in refused)
        if refused:
            made = rejected.contents(refused, arrived, found.starts() if starts is None else starts, found.size)
            for one, content in zip(refused, made, strict=True):
                taken.rejected.setdefault(int(found.pack[one.row]), []).append((one.row, content))
        return taken

    def _take_apart(self, packs: Packs) -> Taken:
        singles = split(packs.columns)
        taken, pieces, failed, why = Taken(), dict[int, list[bytes]](), 0, ""
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
                part = Taken({}, {0: [(0, content)]}, 1, Counter([reasons.INTERNAL_ERROR]))
                failed, why = failed + 1, why or _where(error)
            taken.records += part.records
            taken.reasons.update(part.reasons)
            for bucket, piece in part.pieces.items():
                pieces.setdefault(bucket, []).append(piece)
            for of_single in part.rejected.values():
                for number, content in of_single:
                    at = first + number
                    taken.rejected.setdefault(singles[at].pack, []).append((at, content))
        taken.pieces = {bucket: b"".join(of_bucket) for bucket, of_bucket in pieces.items()}
        if failed:
            _LOG.error(
                "%d of %d records of a batch are rejected as internal_error. The first:\n%s", failed, len(singles), why
            )
        return taken

    def _take_singles(self, singles: Sequence[Single], packs: Packs) -> Taken:
        of_pack = [single.pack for single in singles]
        columns = [
            pa.array(column, pa.binary()) for column in zip(*(single.columns for single in singles), strict=True)
        ]
        return self._take(
            Packs(columns, packs.places, packs.source[of_pack], packs.partition[of_pack]),
            starts=np.array([single.start for single in singles], np.int64),
        )

    def _give_up(self, single: Single, packs: Packs, error: Exception) -> Content:
        of_pack = [single.pack]
        try:
            found = unpack(*(pa.array([column], pa.binary()) for column in single.columns))
            arrived = self._arrive(found, packs.source[of_pack], packs.partition[of_pack])
            one = Rejected(0, reasons.INTERNAL_ERROR, failures.printable(failures.text_of(error)))
            return rejected.contents([one], arrived, np.array([single.start]), found.size)[0]
        except Exception:  # noqa: BLE001  # here is where it raises, so it is of where it stands
            pathway, topic = packs.places[int(packs.source[single.pack])]
            partition, offset = int(packs.partition[single.pack]), int(single.entry["offset"])
            return rejected.content_of(single, error, Origin(pathway, topic, partition, offset))


def _where(error: BaseException) -> str:
    """An exception with the lines that led to it, fit for a log."""
    lines = [failures.printable(line) for line in traceback.format_tb(error.__traceback__)]
    return "\n".join([*lines, failures.printable(failures.text_of(error))])
