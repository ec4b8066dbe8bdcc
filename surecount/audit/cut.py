"""Where to stop: input offsets and output offsets that belong together.

At a checkpoint the job commits its transactions and then, to its consumer group, how far it had read.
So what the group has read and what the outputs hold up to their last stable offsets (LSO) are one state,
unless they are looked at between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from surecount.audit.pacing import Place
from surecount.audit.reader import TopicReader, client_config
from surecount.errors import SurecountError
from surecount.waiting import wait_until

if TYPE_CHECKING:
    from surecount.config import Kafka, Pipeline

_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_REQUEST_S = 15.0
_SETTLED_S = 1.0
Offsets = Mapping[Place, int]


@dataclass(frozen=True)
class Sample:
    """Offsets at about one moment. ``begin`` is of all topics; ``committed`` lacks partitions that the
    group has no offset for. ``*_stable`` are last stable offsets, ``*_end`` high watermarks."""

    begin: Offsets
    committed: Offsets
    source_stable: Offsets
    source_end: Offsets
    output_stable: Offsets
    output_end: Offsets

    def read_through(self) -> Offsets:
        """How far the group has read; a partition without an offset, not at all."""
        return {place: self.committed.get(place, self.begin[place]) for place in self.source_end}

    def pending(self) -> list[str]:
        """Which outputs hold transactions that are not decided."""
        return _undecided(self.output_stable, self.output_end)


@dataclass(frozen=True)
class Cut:
    """What the audit reads: of each partition the first offset, and the one after the last.

    ``quiet`` says that nothing moved: another cut would be the same. ``notes`` are for people.
    """

    sources: Mapping[Place, tuple[int, int]]
    outputs: Mapping[Place, tuple[int, int]]
    quiet: bool
    notes: tuple[str, ...]


def find_cut(pipeline: Pipeline, *, bounded: bool, timeout_s: float) -> Cut:
    """Wait up to ``timeout_s`` seconds for a cut; SurecountError names what is pending, or missing topics."""
    cluster = _Cluster(pipeline)
    if bounded:
        return _bounded_cut(cluster, timeout_s)
    return _running_cut(cluster, pipeline, timeout_s)


def _bounded_cut(cluster: _Cluster, timeout_s: float) -> Cut:
    """All that the input holds now, once all transactions are decided."""
    first = cluster.sample()
    latest = [first]

    def decided() -> bool:
        latest[0] = cluster.sample()
        return not latest[0].pending() and not _undecided(latest[0].source_stable, first.source_end)

    def seen() -> str:
        return "; ".join([*latest[0].pending(), *_undecided(latest[0].source_stable, first.source_end)])

    wait_until(decided, timeout_s, "all transactions of input and outputs to be decided", seen=seen)
    return _cut(latest[0], first.source_end, quiet=True, notes=[])


def _running_cut(cluster: _Cluster, pipeline: Pipeline, timeout_s: float) -> Cut:
    first = cluster.sample()
    samples: list[Sample] = []
    # A job that makes a checkpoint every second never stands still for a whole second.
    settled_s = min(_SETTLED_S, max(0.1, pipeline.checkpoint.interval / 3_000))

    def settle() -> Cut | None:
        now = cluster.sample()
        samples.append(now)
        last = samples[-2] if len(samples) > 1 else None
        if last is None or (now.committed, now.output_stable) != (last.committed, last.output_stable):
            return None
        if not now.committed:
            if now.pending():
                return None
            group = pipeline.group_id("aggregate")
            note = f"group {group} has no offsets (no checkpoint yet?): all of the input is counted"
            return _cut(now, now.source_stable, quiet=False, notes=[note])
        if now.source_end != first.source_end:
            return _cut(now, now.read_through(), quiet=False, notes=[])
        if now.source_end != last.source_end or now.pending() or cluster.lag(now):
            return None
        return _cut(now, now.read_through(), quiet=True, notes=[])

    def seen() -> str:
        now = samples[-1]
        return "; ".join([*now.pending(), *cluster.lag(now)]) or "offsets that move all the time"

    what = f"{pipeline.name}'s committed offsets and outputs to stand still"
    found = wait_until(settle, timeout_s, what, settled_s, seen=seen)
    assert found is not None
    return found


def _cut(sample: Sample, source_end: Offsets, *, quiet: bool, notes: list[str]) -> Cut:
    notes = list(notes)
    for (topic, partition), begin in sorted(sample.begin.items()):
        if begin > 0:
            notes.append(f"{topic}-{partition} begins at offset {begin}: what stood before is deleted")
    for place, end in sorted(source_end.items()):
        if end > sample.source_end[place]:
            raise SurecountError(
                f"{place[0]}-{place[1]} was read up to offset {end} and ends at {sample.source_end[place]}",
                "the topic was made anew, or lost records; start the pipeline anew as well",
            )
    return Cut(
        {place: (sample.begin[place], max(end, sample.begin[place])) for place, end in source_end.items()},
        {place: (sample.begin[place], end) for place, end in sample.output_stable.items()},
        quiet,
        tuple(notes),
    )


def _undecided(stable: Offsets, end: Offsets) -> list[str]:
    return [
        f"{place[0]}-{place[1]} has an open transaction: LSO {stable[place]}, high watermark {offset}"
        for place, offset in sorted(end.items())
        if stable[place] < offset
    ]


class _Cluster:
    """The offsets of a pipeline's topics and group, asked of the brokers."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._kafka: Kafka = pipeline.kafka
        self._group = pipeline.group_id("aggregate")
        try:
            self._admin = AdminClient(client_config(self._kafka))
        except KafkaException as error:
            raise SurecountError(
                f"kafka.properties: {error.args[0].str()}", "they have to be properties of librdkafka"
            ) from error
        self._sources = self._partitions(pipeline.aggregated_topics)
        self._outputs = self._partitions(pipeline.topics.all)
        # (partition, from, to) → how many records, or markers, are there: never asked twice.
        self._only_markers: dict[tuple[Place, int, int], bool] = {}

    def _partitions(self, topics: Iterable[str]) -> list[Place]:
        try:
            known = self._admin.list_topics(timeout=_REQUEST_S).topics
        except KafkaException as error:
            raise SurecountError(
                f"Kafka does not answer at {self._kafka.bootstrap_servers}: {error.args[0].str()}"
            ) from error
        if missing := [topic for topic in topics if topic not in known]:
            raise SurecountError(
                f"there is no topic {', '.join(missing)} at {self._kafka.bootstrap_servers}",
                "a pipeline can be audited when its topics exist; its job creates the outputs",
            )
        return [(topic, partition) for topic in topics for partition in sorted(known[topic].partitions)]

    def sample(self) -> Sample:
        """Look at all offsets, the group's first."""
        committed = self._committed()
        both = [*self._sources, *self._outputs]
        stable = self._list(both, _LATEST, IsolationLevel.READ_COMMITTED)
        end = self._list(both, _LATEST, IsolationLevel.READ_UNCOMMITTED)
        return Sample(
            begin=self._list(both, _EARLIEST, IsolationLevel.READ_UNCOMMITTED),
            committed=committed,
            source_stable={place: stable[place] for place in self._sources},
            source_end={place: end[place] for place in self._sources},
            output_stable={place: stable[place] for place in self._outputs},
            output_end={place: end[place] for place in self._outputs},
        )

    def lag(self, sample: Sample) -> list[str]:
        """Which source partitions hold records that the group has not read, or undecided ones."""
        lags = _undecided(sample.source_stable, sample.source_end)
        for place, offset in sample.read_through().items():
            end = sample.source_stable[place]
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

    def _committed(self) -> Offsets:
        wanted = [TopicPartition(*place) for place in self._sources]
        request = ConsumerGroupTopicPartitions(self._group, wanted)
        try:
            futures = self._admin.list_consumer_group_offsets([request], request_timeout=_REQUEST_S)
            answer = futures[self._group].result()
        except KafkaException as error:
            raise _failed(f"the offsets of group {self._group}", error) from error
        return {(p.topic, p.partition): p.offset for p in answer.topic_partitions if p.offset >= 0}

    def _list(self, places: list[Place], which: OffsetSpec, isolation: IsolationLevel) -> dict[Place, int]:
        request = {TopicPartition(*place): which for place in places}
        try:
            futures = self._admin.list_offsets(request, isolation_level=isolation, request_timeout=_REQUEST_S)
            return {(p.topic, p.partition): future.result().offset for p, future in futures.items()}
        except KafkaException as error:
            raise _failed("the offsets of the pipeline's topics", error) from error


def _failed(what: str, error: KafkaException) -> SurecountError:
    reason: KafkaError = error.args[0]
    return SurecountError(f"Kafka does not tell {what}: {reason.str()}")
