"""Windows close after a restore, also those whose timers were set too late for the snapshot."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka import Producer

from surecount import config, topics
from surecount.ops.life import Life
from surecount.waiting import wait_until
from tests.conftest import Running

# A bundle lasts until a checkpoint ends it, so the windows that it opens have no timers in that checkpoint.
PIPELINE = """
[source]
topics = ["NAME.in"]
event_time = { field = "ts", unit = "ms" }
out_of_orderness = "0 s"

[[aggregate]]
name = "a"
key = ["who"]
window = "1 min"

[checkpoint]
interval = "1 h"

[performance]
batch_time = "10 s"
"""
T0 = 1_790_000_100_000
KEYS = 50


def send(run: Running, *events: tuple[int, str]) -> None:
    producer = Producer(topics.client_config(run.pipeline.kafka))
    for ts, who in events:
        producer.produce(f"{run.pipeline.name}.in", b'{"ts":%d,"who":"%s"}' % (ts, who.encode()), partition=0)
    producer.flush()


def test_every_window_of_a_snapshot_closes_after_it(make: Callable[..., Running]) -> None:
    run = make(PIPELINE, partitions=1)
    life = Life(run.pipeline, run.file, run.flink, run.stack.flink_env())
    job = life.start(["aggregate"])["aggregate"]
    send(run, *((T0, f"key {number}") for number in range(KEYS)))
    source = run.flink.vertices(job)[0]["id"]

    def read() -> float:
        found = run.flink.metric(job, source, "KafkaSourceReader.KafkaConsumer.records-consumed-total")
        return sum(value for _, value in found)

    wait_until(lambda: read() >= KEYS, 60, "the source to read all", seen=read)
    life.stop(["aggregate"])
    run.file.write_text(run.file.read_text().replace('interval = "1 h"', 'interval = "1 s"').replace("10 s", "250 ms"))
    life = Life(config.load(run.file), run.file, run.flink, run.stack.flink_env())
    life.start(["aggregate"])
    # One key of an hour later: the others' buckets hear nothing more.
    send(run, (T0 + 3_600_000, "later"), (T0 + 3_600_000, "later"))
    wait_until(lambda: len(run.read(run.pipeline.topics.results)) == KEYS, 60, "all results", poll_s=1)
