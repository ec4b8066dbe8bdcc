"""Looks on while things break: every committed record as a reader gets it, checkpoints, restarts, what is sent."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Self

import orjson
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from surecount import topics
from surecount.audit.reader import TopicReader
from surecount.chaos.seen import Happened, HappenedKind, Output, Place, Record
from surecount.config import Kafka, Pipeline
from surecount.errors import SurecountError
from surecount.ops.flink import Flink
from surecount.waiting import wait_until
from udfs import times

# Of all that comes while brokers do, what the client does not mend by itself.
_MISSED = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)
_POLL_S = 1.0
_REASON = "surecount.reason"
_STALLED_S = 60.0
_SEEN_S = 60.0


class Watcher:
    """Reads the outputs and asks Flink, in threads of its own. It is a context manager.

    ``live`` are the records in the order in which they came, and ``newest_end_ms`` is the end of the newest window that
    has a result, in ms since 1970, or 0; the rest is for the report. ``on_happened`` hears what happens, in any of
    these threads.
    """

    def __init__(self, pipeline: Pipeline, flink: Flink, on_happened: Callable[[Happened], None]) -> None:
        self.live: list[Record] = []
        self.newest_end_ms = 0
        self.happened: list[Happened] = []
        self.results: Counter[int] = Counter()
        self.sent: Counter[int] = Counter()
        self.began = time.monotonic()
        self._pipeline = pipeline
        self._flink = flink
        self._on_happened = on_happened
        self._outputs = _outputs(pipeline)
        self._failures: list[Exception] = []
        self._last: dict[Place, int] = {}
        self._ended = threading.Event()
        config = {
            **topics.client_config(pipeline.kafka),
            "group.id": f"{pipeline.name}.chaos",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            # What the reader has not seen must not be passed over.
            "auto.offset.reset": "error",
            "error_cb": lambda _: None,  # brokers come and go; what is fatal comes with a message
        }
        self._consumer = Consumer(config, logger=topics.log)
        places = topics.offsets(pipeline.kafka, self._outputs)
        self._consumer.assign([TopicPartition(*place, low) for place, (low, _) in places.items()])
        self._threads = [threading.Thread(target=self._guarded, args=(work,)) for work in (self._read, self._ask)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._consumer.close()

    def check(self) -> None:
        """Raise what went wrong in a thread."""
        if self._failures:
            raise self._failures[0]

    def tell(self, kind: HappenedKind, what: str) -> None:
        """Something happened now."""
        self.happened.append(happened := Happened(round(self._now(), 1), kind, what))
        self._on_happened(happened)

    def wait_until_seen(self, records: Sequence[Record]) -> None:
        """Wait until the reader has come as far as ``records``, all that there are."""
        last = {record.place: record.offset for record in records}

        def left() -> set[Place]:
            return {place for place, offset in last.items() if self._last.get(place, -1) < offset}

        wait_until(lambda: self._failures or not left(), _SEEN_S, "the reader to see all that is committed", seen=left)

    def _now(self) -> float:
        return time.monotonic() - self.began

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  # a thread's error is the caller's to raise
            self._failures.append(error)

    def _read(self) -> None:
        while not self._ended.is_set():
            for message in self._consumer.consume(10_000, 0.1):
                if (error := message.error()) is None:
                    record = _record(self._outputs, message, time.time_ns() // 1_000_000)
                    self.live.append(record)
                    self._last[record.place] = record.offset
                    if record.output == "results":
                        self.results[int(self._now())] += 1
                        with suppress(ValueError, KeyError, TypeError):  # the judge says what is wrong with it
                            end_ms = times.from_rfc3339(orjson.loads(record.value)["end"])
                            self.newest_end_ms = max(self.newest_end_ms, end_ms)
                elif error.fatal() or error.code() in _MISSED:
                    raise SurecountError(f"the reader of {message.topic()} can't go on: {error.str()}")

    def _ask(self) -> None:
        ends: dict[tuple[str, Place], int] = {}
        told: dict[str, tuple[int, int, int]] = {}
        while not self._ended.wait(_POLL_S):
            with suppress(SurecountError):  # away, because of a fault
                for job in self._flink.jobs():
                    if job.name.startswith(f"{self._pipeline.name}.") and job.state == "RUNNING":
                        told[job.id] = self._told(job.name, job.id, told.get(job.id))
            with suppress(SurecountError):
                for kafka, names in _sources(self._pipeline):
                    for place, (_, end) in topics.offsets(kafka, names).items():
                        before = ends.get((kafka.bootstrap_servers, place), end)
                        # A new leader may not know yet how far its partition is stable.
                        ends[kafka.bootstrap_servers, place] = max(end, before)
                        self.sent[int(self._now())] += max(end, before) - before

    def _told(self, name: str, job_id: str, before: tuple[int, int, int] | None) -> tuple[int, int, int]:
        counts = self._flink.checkpoints(job_id)["counts"]
        now = (int(counts["completed"]), int(counts["failed"]), int(counts["restored"]))
        completed, failed, restored = (a - b for a, b in zip(now, before or now, strict=True))
        if completed > 0:
            self.tell("checkpoint", name)
        if failed > 0:
            self.tell("checkpoint failed", name)
        if restored > 0:
            self.tell("restart", name)
        return now


def committed(pipeline: Pipeline) -> list[Record]:
    """All records of the outputs, once every transaction is decided. Raises SurecountError."""
    outputs = _outputs(pipeline)
    ends = topics.offsets(pipeline.kafka, outputs)
    found = []
    with TopicReader(pipeline.kafka, ends, spread_ms=0, timeout_s=_STALLED_S) as reader:
        while not reader.done:
            found += [_record(outputs, message, 0) for run in reader.poll() for message in run.messages]
    return found


def _outputs(pipeline: Pipeline) -> dict[str, Output]:
    names = pipeline.topics
    return {names.results: "results", names.corrections: "corrections", names.rejects: "rejects"}


def _sources(pipeline: Pipeline) -> Iterable[tuple[Kafka, list[str]]]:
    return [(pipeline.kafka_of(pathway), list(pathway.topics)) for pathway in pipeline.pathways]


def _record(outputs: dict[str, Output], message: Message, at_ms: int) -> Record:
    topic = str(message.topic())
    headers: Any = message.headers() or ()
    reasons = [value for name, value in headers if name == _REASON and isinstance(value, bytes)]
    return Record(
        outputs[topic],
        (topic, int(message.partition() or 0)),
        int(message.offset() or 0),
        at_ms,
        message.value() or b"",
        # The last one is ours: a record may have come with such a header.
        reasons[-1].decode("utf-8", "replace") if reasons else "",
    )
