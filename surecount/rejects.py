"""The rejects of a pipeline: what stands in its rejects topic."""

from __future__ import annotations

import base64
import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException, Message, TopicPartition

from surecount import topics
from surecount.audit.reader import Ranges, TopicReader, offset_of, open_consumer, partition_of
from surecount.config import Kafka, Pipeline
from surecount.errors import SurecountError
from udfs import reasons, times
from udfs.headers import PREFIX, as_sent
from udfs.spec import MAX_EVENT_TIME_MS

REASONS = frozenset(value for name, value in vars(reasons).items() if name.isupper())

_STALLED_S = 30.0

Headers = tuple[tuple[str, bytes | None], ...]
OnProgress = Callable[[int, int], None]
"""Gets the offsets that are read, and how many there are to read."""


def unheard(_done: int, _total: int) -> None:
    """Progress that no one looks at."""


@dataclass(frozen=True)
class Reject:
    """A record of the rejects topic, at ``partition`` and ``offset`` there, written at ``written_ms``."""

    partition: int
    offset: int
    written_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @classmethod
    def of(cls, message: Message) -> Reject:
        """The reject that a record is."""
        headers: Any = message.headers() or ()
        _, written_ms = message.timestamp()
        place = partition_of(message), offset_of(message)
        return cls(*place, written_ms, message.key(), message.value(), tuple(headers))

    def said(self, name: str) -> str:
        """The text of the header ``surecount.NAME``; empty where there is none."""
        value = next((value for header, value in self.headers if header == PREFIX + name), None)
        return (value or b"").decode("utf-8", "backslashreplace")

    def number(self, name: str) -> int | None:
        """The same as a number of 0 or more; None where it is no such number."""
        text = self.said(name)
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def place(self) -> str:
        """``PARTITION@OFFSET`` in the rejects topic."""
        return f"{self.partition}@{self.offset}"

    @property
    def reason(self) -> str:
        """Why it was rejected."""
        return self.said("reason")

    @property
    def when(self) -> str:
        """The record's own Kafka timestamp, as RFC 3339 where it is before the year 10000."""
        ms = self.number("timestamp")
        return self.said("timestamp") if ms is None or ms > MAX_EVENT_TIME_MS else times.to_rfc3339(ms)

    @property
    def origin(self) -> str:
        """``pathway/topic-partition@offset``; only ingest tells the pathway."""
        pathway = self.said("pathway")
        place = f"{self.said('topic')}-{self.said('partition')}@{self.said('offset')}"
        return f"{pathway}/{place}" if pathway else place

    @property
    def own_headers(self) -> list[tuple[str, bytes | None]]:
        """The headers that the record had when it was sent."""
        return [(as_sent(name), value) for name, value in self.headers if not name.startswith(PREFIX)]

    def to_dict(self) -> dict[str, Any]:
        """As JSON; ``reject`` is where it stands in the rejects topic."""
        return {
            "reject": self.place,
            "when": self.when,
            "job": self.said("job"),
            "version": self.said("version"),
            "pathway": self.said("pathway") or None,
            "topic": self.said("topic"),
            "partition": self.number("partition"),
            "offset": self.number("offset"),
            "reason": self.reason,
            "detail": self.said("detail"),
            "key": as_json(self.key),
            "value": as_json(self.value),
            "headers": {name: as_json(value) for name, value in self.own_headers},
        }


def as_json(data: bytes | None) -> str | dict[str, str] | None:
    """UTF-8 as its text, other bytes as ``{"base64": …}``."""
    if data is None:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def newest(
    pipeline: Pipeline, limit: int, only: Collection[str] = (), on_progress: OnProgress = unheard
) -> list[Reject]:
    """The rejects that were written last, the newest last; ``only`` those of some reasons, if any is named."""
    check_reasons(only)
    found = (reject for reject in _all(pipeline, on_progress) if not only or reject.reason in only)
    return heapq.nlargest(limit, found, key=lambda r: (r.written_ms, r.partition, r.offset))[::-1]


def count(pipeline: Pipeline, on_progress: OnProgress = unheard) -> Counter[tuple[str, str, str]]:
    """How many rejects there are by reason, job and pathway."""
    return Counter((r.reason, r.said("job"), r.said("pathway")) for r in _all(pipeline, on_progress))


def check_reasons(named: Iterable[str]) -> None:
    """Raise SurecountError where one is no reason."""
    if unknown := [reason for reason in named if reason not in REASONS]:
        known = ", ".join(sorted(REASONS))
        raise SurecountError(f"--reason {unknown[0]}: there is no such reason", f"there are: {known}")


def _all(pipeline: Pipeline, on_progress: OnProgress) -> Iterator[Reject]:
    return read(pipeline.kafka, committed_ranges(pipeline), on_progress)


def committed_ranges(pipeline: Pipeline, topic: str | None = None) -> Ranges:
    """Of each partition of the rejects topic, or another ``topic``, the first offset, and the last stable one, behind
    which transactions are not decided.
    """
    topic = topic or pipeline.topics.rejects
    places = topics.offsets(pipeline.kafka, [topic])
    consumer = open_consumer(pipeline.kafka)
    try:
        return {
            place: consumer.get_watermark_offsets(TopicPartition(*place), timeout=topics.TIMEOUT_S) for place in places
        }
    except KafkaException as error:
        raise SurecountError(f"offsets of {topic} can't be read: {topics.reason(error)}") from error
    finally:
        consumer.close()


def read(kafka: Kafka, ranges: Ranges, on_progress: OnProgress) -> Iterator[Reject]:
    """The rejects in some ranges, those of each partition in order."""
    total = sum(end - begin for begin, end in ranges.values())
    # Without clocks no partition waits for another.
    with TopicReader(kafka, ranges, spread_ms=0, timeout_s=_STALLED_S) as reader:
        while not reader.done:
            for run in reader.poll():
                yield from map(Reject.of, run.messages)
            on_progress(reader.offsets_read, total)
