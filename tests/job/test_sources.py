"""Topics in every shape: several, missing, empty, idle, fewer partitions than subtasks, more while running."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from surecount import topics
from surecount.errors import SurecountError
from surecount.ops.submit import check_outputs_empty
from surecount.waiting import wait_until
from tests.conftest import Running

PIPELINE = """
[source]
topics = ["NAME.one", "NAME.empty", "NAME.two"]
event_time = { field = "at.ts", unit = "s" }
out_of_orderness = "1 s"
idle_after = "2 s"
discover_partitions_every = "2 s"

[[aggregate]]
name = "a"
key = ["k"]
window = "1 s"

[checkpoint]
interval = "1 s"
"""


def counts(run: Running) -> dict[str, int]:
    found: dict[str, int] = {}
    for message in run.read(run.pipeline.topics.results) + run.read(run.pipeline.topics.corrections):
        value = json.loads(message.value())
        found[value["key"]["k"]] = found.get(value["key"]["k"], 0) + value["count"]
    return found


def test_windows_close_whatever_the_topics_look_like(make: Callable[..., Running]) -> None:
    run = make(PIPELINE, partitions=1)
    name = run.pipeline.name
    producer = Producer(topics.client_config(run.pipeline.kafka))

    def send(topic: str, key: str, partition: int = 0) -> None:
        now = int(time.time())
        producer.produce(f"{name}.{topic}", json.dumps({"at": {"ts": now}, "k": key}).encode(), partition=partition)
        producer.flush()

    job = run.submit(parallelism=4)  # three partitions, one of them empty
    send("one", "first")
    send("two", "once")  # and then never again: an idle partition

    def closes(key: str, number: int) -> Callable[[], bool]:
        # A beat: the watermark needs newer records to move on.
        def look() -> bool:
            send("one", "beat")
            return counts(run).get(key, 0) >= number

        return look

    wait_until(closes("first", 1), 60, "the first window to close", poll_s=0.5, seen=lambda: counts(run))
    wait_until(closes("once", 1), 60, "the idle partition's window to close", poll_s=0.5, seen=lambda: counts(run))

    admin = AdminClient(topics.client_config(run.pipeline.kafka))
    admin.create_partitions([NewPartitions(f"{name}.one", 2)])[f"{name}.one"].result(timeout=10)

    def sent_to_new_partition() -> bool:
        return (f"{name}.one", 1) in topics.offsets(run.pipeline.kafka, [f"{name}.one"])

    wait_until(sent_to_new_partition, 30, "the new partition")
    producer = Producer(topics.client_config(run.pipeline.kafka))
    send("one", "new partition", partition=1)
    wait_until(closes("new partition", 1), 60, "the new partition's window", poll_s=0.5, seen=lambda: counts(run))
    assert run.flink.checkpoints(job)["counts"]["restored"] == 0


def test_a_missing_topic_is_named_before_anything_is_submitted(make: Callable[..., Running]) -> None:
    run = make(PIPELINE, sources=[])
    with pytest.raises(SurecountError, match=rf"{run.pipeline.name}\.one"):
        topics.check_sources(run.pipeline)


def test_a_second_start_from_nothing_is_refused(make: Callable[..., Running]) -> None:
    run = make(PIPELINE)
    check_outputs_empty(run.pipeline, run.pipeline.jobs)
    producer = Producer(topics.client_config(run.pipeline.kafka))
    producer.produce(run.pipeline.topics.results, b"an earlier run's")
    producer.flush()
    with pytest.raises(SurecountError, match="earlier run"):
        check_outputs_empty(run.pipeline, run.pipeline.jobs)
