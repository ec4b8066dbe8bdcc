"""Watermarks follow the event times that decoding finds, per partition, and the clock where nothing comes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from surecount import topics
from surecount.audit import audit
from surecount.waiting import wait_until
from tests.conftest import PIPELINE, Running, alter
from tests.lives import read_up_to

YEAR_MS = 365 * 86_400_000
INGESTED = PIPELINE.replace('idle_after = "5 s"', 'idle_after = "5 s"\nevent_id = "id"')


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def counted(run: Running) -> int:
    """How many records are in results."""
    return sum(json.loads(message.value())["count"] for message in run.read(run.pipeline.topics.results))


def producer_of(run: Running) -> Producer:
    return Producer(topics.client_config(run.pipeline.kafka) | {"queue.buffering.max.messages": 1_000_000})


DECODE = """
def decode(value):
    moment, customer = value.decode().split(";")
    return {"ts": int(moment), "customer": customer, "amount": 1}
"""


@pytest.mark.parametrize("bounded", [True, False])
def test_history_through_a_decode_function_makes_no_correction(
    make: Callable[..., Running], tmp_path: Path, *, bounded: bool
) -> None:
    """300,000 rows that are a year old, in order in each partition, whose Kafka timestamps are of today."""
    module = f"history_{bounded}"
    run = make(PIPELINE.replace('topics = ["NAME.in"]', f'topics = ["NAME.in"]\ndecode = "{module}:decode"'))
    (tmp_path / f"{module}.py").write_text(DECODE)
    producer, first = producer_of(run), now_ms() - YEAR_MS
    for number in range(300_000):
        # Partition 1 is a minute behind, and read at another pace.
        at_ms = first + number - 60_000 * (number % 2)
        producer.produce(f"{run.pipeline.name}.in", b"%d;c%d" % (at_ms, number % 5), partition=number % 2)
        producer.poll(0)
    producer.flush()
    run.submit(bounded=bounded)
    wait_until(lambda: counted(run) == 300_000, 90, "all in results", poll_s=1, seen=lambda: counted(run))
    assert run.read(run.pipeline.topics.corrections) == []
    report = audit(run.pipeline, bounded=bounded)
    assert report.balanced, report.summary()


@pytest.mark.parametrize("ahead_ms", [73 * YEAR_MS, 55 * 60_000], ids=["2099", "55 min"])
@pytest.mark.parametrize("event_time", ['"kafka"', '{ field = "ts", unit = "ms" }'], ids=["kafka", "field"])
def test_a_record_from_the_future_makes_no_other_one_late(
    make: Callable[..., Running], event_time: str, ahead_ms: int
) -> None:
    run = make(PIPELINE.replace('{ field = "ts", unit = "ms" }', event_time).replace("5 s", "2 s"), partitions=1)
    alter(run.pipeline.kafka, f"{run.pipeline.name}.in", "message.timestamp.after.max.ms", str((1 << 63) - 1))
    producer = producer_of(run)
    run.submit()

    def send(at_ms: int) -> None:
        value = json.dumps({"ts": at_ms, "customer": "c", "amount": 1})
        producer.produce(f"{run.pipeline.name}.in", value.encode(), timestamp=at_ms)
        producer.flush()

    send(now_ms())
    wait_until(lambda: counted(run) == 1, 60, "the first result", poll_s=0.5)
    send(now_ms() + ahead_ms)
    read_up_to(run, 2)
    for _ in range(10):
        send(now_ms())
    wait_until(lambda: counted(run) == 11, 60, "honest records in results", poll_s=0.5, seen=lambda: counted(run))
    assert run.read(run.pipeline.topics.corrections) == []
    assert run.read(run.pipeline.topics.rejects) == []


@pytest.mark.parametrize("toml", [PIPELINE, INGESTED], ids=["aggregate", "ingest and aggregate"])
def test_the_last_windows_close_while_nothing_comes(make: Callable[..., Running], toml: str) -> None:
    run = make(toml)
    producer = producer_of(run)
    jobs = run.submit_all()
    for number in range(20):
        value = json.dumps({"ts": now_ms(), "customer": "c", "amount": 1, "id": str(number)})
        producer.produce(f"{run.pipeline.name}.in", value.encode(), partition=number % 2)
    producer.flush()
    wait_until(lambda: counted(run) == 20, 60, "the last window's result", poll_s=0.2, seen=lambda: counted(run))
    assert run.read(run.pipeline.topics.corrections) == []
    assert all(run.flink.checkpoints(job)["counts"]["restored"] == 0 for job in jobs.values())


def test_a_partition_of_rejects_holds_nothing_back(make: Callable[..., Running]) -> None:
    run = make(PIPELINE)
    producer = producer_of(run)
    run.submit()

    def sent() -> bool:
        value = json.dumps({"ts": now_ms(), "customer": "c", "amount": 1})
        producer.produce(f"{run.pipeline.name}.in", value.encode(), partition=0)
        producer.produce(f"{run.pipeline.name}.in", b"no record", partition=1)
        producer.flush()
        return counted(run) > 0

    wait_until(sent, 60, "results", poll_s=0.5)
