"""Books of topics that have lost their beginnings: how far something that is deleted may still play a part.

Kafka deletes by age, by size and on demand, from each partition's beginning. The rest of a deleted record is unknown,
its event time too. But it was appended before what follows it, and an accepted record is ahead of its append by no
more than its topic allows (``message.timestamp.after.max.ms``) and ``source.max_ahead`` together. So it is enough to
know a time at which a partition's deleted records were there:

- for outputs the append time of the first one that is left, as the broker stamps them (``LogAppendTime``);
- for input the append time of an output in which a record counts that comes after them, or the start of a run that had
  read past them, by the ledger.

A :class:`Reach` is what follows: windows beyond it are compared exactly, those within on one side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from surecount.audit.cut import Unread
from surecount.audit.pacing import Place
from surecount.audit.report import Difference
from surecount.audit.times import FOREVER, NEVER

CLOCKS_MS = 60_000
"""By how much the clocks of brokers, and of who started a run, may differ."""

# A partition's first records that are looked at: any of them tells when it was read.
_LOOKED_AT = 1_000
# Behind the last record of a partition, each transaction that was open then has a marker.
_MARKERS = 16

Offsets = Mapping[Place, int]


@dataclass(frozen=True)
class Moment:
    """At ``at_ms`` since 1970 the records before ``offsets`` had been read."""

    at_ms: int
    offsets: Offsets


@dataclass(frozen=True)
class Evidence:
    """What is known of deleted records beside what is left.

    ``ahead_ms`` tells how far an event time may be ahead of its record's append, None where nothing limits it; it is
    asked where something is deleted. ``moments`` are those that the ledger knows of the job.
    """

    ahead_ms: Callable[[], int | None] = lambda: None
    moments: Sequence[Moment] = ()

    def latest(self, at_ms: int) -> int:
        """The latest event time of what had been appended at ``at_ms``."""
        if at_ms in (NEVER, FOREVER):
            return at_ms
        ahead_ms = self.ahead_ms()
        return FOREVER if ahead_ms is None else at_ms + ahead_ms + CLOCKS_MS


NO_EVIDENCE = Evidence()


class ReadBy(NamedTuple):
    """At ``at_ms`` all before the offset ``begin`` of a partition had been read."""

    begin: int
    at_ms: int

    def before(self, begin: int) -> int:
        """When all before ``begin`` had been read; ``FOREVER`` where that is more than is known."""
        return self.at_ms if begin <= self.begin else FOREVER


UNKNOWN = ReadBy(0, FOREVER)
NOT_KNOWN: Mapping[Place, ReadBy] = {}


@dataclass(frozen=True)
class Reach:
    """How far deletions reach, in event time, ms since 1970; ``NEVER`` where nothing is deleted.

    Windows that start at or before ``input`` may have had records that are deleted; of those that end at or before
    ``outputs`` results or corrections may be deleted, and the rejects of records of up to ``rejects``.
    """

    input: int = NEVER
    outputs: int = NEVER
    rejects: int = NEVER


def trimmed(ranges: Mapping[Place, tuple[int, int]]) -> frozenset[Place]:
    """The partitions whose beginning is deleted."""
    return frozenset(place for place, (begin, _) in ranges.items() if begin > 0)


@dataclass
class FirstCounted:
    """When the first records that are left in each of some partitions had been read, told by the outputs in which they
    count. Windows are known by the number of their aggregate and their start."""

    places: Collection[Place]
    _windows: dict[Place, set[tuple[int, int]]] = field(default_factory=dict)
    _looked_at: Counter[Place] = field(default_factory=Counter)
    _appended: dict[tuple[int, int], int] = field(default_factory=dict)

    def wants(self, place: Place) -> bool:
        """Whether further records of a partition say more."""
        return place in self.places and self._looked_at[place] < _LOOKED_AT

    def read(self, place: Place, records: int, windows: Iterable[tuple[int, int]]) -> None:
        """Records of a partition, and the windows in which they count."""
        self._looked_at[place] += records
        self._windows.setdefault(place, set()).update(windows)

    def written(self, window: tuple[int, int], at_ms: int) -> None:
        """An output of a window, appended at ``at_ms``; ``FOREVER`` where that is not known."""
        if self.places:
            self._appended[window] = max(at_ms, self._appended.get(window, NEVER))

    def times(self, outputs_since: int) -> dict[Place, int]:
        """For each partition a time by which its deleted records had been read. Outputs before ``outputs_since`` may be
        deleted."""
        found = {}
        for place in self.places:
            # All outputs of one of these windows were there by then, and one of them has the record.
            known = [self._appended[window] for window in self._windows.get(place, ()) if window in self._appended]
            found[place] = max(min(known, default=FOREVER), outputs_since)
        return found


def read_by(begin: Offsets, read: Mapping[Place, int], evidence: Evidence) -> dict[Place, ReadBy]:
    """When what is deleted of partitions had been read.

    ``begin`` are the first offsets that are left, ``read`` the times that outputs tell.
    """
    found = {}
    for place, first in begin.items():
        known = [moment.at_ms for moment in evidence.moments if moment.offsets.get(place, 0) >= first]
        found[place] = ReadBy(first, min([*known, read.get(place, FOREVER)]))
    return found


def deletion_notes(job: str, before_cut: int, outputs_deleted: int) -> list[str]:
    """What deletions keep from being compared, of a job without books of its own."""
    notes = []
    if before_cut:
        notes.append(f"{job}: {before_cut:,} copies are of records that are deleted")
    if outputs_deleted:
        notes.append(f"{job}: the copies of {outputs_deleted:,} records may be deleted")
    return notes


def may_be_markers(size: int, rest: int, *, in_transactions: bool) -> bool:
    """Whether ``size`` offsets that were deleted behind what was read, and have ``rest`` behind them, may be markers.

    The last offsets of a partition in which transactions write are their markers, which no one reads: where all of a
    partition is deleted, they look like records that were not read.
    """
    return in_transactions and not rest and size <= _MARKERS


def judge_unread(
    unread: Mapping[Place, Unread],
    sources: Mapping[Place, tuple[int, int]],
    records: Mapping[str, int],
    own: Collection[str],
) -> tuple[list[Difference], list[str]]:
    """What was lost, and notes on what may have held no record.

    ``sources`` are the ranges of offsets that were read, ``records`` how many were in them by topic, and ``own`` the
    topics that jobs write. Where offsets are missing among a topic's records, transactions write to it.
    """
    lost, notes = [], []
    for (topic, partition), gone in sorted(unread.items()):
        offsets = sum(end - begin for (other, _), (begin, end) in sources.items() if other == topic)
        in_transactions = topic in own or records.get(topic, 0) < offsets
        size, where = gone.end - gone.begin, f"{topic}-{partition}@{gone.begin}"
        # Where nothing is left of a topic, nothing tells whether transactions write to it.
        is_unknown_marker = size == 1 and not offsets and not gone.rest
        span = f"offset {gone.begin}" if size == 1 else f"offsets {gone.begin} to {gone.end - 1}"
        if not (is_unknown_marker or may_be_markers(size, gone.rest, in_transactions=in_transactions)):
            most = "one record is" if size == 1 else f"up to {size:,} records are"
            lost.append(Difference("deleted_unread", f"{span}: deleted before the job had read it; {most} lost", where))
        else:
            notes.append(f"{where}: {span}: deleted behind what the job had read; they may be markers of transactions")
    return lost, notes
