"""From the watermark passing a window's end to its results being written, and to being readable."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import orjson
from confluent_kafka import Consumer, Message, TopicPartition
from rich.table import Table

from benchmarks.stage import PARTITIONS, feeding, stage
from surecount import topics
from surecount.config import Pipeline
from surecount.console import err, out
from surecount.generator.options import Options
from udfs import times

# Seven seconds are out of step with most checkpoint intervals.
_WINDOW_MS = 7_000
_OUT_OF_ORDERNESS_MS = 2_000
_KEYS = 1_000
_DRAIN_S = 30
_WARM_UP = 4

_PIPELINE = """
[source]
topics = ["latency.events"]
event_time = {{ field = "ts", unit = "ms" }}
out_of_orderness = "{out_of_orderness} ms"

[[aggregate]]
name = "totals"
key = ["key"]
sum = ["amount"]
window = "{window} ms"

[checkpoint]
interval = "{checkpoint}"

[performance]
batch_time = "{batch_time}"
"""


def run(rate: int, seconds: int, checkpoint: str, batch_time: str) -> None:
    """Print p50, p99 and the worst over all results, those of the first windows aside, in which the job warms up.

    A result is written when the broker has it, by its timestamp, and readable when a checkpoint has committed it. The
    watermark passes a window's end when the last of the partitions has got a record that is ``out_of_orderness`` after
    it; Kafka's timestamps say when that was.
    """
    toml = _PIPELINE.format(
        out_of_orderness=_OUT_OF_ORDERNESS_MS, window=_WINDOW_MS, checkpoint=checkpoint, batch_time=batch_time
    )
    with stage() as on:
        pipeline, file = on.pipeline("latency", toml)
        on.start(pipeline, file)
        options = Options(events=rate * seconds, keys=_KEYS, rate=rate, partitions=PARTITIONS)
        with feeding(pipeline, options) as feeder, err.status(f"{rate:,} events/s for {seconds} s"):
            results = _results(pipeline, feeder.is_alive)
        with err.status("reading what was sent"):
            passed = _passed(pipeline, sorted(results))
    ends = sorted(passed)[_WARM_UP:]
    table = Table("until", "windows", "results", "p50 s", "p99 s", "worst s", title=f"latency at {rate:,}/s")
    for until, place in (("written", 0), (f"readable, interval {checkpoint}", 1)):
        delays = sorted(moments[place] - passed[end] for end in ends for moments in results[end])
        figures = (median(delays), delays[len(delays) * 99 // 100], delays[-1])
        table.add_row(until, str(len(ends)), f"{len(delays):,}", *(f"{figure:.2f}" for figure in figures))
    out.print(table)


def _results(pipeline: Pipeline, feeding_on: Callable[[], bool]) -> dict[int, list[tuple[float, float]]]:
    """By window end (ms): when each of its results was written, and when it could be read, epoch seconds."""
    found: dict[int, list[tuple[float, float]]] = defaultdict(list)
    with _consumer(pipeline, pipeline.topics.results) as consumer:
        last = time.monotonic()
        while time.monotonic() - last < _DRAIN_S:
            if feeding_on():
                last = time.monotonic()
            for message in consumer.consume(10_000, 0.05):
                end = times.from_rfc3339(_json(message)["end"])
                found[end].append((message.timestamp()[1] / 1000, time.time()))
    return found


def _passed(pipeline: Pipeline, ends: list[int]) -> dict[int, float]:
    """By window end (ms): when a record came that lets the watermark pass it, in every partition; epoch s."""
    topic = pipeline.source.topics[0]
    first: dict[int, dict[int, float]] = {end: {} for end in ends}
    waiting = dict.fromkeys(range(PARTITIONS), 0)
    with _consumer(pipeline, topic) as consumer:
        left = sum(high - low for low, high in topics.offsets(pipeline.kafka, [topic]).values())
        while left:
            for message in consumer.consume(10_000, 1):
                left -= 1
                partition = message.partition()
                assert partition is not None
                moment = _json(message)["ts"] - _OUT_OF_ORDERNESS_MS
                while waiting[partition] < len(ends) and moment >= ends[waiting[partition]]:
                    first[ends[waiting[partition]]][partition] = message.timestamp()[1] / 1000
                    waiting[partition] += 1
    return {end: max(moments.values()) for end, moments in first.items() if len(moments) == PARTITIONS}


@contextmanager
def _consumer(pipeline: Pipeline, topic: str) -> Iterator[Consumer]:
    consumer = Consumer(
        {
            **topics.client_config(pipeline.kafka),
            "group.id": "latency",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 10,
        }
    )
    try:
        consumer.assign(
            [TopicPartition(topic, partition, 0) for _, partition in topics.offsets(pipeline.kafka, [topic])]
        )
        yield consumer
    finally:
        consumer.close()


def _json(message: Message) -> dict[str, Any]:
    if message.error():
        raise RuntimeError(message.error())
    content: dict[str, Any] = orjson.loads(message.value() or b"")
    return content
