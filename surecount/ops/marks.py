"""Places in partitions that are found again in a copy of the topic, where the offsets may be others.

A mark is a place and digests of the records before it. What restores or mirrors a topic seldom keeps offsets:
transaction markers take some, and a copy of a topic whose beginning was deleted starts at 0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from confluent_kafka import Message, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from surecount import topics
from surecount.audit.reader import Ranges, TopicReader, offset_of
from surecount.config import Kafka
from surecount.ops.snapshots import Place

DEPTH = 16
"""How many records before a place are looked at."""

# Offsets without a record are those of transaction markers and of aborted records.
_SPAN = 64
_SPAN_GROWS = 16
_STALLED_S = 30.0


@dataclass(frozen=True)
class Mark:
    """A place between two records: ``offset`` is the one after the last committed record before it, or the first
    offset of the partition where there is none; ``before`` are digests of the ``DEPTH`` last records, the oldest
    first."""

    topic: str
    partition: int
    offset: int
    before: tuple[str, ...]

    @property
    def repeats(self) -> bool:
        """Whether the records before it could also be those before another place a little later."""
        return any(self.before[by:] == self.before[:-by] for by in range(1, len(self.before)))

    @property
    def place(self) -> Place:
        """Topic and partition."""
        return self.topic, self.partition

    def __str__(self) -> str:
        return f"{self.topic} partition {self.partition}, offset {self.offset}"


class Search:
    """Looks for a mark among the records of a partition. Pure."""

    def __init__(self, mark: Mark, first: int) -> None:
        """``first`` is the first offset of the partition. A mark with nothing before it is known to stand there only
        where nothing ever came before it, or where the offsets are the same."""
        self._before = mark.before
        self._last: deque[str] = deque(maxlen=len(mark.before))
        self.records = 0
        self.found = [first] if not mark.before and mark.offset in (0, first) else []

    def see(self, offset: int, digest: str) -> None:
        """The next record of the partition."""
        self.records += 1
        self._last.append(digest)
        if self._before and self._last[-1] == self._before[-1] and tuple(self._last) == self._before:
            self.found.append(offset + 1)


@dataclass(frozen=True)
class Found:
    """Where a mark stands in a copy: at one of the offsets ``at``, none where its records are not there.

    ``first`` is the first offset of the partition. ``records`` are in it, of which ``after`` come after the mark, each
    0 where it was not counted.
    """

    at: tuple[int, ...]
    first: int
    records: int = 0
    after: int = 0


def digest(key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> str:
    """A short digest of what a copy of a record keeps; timestamps may be those of the append."""
    hashed = sha256()
    parts = (part for name, content in headers for part in (name.encode(), content))
    for part in (key, value, *parts):
        hashed.update(b"-" if part is None else b"%d:" % len(part) + part)
    return hashed.hexdigest()[:16]


def take(kafka: Kafka, places: Mapping[Place, int]) -> dict[Place, Mark]:
    """The marks of places, each an offset that is to be read next; one outside of its partition stands at its end, or
    its beginning. Raises SurecountError."""
    bounds = _bounds(kafka, places)
    wanted = {place: max(bounds[place][0], min(offset, bounds[place][1])) for place, offset in places.items()}
    marks: dict[Place, Mark] = {}
    span = _SPAN
    while left := [place for place in wanted if place not in marks]:
        ranges = {place: (max(bounds[place][0], wanted[place] - span), wanted[place]) for place in left}
        last: dict[Place, deque[tuple[int, str]]] = {place: deque(maxlen=DEPTH) for place in left}
        for place, offset, found in _read(kafka, ranges):
            last[place].append((offset, found))
        for place in left:
            if len(last[place]) == DEPTH or ranges[place][0] == bounds[place][0]:
                offset = last[place][-1][0] + 1 if last[place] else bounds[place][0]
                marks[place] = Mark(*place, offset, tuple(found for _, found in last[place]))
        span *= _SPAN_GROWS
    return marks


def find(kafka: Kafka, marks: Collection[Mark], *, count_after: bool) -> dict[Mark, Found]:
    """Where marks of different partitions stand now; one whose partition is not there is missing.

    Offsets that are kept are seen at once; partitions are read whole where they are not, or where the records before a
    place repeat themselves. Raises SurecountError.
    """
    known = topics.Admin(kafka).metadata().topics
    there = [mark for mark in marks if mark.topic in known and mark.partition in known[mark.topic].partitions]
    bounds = _bounds(kafka, {mark.place for mark in there})
    inside = [mark for mark in there if bounds[mark.place][0] <= mark.offset <= bounds[mark.place][1]]
    same = take(kafka, {mark.place: mark.offset for mark in inside})
    kept = [mark for mark in inside if same[mark.place] == mark and not mark.repeats]
    found = {mark: Found((mark.offset,), bounds[mark.place][0]) for mark in kept}
    searches = {mark.place: Search(mark, bounds[mark.place][0]) for mark in there if mark not in found}
    for place, offset, seen in _read(kafka, {place: bounds[place] for place in searches}):
        searches[place].see(offset, seen)
    for mark in there:
        if mark not in found:
            search = searches[mark.place]
            found[mark] = Found(tuple(search.found), bounds[mark.place][0], search.records)
    if not count_after:
        return found
    after = dict.fromkeys((mark.place for mark in found), 0)
    ranges = {mark.place: (one.at[0], bounds[mark.place][1]) for mark, one in found.items() if len(one.at) == 1}
    for place, _, _ in _read(kafka, ranges):
        after[place] += 1
    return {mark: replace(one, after=after[mark.place]) for mark, one in found.items()}


def _bounds(kafka: Kafka, places: Iterable[Place]) -> dict[Place, tuple[int, int]]:
    """The first offset of each partition, and the one up to which transactions are decided."""
    partitions = [TopicPartition(*place) for place in places]
    admin = topics.Admin(kafka)
    low = admin.offsets(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    high = admin.offsets(partitions, OffsetSpec.latest(), committed=True)  # type: ignore[no-untyped-call]
    return {place: (low[place], max(low[place], high[place])) for place in low}


def _read(kafka: Kafka, ranges: Ranges) -> Iterator[tuple[Place, int, str]]:
    """Place, offset and digest of each committed record in ranges, those of a partition in order."""
    with TopicReader(kafka, ranges, spread_ms=0, timeout_s=_STALLED_S) as reader:
        while not reader.done:
            for run in reader.poll():
                for message in run.messages:
                    yield run.place, offset_of(message), _digest(message)


def _digest(message: Message) -> str:
    headers: Any = message.headers() or ()
    return digest(message.key(), message.value(), headers)
