"""``surecount rejects replay``: rejects are sent again to where they came from, each once.

How far a reason is replayed, a consumer group of its own has committed: offsets in the rejects topic, in the
transactions that send the records. So a replay that was interrupted goes on, and what was not chosen can be
replayed later.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from surecount import topics
from surecount.audit.reader import Ranges
from surecount.config import Kafka, Pipeline
from surecount.errors import SurecountError
from surecount.rejects import OnProgress, Reject, check_reasons, committed_ranges, read, unheard
from surecount.replay_evidence import Evidence
from surecount.waiting import wait_until
from udfs import reasons, times
from udfs.headers import ORIGIN_HEADERS, PREFIX, REPLAYED_HEADER, RETURNED_HEADER, TIMESTAMP_HEADER

ONLY_WHEN_NAMED = {
    reasons.BEYOND_HORIZON: "only when named: may be a copy of an event that counts already",
    reasons.TOMBSTONE: "only when named: nothing to mend",
    reasons.KAFKA_TIMESTAMP: "only when named: its event time would be that of its replay",
}

_CLEAN_HEADERS = (f"{PREFIX}version", f"{PREFIX}watermark")
_BY_KEY = -1
_NOW = 0  # as the client has it

# A chunk is one transaction.
_CHUNK_RECORDS = 2_000
_CHUNK_BYTES = 8 << 20
_STEP_S = 0.5
# Shorter than transaction.timeout.ms: a broker that times a transaction out shuts its producer out.
_PATIENCE_S = 50.0
_GRACE_S = 5.0

_DEFAULTS = {
    "compression.type": "lz4",
    "linger.ms": 20,
    # The client sees to a step's own timeout only when a request is answered, or ends by this.
    "socket.timeout.ms": 20_000,
    # A topic's limit is on whole batches; a record that is larger than this goes alone.
    "batch.size": 16 << 10,
    # A key goes to the partition to which Java's producers send it.
    "partitioner": "murmur2_random",
    # When all brokers were away, sending offsets would else never end (librdkafka#5511).
    "metadata.recovery.strategy": "none",
}

Offsets = list[tuple[Any, list[TopicPartition]]]
"""Offsets to commit, each list with the metadata of its group."""


Headers = list[tuple[str, str | bytes | None]]


class LeftOutError(Exception):
    """A reject is not replayed; the text says why."""


@dataclass(frozen=True)
class Record:
    """What is sent in place of a reject; the key may decide on the ``partition``, a ``timestamp_ms`` of 0 is now."""

    topic: str
    partition: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Targets:
    """Where the jobs of a pipeline read what they rejected.

    Ingest has a topic for that, in which it believes headers. The aggregate job reads clean records where it read them
    before; without ingest those are the raw topics, and a header there that names the reject is for people.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._clean, self._replay = pipeline.topics.clean, pipeline.topics.replay
        self._ingest = f"{pipeline.name}.ingest" if pipeline.has_ingest else None
        self._aggregate, self._aggregated = f"{pipeline.name}.aggregate", pipeline.aggregated_topics
        self._has_ingest = pipeline.has_ingest
        self._by_kafka = pipeline.source.event_time == "kafka"
        self.topics = pipeline.replayed_topics

    def topic(self, reject: Reject) -> str:
        """The topic, on the pipeline's own cluster; raises LeftOutError."""
        job, topic = reject.said("job"), reject.said("topic")
        if job == self._ingest:
            return self._replay
        if job != self._aggregate or topic not in self._aggregated:
            raise LeftOutError(f"{job or 'a job that is not named'} does not read {topic or 'where it was'} now")
        return topic

    def record(self, reject: Reject, partitions: Mapping[str, int]) -> Record:
        """What is to be sent, ``partitions`` being how many each topic has; raises LeftOutError."""
        topic = self.topic(reject)
        if reject.said("sha256") or reject.said("omitted"):
            raise LeftOutError("it was too large to be written whole")
        partition = reject.number("partition")
        if partition is None or reject.number("offset") is None:
            raise LeftOutError("its headers do not say where it was")
        if topic == self._replay:
            return self._again(reject, partition % partitions[topic])
        if self._has_ingest:
            kept, mark = (*ORIGIN_HEADERS, *_CLEAN_HEADERS), RETURNED_HEADER
            headers: Headers = [(n, value) for n, value in reject.headers if n in kept or not n.startswith(PREFIX)]
        else:
            headers, mark = [*reject.own_headers], REPLAYED_HEADER
        return Record(
            topic,
            partition if partition < partitions[topic] else _BY_KEY,
            _sendable(reject, by_kafka=self._by_kafka),
            reject.key,
            reject.value,
            [*headers, (mark, reject.place.encode())],
        )

    def _again(self, reject: Reject, partition: int) -> Record:
        """A record of the replay topic: its place and time are those that headers say, and its time there is now. One
        that was rejected for its time has no other."""
        said = ORIGIN_HEADERS if reject.reason == reasons.KAFKA_TIMESTAMP else (*ORIGIN_HEADERS, TIMESTAMP_HEADER)
        headers: Headers = [(n, value) for n, value in reject.headers if n in said or not n.startswith(PREFIX)]
        headers.append((REPLAYED_HEADER, reject.place.encode()))
        return Record(self._replay, partition, _NOW, reject.key, reject.value, headers)


def _sendable(reject: Reject, *, by_kafka: bool) -> int:
    """The Kafka timestamp to send a reject with, its own where that can be; 0 is the present for the client.

    No producer sends negative ones, and a broker may refuse those that are no time. Raises LeftOutError where it is
    the event time, which the present may only become where that is asked for.
    """
    timestamp_ms = reject.number("timestamp") or 0
    if times.is_time(timestamp_ms):
        return timestamp_ms
    if by_kafka and reject.reason != reasons.KAFKA_TIMESTAMP:
        said = reject.said("timestamp") or "none"
        raise LeftOutError(f"its Kafka timestamp is its event time, and cannot be sent: {said}")
    return 0


def check_chosen(reject: Reject, named: Collection[str]) -> None:
    """Raise LeftOutError where a reject is not of the ``named`` reasons, or of those that have to be named."""
    if named and reject.reason not in named:
        raise LeftOutError("not named")
    if not named and reject.reason in ONLY_WHEN_NAMED:
        raise LeftOutError(ONLY_WHEN_NAMED[reject.reason])


@dataclass
class Summary:
    """What was replayed, by reason and topic, and what was left out, by reason and why."""

    dry_run: bool = False
    replayed: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "dry_run": self.dry_run,
            "replayed": [{"reason": r, "topic": topic, "count": n} for (r, topic), n in sorted(self.replayed.items())],
            "left_out": [{"reason": r, "why": why, "count": n} for (r, why), n in sorted(self.left_out.items())],
        }

    def __str__(self) -> str:
        done = "would be replayed" if self.dry_run else "replayed"
        lines = [f"{self.replayed.total():,} {done}" if self.replayed else "nothing to replay"]
        lines += [f"  {n:,} {reason} to {topic}" for (reason, topic), n in sorted(self.replayed.items())]
        if self.left_out:
            lines.append(f"{self.left_out.total():,} left out")
        lines += [f"  {n:,} {reason or 'without reason'}: {why}" for (reason, why), n in sorted(self.left_out.items())]
        return "\n".join(lines)


def replay(
    pipeline: Pipeline,
    named: Collection[str] = (),
    *,
    dry_run: bool = False,
    forgotten: str | None = None,
    on_progress: OnProgress = unheard,
) -> Summary:
    """Send the rejects that are there now again, each once, however often this is done or interrupted.

    All reasons but those of ``ONLY_WHEN_NAMED``, or else the ``named`` ones. Those of which it is ``forgotten`` whether
    they were replayed are refused, unless it says to "skip" or to "send" them. Raises SurecountError where it ends
    early; what was replayed until then stays so.
    """
    check_reasons(named)
    targets = Targets(pipeline)
    partitions = Counter(topic for topic, _ in topics.offsets(pipeline.kafka, targets.topics))
    summary = Summary(dry_run)
    try:
        # First, as it ends what an earlier replay left open.
        transactions = None if dry_run else _Transactions(pipeline.kafka, pipeline.group_id("replay"))
        ranges = committed_ranges(pipeline)
        evidence = Evidence(pipeline, time.time_ns() // 1_000_000, forgotten)
        positions = _Positions(pipeline, ranges, evidence, settled=not dry_run)
        chunk = _Chunk()
        for reject in read(pipeline.kafka, ranges, on_progress):
            try:
                check_chosen(reject, named)
                record = targets.record(reject, partitions)
                positions.check(reject, record.topic)
            except LeftOutError as left_out:
                summary.left_out[reject.reason, str(left_out)] += 1
                continue
            chunk.add(reject, record)
            if chunk.is_full:
                chunk.send(transactions, positions, summary)
                chunk = _Chunk()
        chunk.send(transactions, positions, summary)
    except SurecountError as error:
        raise SurecountError(
            f"{error.message}\nat least {summary.replayed.total():,} rejects were replayed before that",
            error.hint or "when that is mended, the same command goes on with the rest",
            exit_code=1,
        ) from error
    return summary


class _Chunk:
    """Rejects that are replayed in one transaction."""

    def __init__(self) -> None:
        self._rejects: list[Reject] = []
        self._records: list[Record] = []
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        return len(self._records) >= _CHUNK_RECORDS or self._bytes >= _CHUNK_BYTES

    def add(self, reject: Reject, record: Record) -> None:
        self._rejects.append(reject)
        self._records.append(record)
        self._bytes += len(record.value or b"")

    def send(self, transactions: _Transactions | None, positions: _Positions, summary: Summary) -> None:
        """Send the records, unless this is a dry run, and count them."""
        if transactions is not None and self._records:
            transactions.send(self._records, positions.behind(self._rejects))
        pairs = zip(self._rejects, self._records, strict=True)
        summary.replayed.update((reject.reason, record.topic) for reject, record in pairs)


class _Positions:
    """How far each reason is replayed. Where they have to be ``settled``, open transactions are waited for."""

    def __init__(self, pipeline: Pipeline, ranges: Ranges, evidence: Evidence, *, settled: bool) -> None:
        self._pipeline = pipeline
        self._evidence = evidence
        self._isolation = "read_committed" if settled else "read_uncommitted"
        self._places = [TopicPartition(*place) for place in ranges]
        self._known: dict[str, tuple[Any, dict[int, int]]] = {}

    def check(self, reject: Reject, topic: str) -> None:
        """Raise LeftOutError where a reject was sent to ``topic`` before: the position is behind it, or unknown, and
        there is other evidence."""
        _, offsets = self._of(reject.reason)
        position = offsets.get(reject.partition)
        if self._evidence.was_replayed(reject, topic) if position is None else reject.offset < position:
            raise LeftOutError("was replayed or left out before")

    def behind(self, rejects: Iterable[Reject]) -> Offsets:
        """The positions behind rejects, as they are to be committed."""
        ends: dict[str, dict[int, int]] = {}
        for reject in rejects:
            ends.setdefault(reject.reason, {})[reject.partition] = reject.offset + 1
        topic = self._pipeline.topics.rejects
        return [
            (self._of(reason)[0], [TopicPartition(topic, *place) for place in offsets.items()])
            for reason, offsets in ends.items()
        ]

    def _of(self, reason: str) -> tuple[Any, dict[int, int]]:
        """The metadata of a reason's group, and the offsets that it had committed."""
        if reason not in self._known:
            self._known[reason] = self._ask(self._pipeline.group_id(f"replay.{reason}"))
        return self._known[reason]

    def _ask(self, group: str) -> tuple[Any, dict[int, int]]:
        config: dict[str, Any] = {
            **topics.client_config(self._pipeline.kafka),
            "group.id": group,
            "enable.auto.commit": False,
            "isolation.level": self._isolation,
        }
        consumer = Consumer(config, logger=topics.log)
        failure: list[str] = []

        def committed() -> list[TopicPartition]:
            try:
                found = consumer.committed(self._places, timeout=topics.TIMEOUT_S)
            except KafkaException as error:  # of a coordinator that moves, for one
                failure[:] = [topics.reason(error)]
                return []
            failure[:] = [place.error.str() for place in found if place.error is not None]
            return [] if failure else found

        try:
            found = wait_until(committed, _PATIENCE_S, f"the position of group {group}", seen=lambda: failure[0])
            return consumer.consumer_group_metadata(), {p.partition: p.offset for p in found if p.offset >= 0}
        finally:
            consumer.close()


class _Transactions:
    """A transactional producer. What another one of its ``name`` has left open is aborted.

    It has no callbacks: a record that is refused fails its transaction, which says why.
    """

    def __init__(self, kafka: Kafka, name: str) -> None:
        self._deadline = time.monotonic() + _PATIENCE_S
        config: dict[str, Any] = {
            **_DEFAULTS,
            **topics.client_config(kafka),
            # The topic has a limit of its own.
            "message.max.bytes": 256 << 20,
            "enable.idempotence": True,
            "acks": "all",
            "transactional.id": name,
        }
        try:
            self._producer = Producer(config, logger=topics.log)
        except KafkaException as error:
            raise SurecountError(
                f"kafka.properties don't go with a transactional producer: {topics.reason(error)}"
            ) from error
        with _kafkas_words():
            self._call(self._producer.init_transactions)

    def send(self, records: Iterable[Record], offsets: Offsets) -> None:
        """Commit records and offsets together, or raise SurecountError."""
        self._deadline = time.monotonic() + _PATIENCE_S
        producer = self._producer
        with _kafkas_words():
            try:
                producer.begin_transaction()
                for record in records:
                    self._produce(record)
                while True:
                    # Once more at each turn: flush does not tell that the transaction has failed.
                    for group, positions in offsets:
                        self._call(partial(producer.send_offsets_to_transaction, positions, group))
                    if not (left := producer.flush(_STEP_S)):
                        break
                    self._check_patience(f"{left:,} records are not acknowledged")
                # With nothing left to flush: a commit that is under way cannot be aborted.
                self._call(producer.commit_transaction)
            except BaseException:
                # So that readers need not wait until the broker times the transaction out.
                with suppress(KafkaException, SystemError):
                    producer.abort_transaction(_GRACE_S)
                raise

    def _produce(self, record: Record) -> None:
        while True:
            try:
                self._producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    record.partition,
                    timestamp=record.timestamp_ms,
                    headers=record.headers,
                )
                return
            except BufferError:
                self._check_patience("the producer's memory stays full")
            self._producer.poll(_STEP_S)

    def _call(self, step: Callable[[float], object]) -> None:
        """Take a step of a transaction, again and again while it may still succeed."""
        while True:
            try:
                step(_STEP_S)
                return
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
                self._check_patience(topics.reason(error))
            self._producer.poll(0)

    def _check_patience(self, why: str) -> None:
        if time.monotonic() >= self._deadline:
            raise SurecountError(f"gave up after {_PATIENCE_S:g} s: {why}")


@contextmanager
def _kafkas_words() -> Iterator[None]:
    """What Kafka's client raises, as a SurecountError."""
    try:
        yield
    except (KafkaException, SystemError) as error:
        # A fatal error that a callback meets, as the logger's, comes as the cause of a SystemError.
        kafkas = error.__cause__ if isinstance(error, SystemError) else error
        if not isinstance(kafkas, KafkaException):
            raise
        why = topics.reason(kafkas)
        if kafkas.args[0].code() in (KafkaError._FENCED, KafkaError._FATAL):
            why = f"another replay has taken over, or this one stood still for too long ({why})"
        raise SurecountError(why) from error
