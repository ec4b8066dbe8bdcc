"""``surecount generate``: sends events whose counts and sums are known, quickly or at a steady rate."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from surecount import topics
from surecount.config import Kafka, Pathway, Pipeline, format_duration
from surecount.errors import SurecountError
from surecount.generator import bad
from surecount.generator.answers import Expected, expected
from surecount.generator.layout import Layout
from surecount.generator.options import Options, parse_start
from surecount.generator.plan import Plan, plan
from surecount.generator.rows import Batch, Batches, Places, Row
from surecount.generator.stream import COPY, LATE, ON_TIME, Chances, Records, stream
from surecount.kafka.refusals import lacks_right, unauthorized
from surecount.kafka.rights import Right
from surecount.topic_rules import SOURCE_MAX_MESSAGE_BYTES, Topic

__all__ = ["Expected", "Options", "Summary", "generate", "parse_start"]

_SLICE = 4_096
_POLL_S = 0.1
_CALLBACKS_S = 10.0
# In rate mode records go out in groups, so that pacing doesn't cost a system call each.
_PACE_S = 0.01

_SPEED = {
    "compression.type": "lz4",
    "linger.ms": 20,
    "batch.num.messages": 100_000,
    "queue.buffering.max.messages": 300_000,
    "queue.buffering.max.kbytes": 256 * 1024,
    "message.max.bytes": SOURCE_MAX_MESSAGE_BYTES,
    "delivery.timeout.ms": 120_000,
}
_EXACT = {
    "enable.idempotence": True,
    "acks": "all",
    # No news is good news: a callback for each record would halve the speed.
    "delivery.report.only.error": True,
}


@dataclass(frozen=True)
class Summary:
    """What was sent on each pathway: ``events`` once each, of them ``late`` behind their window's end.

    ``late_at_end`` of the late ones came when no events were left to hold them back for, so their window
    may have been open. ``duplicates`` and ``bad`` (by kind) are extra records. ``sent`` counts the records
    of each pathway; ``rejected`` counts the bad ones of all pathways by the reason they should be given.
    ``expected`` is None where the run was interrupted.
    """

    events: int
    late: int
    late_at_end: int
    duplicates: int
    bad: Mapping[str, int]
    sent: Mapping[str, int]
    rejected: Mapping[str, int]
    elapsed_s: float
    expected: Expected | None
    notes: tuple[str, ...] = ()

    @property
    def records(self) -> int:
        """All that was written to Kafka, over all pathways."""
        return sum(self.sent.values())

    def __str__(self) -> str:
        rate = self.records / self.elapsed_s if self.elapsed_s else 0
        head = f"{self.records:,} records in {self.elapsed_s:.1f} s ({rate:,.0f}/s): "
        head += f"on each of {len(self.sent)} pathways " if len(self.sent) > 1 else ""
        head += f"{self.events:,} events"
        if self.late:
            head += f", {self.late:,} of them late"
            head += f" ({self.late_at_end:,} only at the end)" if self.late_at_end else ""
        head += f"; {self.duplicates:,} duplicates" if self.duplicates else ""
        head += f"; {sum(self.bad.values()):,} bad" if self.bad else ""
        lines = [head]
        if [*self.sent] != ["main"]:
            lines.append("  sent: " + ", ".join(f"{count:,} on {pathway}" for pathway, count in self.sent.items()))
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  to be rejected: {count:,} {reason}" for reason, count in sorted(self.rejected.items())]
        lines.append("interrupted" if self.expected is None else str(self.expected))
        return "\n".join(lines)


def generate(
    pipeline: Pipeline,
    options: Options,
    on_progress: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Create missing raw topics and send the events of ``options`` to them, the same on every pathway.

    ``on_progress`` gets the number of records of a pathway handed over so far, some dozens of times a second.
    Ctrl-C, or ``stop`` once it is set, ends the run early, with what was sent delivered. Raises SurecountError where
    the pipeline or the options allow no answers, or a record was not delivered.
    """
    stop = stop or threading.Event()
    now_ms = time.time_ns() // 1_000_000
    pathways = _chosen(pipeline, options.pathway)
    run = plan(pipeline, options, now_ms)
    layout = Layout(run, options.seed)
    kinds = bad.kinds(layout, huge=options.huge)
    raw = [(pathway, _raw_topics(pipeline, pathway, options.partitions)) for pathway in pathways]
    for topic in (topic for _, found in raw for topic in found):
        _check_times(pipeline, topic, run.start_ms, now_ms)
    counts: Counter[int] = Counter()
    late_at_end = 0
    ways = _Pathways(pipeline, raw)
    batches = Batches(pipeline, layout, kinds, options)
    began = time.monotonic()
    with _interrupts_set(stop):
        for records in _paced(run, options, ways.poll):
            if stop.is_set():
                break
            ways.send(batches.of(records))
            # Bad ones count by their kind's place in the table.
            kind = np.where(records.kind < 0, records.kind, batches.kind_of(records.kind))
            counts.update(dict(zip(*(c.tolist() for c in np.unique(kind, return_counts=True)), strict=True)))
            late_at_end += int(np.count_nonzero((records.kind == LATE) & (records.send_ms >= run.end_ms)))
            if on_progress is not None:
                on_progress(counts.total())
        ways.flush()
    reasons: Counter[str] = Counter()
    for place, kind_ in enumerate(kinds):
        reasons[kind_.reason] += counts[place] * len(pathways)
    return Summary(
        events=counts[ON_TIME] + counts[LATE],
        late=counts[LATE],
        late_at_end=late_at_end,
        duplicates=counts[COPY],
        bad={kind_.name: counts[place] for place, kind_ in enumerate(kinds) if counts[place]},
        sent={pathway.name: counts.total() for pathway in pathways},
        rejected={reason: count for reason, count in reasons.items() if count},
        elapsed_s=time.monotonic() - began,
        expected=None if counts[ON_TIME] + counts[LATE] < run.events else expected(run),
        notes=run.notes,
    )


def _check_times(pipeline: Pipeline, topic: Topic, start_ms: int, now_ms: int) -> None:
    """Where Kafka's timestamps are the event times, the topic must leave and keep them."""
    if pipeline.source.event_time != "kafka":
        return
    if topic.timestamp_type != "CreateTime":
        raise SurecountError(
            f"topic {topic.name!r} has message.timestamp.type={topic.timestamp_type}, so the broker would "
            "replace the event times",
            "set message.timestamp.type=CreateTime, or name a field as source.event_time",
        )
    if 0 <= topic.retention_ms < now_ms - start_ms:
        raise SurecountError(
            f"topic {topic.name!r} keeps records for {format_duration(topic.retention_ms)} (retention.ms), and the "
            f"first event time is {format_duration(now_ms - start_ms)} ago: the broker would delete it",
            "set retention.ms=-1, give a later --start, more --keys or fewer --events",
        )


def _chosen(pipeline: Pipeline, name: str | None) -> list[Pathway]:
    """The pathways to send on: the named one, or all."""
    chosen = [pathway for pathway in pipeline.pathways if name in (None, pathway.name)]
    if not chosen:
        there = ", ".join(pathway.name for pathway in pipeline.pathways)
        raise SurecountError(f"--pathway {name}: {pipeline.name} has no such pathway", f"there are: {there}")
    return chosen


def _raw_topics(pipeline: Pipeline, pathway: Pathway, partitions: int) -> list[Topic]:
    """A pathway's topics in the order of the pipeline file, created where they are missing."""
    topics.ensure_raw(pipeline, pathway, partitions)
    found = topics.describe_raw(pipeline, pathway)
    return [found[name] for name in pathway.topics]


class _Pathways:
    """The pathways that a run sends on; those on the same cluster share a producer."""

    def __init__(self, pipeline: Pipeline, raw: Sequence[tuple[Pathway, list[Topic]]]) -> None:
        smallest = min(topic.max_message_bytes for _, found in raw for topic in found)
        self._senders: list[_Sender] = []
        self._targets: list[tuple[Places, _Sender]] = []
        for pathway, found in raw:
            kafka = pipeline.kafka_of(pathway)
            sender = next((sender for sender in self._senders if sender.kafka == kafka), None)
            if sender is None:
                sender = _Sender(kafka, smallest)
                self._senders.append(sender)
            places = Places({topic.name: topic.partitions for topic in found})
            self._targets.append((places, sender))

    def send(self, batch: Batch) -> None:
        """Hand records over for every pathway."""
        for places, sender in self._targets:
            sender.send(places.rows(batch))

    def poll(self, timeout_s: float) -> None:
        """Serve callbacks, for so long at most."""
        for sender in self._senders:
            sender.poll(timeout_s / len(self._senders))

    def flush(self) -> None:
        """Wait until all is delivered."""
        for sender in self._senders:
            sender.flush()


def _paced(run: Plan, options: Options, poll: Callable[[float], None]) -> Iterator[Records]:
    """The records in slices: at once, or with a rate each when the clock has reached its send time."""
    chances = Chances.of(options)
    began = time.monotonic()
    for records in stream(run, chances):
        if options.rate is None:
            yield from (records.cut(slice(i, i + _SLICE)) for i in range(0, len(records), _SLICE))
            continue
        # What is still held at the end need not wait any longer.
        due = (np.minimum(records.send_ms, run.end_ms) - run.start_ms) / 1_000
        first = 0
        while first < len(records):
            elapsed = time.monotonic() - began
            last = min(first + _SLICE, int(np.searchsorted(due, elapsed, side="right")))
            if last > first:
                yield records.cut(slice(first, last))
                first = last
            else:
                poll(min(_POLL_S, max(_PACE_S, due[first] - elapsed)))
                # Empty, so that an interrupt is seen while there is nothing to send.
                yield records.cut(slice(0, 0))


class _Sender:
    """A producer that loses nothing silently: a record that is not delivered is a SurecountError."""

    def __init__(self, kafka: Kafka, max_message_bytes: int) -> None:
        self.kafka = kafka
        self._sent = 0
        self._failed = 0
        self._reason = ""
        self._lacking: Right | None = None
        config: dict[str, Any] = {
            **_SPEED,
            # A topic's limit is on whole batches.
            "batch.size": min(512 * 1024, max_message_bytes),
            **topics.client_config(kafka),
            **_EXACT,
            "on_delivery": self._on_failure,
            "error_cb": self._on_error,
        }
        try:
            self._producer = Producer(config, logger=topics.log)
        except KafkaException as error:
            raise SurecountError(
                f"kafka.properties don't go with an idempotent producer: {topics.reason(error)}"
            ) from error

    def _on_failure(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed += 1
            if lacks_right(error):
                self._lacking = Right("topic", str(message.topic()), ("Write",))
            self._reason = self._reason or f"{error.str()} (topic {message.topic()})"

    def _on_error(self, error: KafkaError) -> None:
        # Other errors are retried, and end as failed deliveries if that is no use.
        if error.fatal():
            self._reason = self._reason or error.str()

    def send(self, rows: Iterator[Row]) -> None:
        """Hand rows over, waiting while the producer's memory is full."""
        produce = self._producer.produce
        for topic, value, key, partition, timestamp in rows:
            while True:
                try:
                    produce(topic, value, key, partition, None, None, timestamp)
                except BufferError:
                    self.poll(_POLL_S)
                except KafkaException as error:
                    self._reason = self._reason or topics.reason(error)
                    self._give_up()
                else:
                    break
            self._sent += 1
        self.poll(0)

    def poll(self, timeout_s: float) -> None:
        """Serve callbacks, for so long at most."""
        self._producer.poll(timeout_s)
        if self._reason:
            self._give_up()

    def flush(self) -> None:
        """Wait until all is delivered; the producer's own time limit ends it."""
        while self._producer.flush(_POLL_S):
            self.poll(0)
        self.poll(0)

    def _give_up(self) -> None:
        self._producer.purge()
        # Nothing is left to send; this serves the callbacks, so that the number below is right.
        self._producer.flush(_CALLBACKS_S)
        if self._lacking is not None:
            failure = f"{self._failed:,} of {self._sent:,} records were not taken"
            raise unauthorized(self.kafka, self._lacking, failure)
        raise SurecountError(
            f"{self._failed:,} of {self._sent:,} records were not acknowledged by Kafka at "
            f"{self.kafka.bootstrap_servers}: {self._reason}",
            "mend the cause, and start again with fresh topics: the answers hold for whole runs",
        )


@contextmanager
def _interrupts_set(stop: threading.Event) -> Iterator[None]:
    """Turns the first Ctrl-C into an event, so that counts stay right; the second one interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
