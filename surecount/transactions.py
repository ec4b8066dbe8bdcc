"""Transactions that send records and the position of their input together.

The position is the committed offset of a consumer group, on partition 0 of the topic: Kafka keeps it
and the records, or neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from surecount import topics
from surecount.config import Kafka
from surecount.errors import SurecountError
from surecount.kafka.refusals import check_allowed
from surecount.kafka.rights import Right
from surecount.lines import Chunk, Position
from surecount.topic_rules import Topic
from surecount.waiting import wait_until

# What a record's batch may add to its key and value.
OVERHEAD_BYTES = 100

_STEP_S = 0.5
# send_offsets_to_transaction may block without end where a coordinator was away:
# https://github.com/confluentinc/librdkafka/issues/5456
_STUCK_S = 5.0
# How long a transaction that has to end may take to be committed, or aborted.
_GRACE_S = 3.0
_ASK_S = 30.0
# The client's patience ends first: a broker that times a transaction out shuts its producer out.
_BROKER_PATIENCE_MS = 30_000
_BATCH_BYTES = 512 << 10

_DEFAULTS = {
    "compression.type": "lz4",
    "linger.ms": 20,
    "batch.num.messages": 100_000,
    "retry.backoff.ms": 100,
    "retry.backoff.max.ms": 5_000,
    # A key goes to the partition to which Java's producers send it.
    "partitioner": "murmur2_random",
}
# Sending such a record again ends no better.
_REFUSALS = (
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.POLICY_VIOLATION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
)


class EndedError(Exception):
    """Sending cannot go on.

    ``gave_up`` where that is for want of answers; ``undecided`` where Kafka may have committed the last
    transaction without having said so.
    """

    def __init__(self, why: str, *, gave_up: bool = False, undecided: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.gave_up = gave_up
        self.undecided = undecided


def committed(kafka: Kafka, topic: str, group: str) -> Position | None:
    """The committed position; that of an open transaction does not count."""
    failure: list[str] = []
    with _consumer(kafka, group, "read_uncommitted") as consumer:

        def ask() -> tuple[Position | None] | None:
            try:
                return (_position(consumer, topic),)
            except KafkaException as error:
                for told in (error.args[0], topics.reported(consumer)):
                    check_allowed(kafka, told, f"the position of {group!r} can't be read", _rights(topic, group))
                failure[:] = [topics.reason(error)]
                return None

        found = wait_until(ask, _ASK_S, f"the position of {group!r}", seen=lambda: failure[-1])
    return found[0] if found else None


def _rights(topic: str, name: str) -> tuple[Right, ...]:
    """What it takes to send records and a position to a topic, under a name of group and transactional id."""
    return (
        Right("topic", topic, ("Write", "Read")),
        Right("group", name, ("Read",)),
        Right("transactional-id", name, ("Write",)),
    )


def _position(consumer: Consumer, topic: str) -> Position | None:
    """One attempt to read the position; raises KafkaException."""
    (found,) = consumer.committed([TopicPartition(topic, 0)], timeout=_STEP_S)
    if found.error is not None:
        raise KafkaException(found.error)
    return None if found.offset < 0 else Position.parse(found.offset, found.metadata or "")


@contextmanager
def _consumer(kafka: Kafka, group: str, isolation: str) -> Iterator[Consumer]:
    config = {
        **topics.client_config(kafka),
        "group.id": group,
        "enable.auto.commit": False,
        "isolation.level": isolation,
    }
    consumer = Consumer(config, logger=topics.log)
    try:
        yield consumer
    finally:
        consumer.close()


class Transactions:
    """A transactional producer whose transactions carry records and a position.

    ``name`` is its transactional id and its consumer group. ``stopped`` ends waiting early.
    """

    def __init__(self, kafka: Kafka, topic: Topic, name: str, give_up_ms: int, stopped: Callable[[], bool]) -> None:
        self._kafka, self._topic, self._name = kafka, topic.name, name
        self._give_up_s = give_up_ms / 1_000
        self._stopped = stopped
        self._deadline = 0.0
        self._committed: int | None = None
        # Whether Kafka was told to commit, and has not answered yet.
        self._undecided = False
        self._reason = ""
        self._refusal = ""
        self._config: dict[str, Any] = {
            **_DEFAULTS,
            # A topic's limit is on whole batches.
            "batch.size": min(_BATCH_BYTES, topic.max_message_bytes),
            "message.max.bytes": topic.max_message_bytes + 1_000,
            **topics.client_config(kafka),
            "enable.idempotence": True,
            "acks": "all",
            "transactional.id": name,
            "delivery.timeout.ms": give_up_ms,
            "transaction.timeout.ms": give_up_ms + _BROKER_PATIENCE_MS,
            "delivery.report.only.error": True,
            "on_delivery": self._on_failure,
            "error_cb": self._on_error,
        }

    def _on_failure(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None and error.code() in _REFUSALS:
            self._refusal = self._refusal or error.str()

    def _on_error(self, error: KafkaError) -> None:
        # That all brokers are down says less than why each of them is.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._reason = error.str()

    def start(self) -> Position | None:
        """Abort what an earlier producer of this name left open; the position that is committed then."""
        self._deadline = time.monotonic() + self._give_up_s
        try:
            known = self._connect()
        except (KafkaException, EndedError) as error:
            if isinstance(error, KafkaException):
                failure = "no transactions can be had"
                check_allowed(self._kafka, error.args[0], failure, _rights(self._topic, self._name))
            gave_up = isinstance(error, EndedError) and error.gave_up
            raise (topics.NoBrokerError if gave_up else SurecountError)(
                f"no transactions can be had at {self._kafka.bootstrap_servers}: {topics.reason(error)}",
                "a broker that allows less time (transaction.max.timeout.ms) needs a shorter --give-up-after",
            ) from error
        self._committed = None if known is None else known.byte
        return known

    def send(self, chunk: Chunk) -> None:
        """Commit a chunk's records and the position behind it, or raise EndedError."""
        self._deadline = time.monotonic() + self._give_up_s
        self._reason = self._refusal = ""
        end = chunk.end
        try:
            while not self._transaction(chunk.records, end):
                # A pause, so that a cause that stays is not met without end.
                self._producer.poll(_STEP_S)
        except EndedError:
            self._abort_if_possible()
            raise
        self._committed = end.byte

    def _transaction(self, records: list[tuple[bytes | None, bytes]], end: Position) -> bool:
        """Whether a transaction was committed; where it was aborted, it may be sent again."""
        try:
            self._attempt(records, end)
            return True
        except KafkaException as failure:
            error = failure.args[0]
            if error.code() in (KafkaError._FENCED, KafkaError._FATAL):
                raise self._ended(
                    f"another send with this ID took over, or this one stood still: {error.str()}"
                ) from failure
            self._reason = error.str()
        # A new producer aborts what this one left open, whatever state its client is in; and the position
        # tells whether that was still possible.
        try:
            known = self._connect()
        except KafkaException as failure:
            raise self._ended(topics.reason(failure)) from failure
        self._undecided = False
        if known is not None and known.byte == end.byte:
            return True
        if (None if known is None else known.byte) != self._committed:
            raise self._ended("another send with this ID took over")
        if self._refusal:
            raise self._ended(f"Kafka refuses a record: {self._refusal}")
        self._check_patience()
        return False

    def _attempt(self, records: list[tuple[bytes | None, bytes]], end: Position) -> None:
        self._undecided = False
        self._producer.begin_transaction()
        for key, value in records:
            self._produce(key, value)
        offset = TopicPartition(self._topic, 0, end.byte, end.metadata)
        while True:
            # Once more at each turn: flush does not tell that the transaction must be aborted.
            self._call(lambda timeout_s: self._producer.send_offsets_to_transaction([offset], self._group, timeout_s))
            if not self._producer.flush(_STEP_S):
                break
            self._check_patience()
        # With nothing left to flush, this tells Kafka to commit at once.
        self._undecided = True
        self._call(self._producer.commit_transaction)
        self._undecided = False

    def _produce(self, key: bytes | None, value: bytes) -> None:
        while True:
            try:
                return self._producer.produce(self._topic, value, key)
            except BufferError:
                self._producer.poll(_STEP_S)
                self._check_patience()

    def _connect(self) -> Position | None:
        """Begin with a new producer; the position that is committed when older ones are shut out."""
        while True:
            self._producer = self._new_producer()
            try:
                self._call(self._producer.init_transactions)
                break
            except KafkaException as failure:
                if failure.args[0].code() != KafkaError._TIMED_OUT:
                    raise
            self._check_patience()
        with _consumer(self._kafka, self._name, "read_committed") as consumer:
            self._group = consumer.consumer_group_metadata()
            while True:
                try:
                    return _position(consumer, self._topic)
                except KafkaException as failure:
                    what = f"the position of {self._name!r} can't be read"
                    for told in (failure.args[0], topics.reported(consumer)):
                        check_allowed(self._kafka, told, what, _rights(self._topic, self._name))
                    self._reason = topics.reason(failure)
                self._check_patience()

    def _new_producer(self) -> Producer:
        try:
            return Producer(self._config, logger=topics.log)
        except KafkaException as error:
            raise SurecountError(
                f"kafka.properties don't go with a transactional producer: {topics.reason(error)}"
            ) from error

    def _abort_if_possible(self) -> None:
        """So that readers need not wait until the broker times the transaction out."""
        self._deadline = time.monotonic() + _GRACE_S
        with suppress(EndedError, KafkaException):
            self._call(self._producer.abort_transaction)

    def _call(self, step: Callable[[float], object]) -> None:
        """Take a step of a transaction, again and again while it may still succeed."""
        while True:
            try:
                self._take(step)
                return
            except KafkaException as failure:
                if not failure.args[0].retriable():
                    raise
                self._reason = self._reason or topics.reason(failure)
            self._producer.poll(0)
            self._check_patience()

    def _take(self, step: Callable[[float], object]) -> None:
        """Take a step in a thread of its own, which is left to itself when it does not return."""
        outcome: SimpleQueue[Exception | None] = SimpleQueue()

        def take() -> None:
            try:
                step(_STEP_S)
                outcome.put(None)
            except Exception as error:  # noqa: BLE001 - raised below
                outcome.put(error)

        Thread(target=take, daemon=True).start()
        stuck = time.monotonic() + _STUCK_S
        while True:
            try:
                error = outcome.get(timeout=_STEP_S)
            except Empty:
                self._check_patience()
                if time.monotonic() >= stuck:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "Kafka's client is stuck")) from None
            else:
                if error is not None:
                    raise error
                return

    def _check_patience(self) -> None:
        now = time.monotonic()
        if self._stopped():
            self._deadline = min(self._deadline, now + _GRACE_S)
        if now >= self._deadline:
            raise self._ended(self._reason or "no answer", gave_up=True)

    def _ended(self, why: str, *, gave_up: bool = False) -> EndedError:
        return EndedError(why, gave_up=gave_up, undecided=self._undecided)
