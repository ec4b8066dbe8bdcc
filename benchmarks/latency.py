"""From the watermark passing a window's end to its results being readable."""

from __future__ import annotations

import time
from collections import defaultdict
from statistics import median

import orjson
from confluent_kafka import Consumer, TopicPartition
from rich.table import Table

from benchmarks.stage import PARTITIONS, feeding, stage
from surecount import topics
from surecount.cli import out
from surecount.config import Pipeline
from surecount.generator.options import Options
from udfs import times

_WINDOW_S = 10
_OUT_OF_ORDERNESS_S = 2
_KEYS = 1_000
_DRAIN_S = 30

_PIPELINE = """
[source]
topics = ["latency.events"]
event_time = {{ field = "ts", unit = "ms" }}
out_of_orderness = "{out_of_orderness} s"

[[aggregate]]
name = "totals"
key = ["key"]
sum = ["amount"]
window = "{window} s"

[checkpoint]
interval = "{checkpoint}"
"""


def run(rate: int, seconds: int, checkpoint: str) -> None:
    """Print p50, p99 and the worst, in seconds over all results of all windows but the first.

    Events carry the wall clock's time as they are sent, so the watermark passes a window's end
    ``out_of_orderness`` after the clock does, at the earliest.
    """
    toml = _PIPELINE.format(out_of_orderness=_OUT_OF_ORDERNESS_S, window=_WINDOW_S, checkpoint=checkpoint)
    with stage() as on:
        pipeline, file = on.pipeline("latency", toml)
        on.start(pipeline, file)
        options = Options(events=rate * seconds, keys=_KEYS, rate=rate, partitions=PARTITIONS)
        with feeding(pipeline, options) as feeder:
            delays = _delays(pipeline, lambda: feeder.is_alive())
    # While the first window is open, the job warms up.
    ends = sorted(delays)[1:]
    every = sorted(delay for end in ends for delay in delays[end])
    table = Table("windows", "results", "p50 s", "p99 s", "worst s", "interval s", title=f"latency at {rate:,}/s")
    interval = pipeline.checkpoint.interval / 1000
    p99 = every[len(every) * 99 // 100]
    table.add_row(
        str(len(ends)), f"{len(every):,}", f"{median(every):.2f}", f"{p99:.2f}", f"{every[-1]:.2f}", f"{interval:g}"
    )
    out.print(table)


def _delays(pipeline: Pipeline, feeding_on: object) -> dict[int, list[float]]:
    """Seconds of each result by its window's end."""
    assert callable(feeding_on)
    consumer = Consumer(
        {
            **topics.client_config(pipeline.kafka),
            "group.id": "latency",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 10,
        }
    )
    found: dict[int, list[float]] = defaultdict(list)
    try:
        places = topics.offsets(pipeline.kafka, [pipeline.topics.results])
        consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in places])
        last = time.monotonic()
        while feeding_on() or time.monotonic() - last < _DRAIN_S:
            if feeding_on():
                last = time.monotonic()
            for message in consumer.consume(10_000, 0.05):
                if message.error():
                    raise RuntimeError(message.error())
                end = times.from_rfc3339(orjson.loads(message.value() or b"")["end"])
                found[end].append(time.time() - end / 1000 - _OUT_OF_ORDERNESS_S)
    finally:
        consumer.close()
    return found
