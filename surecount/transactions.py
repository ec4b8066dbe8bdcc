"""Transactions that send records and the position of their input together.

The position is the committed offset of a consumer group, on partition 0 of the topic: Kafka keeps it
and the records, or neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from surecount import topics
from surecount.config import Kafka
from surecount.errors import SurecountError
from surecount.lines import Chunk, Position
from surecount.topic_rules import Topic
from surecount.waiting import wait_until

# What a record's batch may add to its key and value.
OVERHEAD_BYTES = 100

_STEP_S = 0.5
# How long a transaction that has to end may take to be committed, or aborted.
_GRACE_S = 5.0
_START_S = 30.0
# The client's patience ends first: a broker that times a transaction out shuts its producer out.
_BROKER_PATIENCE_MS = 30_000
# The client sees to a step's own timeout only when a request is answered, or ends by this.
_SOCKET_MS = 20_000
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
_PURGED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)


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


def committed(kafka: Kafka, topic: str, group: str, *, settled: bool) -> Position | None:
    """The committed position; where it has to be ``settled``, an open transaction is waited for."""
    isolation = "read_committed" if settled else "read_uncommitted"
    failure: list[str] = []
    with _consumer(kafka, group, isolation) as consumer:

        def ask() -> TopicPartition | None:
            try:
                (found,) = consumer.committed([TopicPartition(topic, 0)], timeout=_STEP_S)
            except KafkaException as error:
                failure[:] = [topics.reason(error)]
                return None
            if found.error is not None:
                failure[:] = [found.error.str()]
                return None
            return found

        found = wait_until(ask, _START_S, f"the position of {group!r}", seen=lambda: failure[-1])
    assert found is not None
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
        self._committing = False
        self._reason = ""
        self._refusal = ""
        config: dict[str, Any] = {
            **_DEFAULTS,
            # A topic's limit is on whole batches.
            "batch.size": min(_BATCH_BYTES, topic.max_message_bytes),
            "message.max.bytes": topic.max_message_bytes + 1_000,
            "socket.timeout.ms": min(_SOCKET_MS, give_up_ms),
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
        try:
            self._producer = Producer(config, logger=topics.log)
        except KafkaException as error:
            raise SurecountError(
                f"kafka.properties don't go with a transactional producer: {topics.reason(error)}"
            ) from error
        with _consumer(kafka, name, "read_committed") as consumer:
            self._group = consumer.consumer_group_metadata()

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
            self._call(self._producer.init_transactions)
        except KafkaException as error:
            raise SurecountError(
                f"no transactions can be had at {self._kafka.bootstrap_servers}: {topics.reason(error)}",
                "a timeout beyond the broker's transaction.max.timeout.ms needs a shorter --give-up-after",
            ) from error
        return committed(self._kafka, self._topic, self._name, settled=True)

    def send(self, chunk: Chunk) -> None:
        """Commit a chunk's records and the position behind it, or raise EndedError."""
        self._deadline = time.monotonic() + self._give_up_s
        self._reason = self._refusal = ""
        while True:
            self._committing = False
            try:
                return self._transaction(chunk)
            except EndedError as ended:
                if not ended.undecided:
                    self._abort_if_possible()
                raise
            except KafkaException as failure:
                error = failure.args[0]
                if not error.txn_requires_abort() and error.code() != KafkaError._STATE:
                    raise self._ended(error) from failure
                self._reason = error.str()
            self._committing = False
            self._abort()
            if self._refusal:
                raise EndedError(f"Kafka refuses a record: {self._refusal}")
            self._check_patience()
            # A pause, so that a cause that stays is not met without end.
            self._producer.poll(_STEP_S)

    def _transaction(self, chunk: Chunk) -> None:
        self._producer.begin_transaction()
        for key, value in chunk.records:
            self._produce(key, value)
        end = chunk.end
        offset = TopicPartition(self._topic, 0, end.byte, end.metadata)
        while True:
            # Once more at each turn: flush does not tell that the transaction must be aborted.
            self._call(lambda timeout_s: self._producer.send_offsets_to_transaction([offset], self._group, timeout_s))
            if not self._producer.flush(_STEP_S):
                break
            self._check_patience()
        # With nothing left to flush, this tells Kafka to commit at once.
        self._committing = True
        self._call(self._producer.commit_transaction)

    def _produce(self, key: bytes | None, value: bytes) -> None:
        while True:
            try:
                return self._producer.produce(self._topic, value, key)
            except BufferError:
                self._producer.poll(_STEP_S)
                self._check_patience()

    def _abort(self) -> None:
        try:
            self._call(self._producer.abort_transaction)
        except KafkaException as failure:
            raise self._ended(failure.args[0]) from failure

    def _abort_if_possible(self) -> None:
        """So that readers need not wait until the broker times the transaction out."""
        self._deadline = time.monotonic() + _GRACE_S
        with suppress(EndedError):
            self._abort()

    def _call(self, step: Callable[[float], object]) -> None:
        """Take a step of a transaction, again and again while it may still succeed."""
        while True:
            try:
                step(_STEP_S)
                return
            except KafkaException as failure:
                if not failure.args[0].retriable():
                    raise
                self._reason = self._reason or topics.reason(failure)
            self._producer.poll(0)
            self._check_patience()

    def _check_patience(self) -> None:
        now = time.monotonic()
        if self._stopped():
            self._deadline = min(self._deadline, now + _GRACE_S)
        if now >= self._deadline:
            raise EndedError(self._reason or "no answer", gave_up=True, undecided=self._committing)

    def _ended(self, error: KafkaError) -> EndedError:
        why = error.str()
        if error.code() in (KafkaError._FENCED, KafkaError._FATAL):
            why = f"another send with this ID has taken over, or this one stood still for too long ({why})"
        return EndedError(why, undecided=self._committing)
