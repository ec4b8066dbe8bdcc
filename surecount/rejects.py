"""The rejects of a pipeline: reading them, and sending them again to where they came from.

How far each reason is replayed are offsets in the rejects topic that a consumer group of its own has
committed, in the transactions that send the records. So a replay that was interrupted goes on, and reasons
that were not chosen can be replayed later.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from surecount import topics
from surecount.audit.pacing import Place
from surecount.audit.reader import TopicReader, offset_of, open_consumer, partition_of
from surecount.config import Kafka, Pipeline
from surecount.errors import SurecountError
from udfs import reasons, times
from udfs.records import ORIGIN_HEADERS, REPLAYED_HEADER

PREFIX = "surecount."
REASONS = frozenset(value for name, value in vars(reasons).items() if name.isupper())
ONLY_WHEN_NAMED = {
    reasons.BEYOND_HORIZON: "only when named: it may be a copy of an event that counts already",
    reasons.TOMBSTONE: "only when named: there is nothing to mend in it",
}

_CLEAN_HEADERS = (f"{PREFIX}version", f"{PREFIX}watermark")
_NO_OFFSET = -1
_ANY_PARTITION = -1

# A chunk is one transaction.
_CHUNK_RECORDS = 2_000
_CHUNK_BYTES = 8 << 20
_STEP_S = 0.5
# Below transaction.timeout.ms, so that the client knows before the broker that a transaction has failed.
_PATIENCE_S = 30.0
_GRACE_S = 5.0

_DEFAULTS = {
    "compression.type": "lz4",
    "linger.ms": 20,
    # A topic's limit is on whole batches; what is larger than this goes alone.
    "batch.size": 16 << 10,
    # A key goes to the partition to which Java's producers send it.
    "partitioner": "murmur2_random",
}

Headers = tuple[tuple[str, bytes | None], ...]
OnProgress = Callable[[int, int], None]
"""Gets the offsets that are read, and how many there are to read."""


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
        key, value = message.key(), message.value()
        assert not isinstance(key, str) and not isinstance(value, str)
        return cls(partition_of(message), offset_of(message), message.timestamp()[1], key, value, tuple(headers))

    def said(self, name: str) -> str:
        """The text of the header ``surecount.NAME``; empty where there is none."""
        value = next((value for header, value in self.headers if header == PREFIX + name), None)
        return (value or b"").decode("utf-8", "backslashreplace")

    def number(self, name: str) -> int | None:
        """The same as a number of 0 or more; None where it is no such number."""
        text = self.said(name)
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def reason(self) -> str:
        """Why it was rejected."""
        return self.said("reason")

    @property
    def when(self) -> str:
        """The record's own Kafka timestamp."""
        ms = self.number("timestamp")
        return self.said("timestamp") if ms is None else times.to_rfc3339(ms)

    @property
    def origin(self) -> str:
        """``pathway/topic-partition@offset``; without the pathway where there is none."""
        place = f"{self.said('topic')}-{self.said('partition')}@{self.said('offset')}"
        return f"{pathway}/{place}" if (pathway := self.said("pathway")) else place

    @property
    def own_headers(self) -> Headers:
        """The headers that the record came with."""
        return tuple(header for header in self.headers if not header[0].startswith(PREFIX))

    def to_dict(self) -> dict[str, Any]:
        """As JSON; ``reject`` is where it stands in the rejects topic."""
        places = {name: self.number(name) for name in ("partition", "offset")}
        return {
            "reject": f"{self.partition}@{self.offset}",
            "when": self.when,
            "job": self.said("job"),
            "version": self.said("version"),
            "pathway": self.said("pathway") or None,
            "topic": self.said("topic"),
            **places,
            "reason": self.reason,
            "detail": self.said("detail"),
            "key": as_json(self.key),
            "value": as_json(self.value),
            "headers": {name: as_json(value) for name, value in self.own_headers},
        }


def as_json(data: bytes | None) -> str | dict[str, str] | None:
    """The text of UTF-8, and ``{"base64": …}`` of other bytes."""
    if data is None:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}
