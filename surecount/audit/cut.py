"""Where to stop: input offsets and output offsets of a job that belong together.

At a checkpoint the job commits its transactions and then, to its consumer group, how far it had read.
So what the group has read and what the outputs hold up to their last stable offsets (LSO) are one state,
unless they are looked at between the two.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from surecount.audit.pacing import Place
from surecount.audit.reader import NoAnswerError, TopicReader, client_config
from surecount.errors import SurecountError
from surecount.kafka.refusals import RefusedError
from surecount.topics import Admin, NoBrokerError, committed
from surecount.waiting import wait_until

if TYPE_CHECKING:
    from surecount.audit.stages import Stage
    from surecount.config import Kafka

_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_REQUEST_S = 15.0
_SETTLED_S = 1.0
Offsets = Mapping[Place, int]


@dataclass(frozen=True)
class Bounds:
    """Offsets of some topics: the first ones, the last stable ones, and high watermarks."""

    begin: Offsets
    stable: Offsets
    end: Offsets

    def undecided(self) -> list[str]:
        """Which partitions hold transactions that are not decided."""
        return _undecided(self.stable, self.end)

    def empty(self) -> bool:
        """Whether no partition holds a record that is committed."""
        return self.stable == self.begin


class Unread(NamedTuple):
    """Offsets of a partition that were deleted before they were read, from ``begin`` to before ``end``, and how many
    ``rest`` behind them."""

    begin: int
    end: int
    rest: int


@dataclass(frozen=True)
class Sample:
    """Offsets at about one moment. ``committed`` lacks partitions that the group has no offset for."""

    committed: Offsets
    sources: Bounds
    outputs: Bounds

    def read_through(self) -> Offsets:
        """How far the group has read: not at all without an offset, and to the beginning of what begins behind it."""
        return {place: max(begin, self.committed.get(place, begin)) for place, begin in self.sources.begin.items()}

    def unread(self) -> Mapping[Place, Unread]:
        """What was deleted of each partition before the group had read it."""
        begin, end = self.sources.begin, self.sources.end
        behind = {place: at for place, at in sorted(self.committed.items()) if at < begin.get(place, 0)}
        return {place: Unread(at, begin[place], end[place] - begin[place]) for place, at in behind.items()}


@dataclass(frozen=True)
class Cut:
    """What the audit reads: of each partition the first offset, and the one after the last.

    ``quiet`` says that nothing moved: another cut would be the same. ``notes`` are for people. ``unread`` is what was
    deleted of the sources before the job had read it; ``at_ms`` is when the cut was made, since 1970.
    """

    sources: Mapping[Place, tuple[int, int]]
    outputs: Mapping[Place, tuple[int, int]]
    quiet: bool
    notes: tuple[str, ...]
    unread: Mapping[Place, Unread] = field(default_factory=dict)
    at_ms: int = field(default=0, compare=False)


def find_cut(stage: Stage, *, bounded: bool, timeout_s: float) -> Cut:
    """Wait up to ``timeout_s`` seconds for a cut; SurecountError names what is pending, or missing topics."""
    job = _Job(stage)
    if bounded:
        return _bounded_cut(job, timeout_s)
    return _running_cut(job, stage, timeout_s)


def _bounded_cut(job: _Job, timeout_s: float) -> Cut:
    """All that the input holds now, once all transactions are decided."""
    first = job.sample()
    latest = [first]

    def pending() -> list[str]:
        return [*latest[0].outputs.undecided(), *_undecided(latest[0].sources.stable, first.sources.end)]

    def decided() -> bool:
        latest[0] = job.sample()
        return not pending()

    what = "all transactions of input and outputs to be decided"
    wait_until(decided, timeout_s, what, seen=lambda: "; ".join(pending()))
    # What its group has committed need not be all that a run has read that has ended.
    return replace(_cut(latest[0], first.sources.end, quiet=True, notes=[]), unread={})


def _running_cut(job: _Job, stage: Stage, timeout_s: float) -> Cut:
    first = job.sample()
    samples: list[Sample] = []
    stands_since = time.monotonic()
    # A job that makes a checkpoint every second never stands still for a whole second.
    settled_s = min(_SETTLED_S, max(0.1, stage.checkpoint_ms / 3_000))

    # What a job has read since its last checkpoint may be deleted before the next one says so.
    passes_s = min(2 * stage.checkpoint_ms / 1_000 + 1, timeout_s / 2)

    def settle() -> Cut | None:
        nonlocal stands_since
        now = job.sample()
        samples.append(now)
        last = samples[-2] if len(samples) > 1 else None
        if last is None or (now.committed, now.outputs.stable) != (last.committed, last.outputs.stable):
            stands_since = time.monotonic()
            return None
        if now.unread():
            # Nothing goes on: the job does not run, or has nothing to read.
            stands = time.monotonic() - stands_since > passes_s and not now.outputs.undecided()
            return _cut(now, now.read_through(), quiet=True, notes=[]) if stands else None
        if not now.committed:
            # Nothing written and nothing read is one state, but not one that says anything: the job is about to begin.
            if now.outputs.undecided() or (now.outputs.empty() and not now.sources.empty()):
                return None
            note = f"group {stage.group} has no offsets: all of the input is counted"
            return _cut(now, now.sources.stable, quiet=False, notes=[note])
        if now.sources.end != first.sources.end:
            return _cut(now, now.read_through(), quiet=False, notes=[])
        if now.sources.end != last.sources.end or now.outputs.undecided() or job.lag(now):
            return None
        return _cut(now, now.read_through(), quiet=True, notes=[])

    def seen() -> str:
        now = samples[-1]
        if not now.committed and now.outputs.empty():
            return (
                "no offsets and no outputs: the job has not completed a checkpoint, `surecount status` tells how it is"
            )
        gone = [f"{t}-{p}: offsets {u.begin} to {u.end - 1} were deleted unread" for (t, p), u in now.unread().items()]
        return "; ".join([*gone, *now.outputs.undecided(), *job.lag(now)]) or "offsets that move all the time"

    what = f"the offsets of group {stage.group} and its outputs to stand still"
    found = wait_until(settle, timeout_s, what, settled_s, seen=seen)
    assert found is not None
    return found


def _cut(sample: Sample, source_end: Offsets, *, quiet: bool, notes: list[str]) -> Cut:
    begin = sample.sources.begin
    notes = [*notes, *_deleted({**begin, **sample.outputs.begin})]
    for place, end in sorted(source_end.items()):
        if end > sample.sources.end[place]:
            raise SurecountError(
                f"{place[0]}-{place[1]} was read up to offset {end} and ends at {sample.sources.end[place]}",
                "the topic was made anew, or lost records; start the pipeline anew as well",
                exit_code=1,
            )
    return Cut(
        {place: (begin[place], max(end, begin[place])) for place, end in source_end.items()},
        {place: (sample.outputs.begin[place], end) for place, end in sample.outputs.stable.items()},
        quiet,
        tuple(notes),
        sample.unread(),
        time.time_ns() // 1_000_000,
    )


def _deleted(begin: Offsets) -> list[str]:
    """One line for each topic whose beginning is deleted."""
    topics: dict[str, list[str]] = defaultdict(list)
    for (topic, partition), first in sorted(begin.items()):
        if first > 0:
            topics[topic].append(f"{first:,} in partition {partition}")
    return [f"{topic} begins at offset {', '.join(at)}: what stood before is deleted" for topic, at in topics.items()]


def _undecided(stable: Offsets, end: Offsets) -> list[str]:
    return [
        f"{place[0]}-{place[1]} has an open transaction: LSO {stable[place]}, high watermark {offset}"
        for place, offset in sorted(end.items())
        if stable[place] < offset
    ]


class _Job:
    """The offsets of a job's group and topics."""

    def __init__(self, stage: Stage) -> None:
        self._group = stage.group
        self._kafka = stage.source_kafka
        self._sources = _Topics(stage.source_kafka, stage.sources)
        self._outputs = _Topics(stage.output_kafka, stage.outputs)
        # (partition, from, to) → whether only markers are there: never asked twice.
        self._only_markers: dict[tuple[Place, int, int], bool] = {}

    def sample(self) -> Sample:
        """Look at all offsets, the group's first."""
        return Sample(self._sources.committed(self._group), self._sources.bounds(), self._outputs.bounds())

    def lag(self, sample: Sample) -> list[str]:
        """Which source partitions hold records that the group has not read, or undecided ones."""
        lags = sample.sources.undecided()
        for place, offset in sample.read_through().items():
            end = sample.sources.stable[place]
            if offset < end and not self._holds_no_record(place, offset, end):
                lags.append(f"{place[0]}-{place[1]} is read up to {offset} of {end}: lag {end - offset}")
        return lags

    def _holds_no_record(self, place: Place, begin: int, end: int) -> bool:
        """True where only transaction markers and aborted records stand; the job's offset stays before them."""
        asked = (place, begin, end)
        if asked not in self._only_markers:
            with TopicReader(self._kafka, {place: (begin, end)}, spread_ms=0, timeout_s=_REQUEST_S) as reader:
                found = False
                while not (reader.done or found):
                    found = bool(reader.poll())
                self._only_markers[asked] = not found
        return self._only_markers[asked]


class _Topics:
    """Some topics of a cluster, whose offsets its brokers are asked for."""

    def __init__(self, kafka: Kafka, topics: Iterable[str]) -> None:
        self._kafka = kafka
        try:
            self._admin = AdminClient(client_config(kafka))
        except KafkaException as error:
            raise SurecountError(
                f"kafka.properties: {error.args[0].str()}", "they have to be properties of librdkafka"
            ) from error
        self._places = self._partitions(topics)

    def _partitions(self, topics: Iterable[str]) -> list[Place]:
        topics = list(topics)
        try:
            known = Admin(self._kafka).metadata(topics).topics
        except NoBrokerError as error:
            raise NoAnswerError(error.message) from error
        if missing := [topic for topic in topics if topic not in known]:
            raise SurecountError(
                f"there is no topic {', '.join(missing)} at {self._kafka.bootstrap_servers}",
                "a pipeline can be audited when its topics exist; its jobs create what they write",
            )
        return [(topic, partition) for topic in topics for partition in sorted(known[topic].partitions)]

    def bounds(self) -> Bounds:
        """What is in the topics."""
        return Bounds(
            stable=self._list(_LATEST, IsolationLevel.READ_COMMITTED),
            end=self._list(_LATEST, IsolationLevel.READ_UNCOMMITTED),
            begin=self._list(_EARLIEST, IsolationLevel.READ_UNCOMMITTED),
        )

    def committed(self, group: str) -> Offsets:
        """How far a group has read, as far as it has said."""
        try:
            return committed(self._kafka, group, self._places)
        except RefusedError:
            raise
        except SurecountError as error:
            raise NoAnswerError(f"Kafka at {self._kafka.bootstrap_servers}: {error.message}") from error

    def _list(self, which: OffsetSpec, isolation: IsolationLevel) -> dict[Place, int]:
        request = {TopicPartition(*place): which for place in self._places}
        try:
            futures = self._admin.list_offsets(request, isolation_level=isolation, request_timeout=_REQUEST_S)
            return {(p.topic, p.partition): future.result().offset for p, future in futures.items()}
        except KafkaException as error:
            raise self._failed("the offsets of the pipeline's topics", error) from error

    def _failed(self, what: str, error: KafkaException) -> NoAnswerError:
        reason: KafkaError = error.args[0]
        return NoAnswerError(f"Kafka at {self._kafka.bootstrap_servers} does not tell {what}: {reason.str()}")
