"""Reading topics: committed records between given offsets, all partitions at about the same event time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import groupby, repeat
from types import TracebackType
from typing import TYPE_CHECKING, Self

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from surecount.audit.pacing import Pacer, Place, Run
from surecount.audit.times import FOREVER
from surecount.errors import SurecountError
from surecount.kafka.refusals import check_allowed
from surecount.kafka.rights import AUDIT_GROUP, Right
from surecount.kafka.security import for_librdkafka

if TYPE_CHECKING:
    from surecount.config import Kafka

Ranges = Mapping[Place, tuple[int, int]]
"""The offsets to read of each partition: the first, and the one after the last."""

_QUEUE_KIB = 64 * 1024
_BATCH_BYTES = 8 << 20
_MAX_BATCH = 10_000
_MAX_HELD_BYTES = 64 << 20
# The second one is the client's own, where it is told not to go on elsewhere.
_OUT_OF_RANGE = (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET)

# The client's types let these be None, which they are before a message is sent and never after.
_TOPIC: Callable[[Message], str] = Message.topic  # type: ignore[assignment]
_PARTITION: Callable[[Message], int] = Message.partition  # type: ignore[assignment]


class NoAnswerError(SurecountError):
    """A cluster does not answer."""


class DeletedError(SurecountError):
    """What is to be read has been deleted meanwhile."""


def _place(message: Message) -> Place:
    return _TOPIC(message), _PARTITION(message)


def partition_of(message: Message) -> int:
    """The partition of a record that was read."""
    return message.partition()  # type: ignore[return-value]


def offset_of(message: Message) -> int:
    """The offset of a record that was read."""
    return message.offset()  # type: ignore[return-value]


def where(message: Message) -> str:
    """``topic-partition@offset`` of a record that was read."""
    return f"{message.topic()}-{message.partition()}@{message.offset()}"


def appended_at(message: Message) -> int:
    """When a broker appended a record that was read, ms since 1970; ``FOREVER`` where its topic does not say."""
    kind, at_ms = message.timestamp()
    return at_ms if kind == TIMESTAMP_LOG_APPEND_TIME else FOREVER


def client_config(kafka: Kafka) -> dict[str, str | int | float | bool]:
    """What every client of the audit shares. Clients report errors to their callers, so none prints."""
    return {"log_level": 2, **for_librdkafka(kafka)}


def open_consumer(kafka: Kafka, **settings: object) -> Consumer:
    """A consumer of committed records that belongs to no group and ends each partition with an event."""
    config = {
        **client_config(kafka),
        # Required, though nothing is committed and no group joined.
        "group.id": AUDIT_GROUP,
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        # By default the fetcher rests for a second whenever its queue is full.
        "fetch.queue.backoff.ms": 2,
        # A partition that is resumed waits for the broker's answer about those that are at their end.
        "fetch.wait.max.ms": 10,
        "queued.max.messages.kbytes": _QUEUE_KIB,
        **settings,
    }
    try:
        return Consumer(config)
    except KafkaException as error:
        raise SurecountError(
            f"kafka.properties: {error.args[0].str()}", "they have to be properties of librdkafka"
        ) from error


class TopicReader:
    """Reads ``ranges`` once. What comes of a partition whose clock is more than ``spread_ms`` ahead of the
    slowest one is held back; clocks are told by ``advance``. It is a context manager."""

    def __init__(self, kafka: Kafka, ranges: Ranges, *, spread_ms: int, timeout_s: float) -> None:
        self._kafka, self._ranges = kafka, ranges
        topics = {topic for topic, _ in ranges}
        self._only_topic = topics.pop() if len(topics) == 1 else None
        self._positions = {place: start for place, (start, _) in ranges.items()}
        self._unfinished = {place for place, (start, end) in ranges.items() if start < end}
        self._pacer = Pacer(self._unfinished, spread_ms)
        self._paused: frozenset[Place] = frozenset()
        self._timeout_s = timeout_s
        self._idle_s = 0.0
        self._want = 500
        self._last_error = ""
        self._consumer = open_consumer(kafka, error_cb=self._note)
        self._consumer.assign([TopicPartition(*place, self._positions[place]) for place in self._unfinished])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def _note(self, error: KafkaError) -> None:
        self._last_error = error.str()

    @property
    def done(self) -> bool:
        """True when every range is read and given out."""
        return not self._unfinished and not self._pacer.held

    @property
    def offsets_read(self) -> int:
        """How many offsets are behind."""
        return sum(min(at, self._ranges[p][1]) - self._ranges[p][0] for p, at in self._positions.items())

    @property
    def clock(self) -> int | None:
        """The clock of the slowest partition that is not done; None where none has told one."""
        return self._pacer.clock

    def advance(self, place: Place, clock_ms: int) -> None:
        """Set a partition's clock; it may go back."""
        self._pacer.advance(place, clock_ms)

    def poll(self, wait_s: float = 0.1) -> list[Run]:
        """The next records, or none: after ``wait_s`` seconds, or where others have to come first.

        SurecountError where the broker refuses, or nothing came for ``timeout_s`` seconds of waiting.
        """
        if (run := self._pacer.release()) is not None:
            return [run]
        began, before = time.monotonic(), len(self._unfinished)
        runs = self._runs(self._consumer.consume(self._want, wait_s))
        if runs or len(self._unfinished) < before:
            self._idle_s = 0.0
        else:
            self._idle_s += time.monotonic() - began
            if self._idle_s > self._timeout_s and self._unfinished:
                raise self._stalled()
        admitted = self._pacer.admit(runs)
        self._limit_held()
        return admitted

    def _limit_held(self) -> None:
        """Stop fetching what would have to be held, when much is.

        A pause throws away what the client has fetched, and it takes up to a second to resume.
        """
        held = self._pacer.held
        if back := self._paused - held:
            self._consumer.resume([TopicPartition(*place) for place in back & self._unfinished])
        more = held & self._unfinished if self._pacer.held_bytes > _MAX_HELD_BYTES else frozenset[Place]()
        if ahead := more - self._paused:
            self._consumer.pause([TopicPartition(*place) for place in ahead])
        self._paused = (self._paused & held) | ahead

    def _runs(self, messages: list[Message]) -> list[Run]:
        runs: list[Run] = []
        size = count = first = 0
        # A name that all messages share need not be asked of each.
        topics = repeat(self._only_topic) if self._only_topic else map(_TOPIC, messages)
        for place, group in groupby(zip(topics, map(_PARTITION, messages), strict=False)):
            length = len(list(group))
            run = messages[first : first + length]
            first += length
            if any(map(Message.error, run)):
                run = [message for message in run if not self._is_event(message)]
            if not run:
                continue
            end = self._ranges[place][1]
            last = offset_of(run[-1])
            if last >= end:
                run = [message for message in run if offset_of(message) < end]
            self._reach(place, last + 1)
            if run:
                runs.append(Run(place, run))
                size += len(run[0]) * len(run)
                count += len(run)
        if count:
            self._want = max(1, min(_MAX_BATCH, _BATCH_BYTES * count // (size + 1)))
        return runs

    def _is_event(self, message: Message) -> bool:
        """False for a record; handles the end of a partition, and raises for an error."""
        error = message.error()
        if error is None:
            return False
        if error.code() == KafkaError._PARTITION_EOF:
            # What is left up to the end may be transaction markers and aborted records.
            self._reach(_place(message), offset_of(message))
        elif error.retriable():
            self._note(error)
        else:
            topic, partition = _place(message)
            rights = (Right("topic", topic, ("Read",)), Right("group", AUDIT_GROUP, ("Describe",)))
            check_allowed(self._kafka, error, f"{topic}-{partition} cannot be read", rights)
            kind = DeletedError if error.code() in _OUT_OF_RANGE else SurecountError
            raise kind(f"{topic}-{partition} cannot be read: {error.str()}")
        return True

    def _reach(self, place: Place, position: int) -> None:
        self._positions[place] = max(position, self._positions[place])
        if position >= self._ranges[place][1] and place in self._unfinished:
            self._unfinished.discard(place)
            self._consumer.pause([TopicPartition(*place)])

    def _stalled(self) -> NoAnswerError:
        pending = ", ".join(
            f"{place[0]}-{place[1]} at {self._positions[place]} of {self._ranges[place][1]}"
            for place in sorted(self._unfinished)
        )
        seen = f"; the client's last error: {self._last_error}" if self._last_error else ""
        return NoAnswerError(f"no records came for {self._timeout_s:g} s, and these are pending: {pending}{seen}")
