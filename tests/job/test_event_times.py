"""Where event times may stand: windows close by them while the job runs, not only at its end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from itertools import count, cycle

import pytest
from confluent_kafka import Producer

from surecount import topics
from surecount.audit import audit
from surecount.waiting import wait_until
from tests.conftest import Running

PIPELINE = """
[source]
topics = ["NAME.in"]
event_time = EVENT_TIME
out_of_orderness = "1 s"

[[aggregate]]
name = "a"
key = ["k"]
window = "1 s"

[checkpoint]
interval = "1 s"
"""


ZONES = cycle([timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=3))])


def in_turns_east_and_west(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).astimezone(next(ZONES)).isoformat(timespec="milliseconds")


@pytest.mark.parametrize(
    ("event_time", "stated"),
    [
        ('"kafka"', lambda _now: None),
        ('{ field = "ts", unit = "rfc3339" }', in_turns_east_and_west),
    ],
    ids=["kafka", "zones"],
)
def test_windows_close_by_it(
    make: Callable[..., Running], event_time: str, stated: Callable[[float], str | None]
) -> None:
    run = make(PIPELINE.replace("EVENT_TIME", event_time), partitions=1)
    producer = Producer(topics.client_config(run.pipeline.kafka))
    run.submit()
    began = time.time()
    producer.produce(f"{run.pipeline.name}.in", json.dumps({"ts": stated(began), "k": "first"}).encode())

    def closed() -> list[int]:
        # A beat: the watermark needs newer records to move on.
        producer.produce(f"{run.pipeline.name}.in", json.dumps({"ts": stated(time.time()), "k": "beat"}).encode())
        producer.flush()
        values = [json.loads(message.value()) for message in run.read(run.pipeline.topics.results)]
        return [value["count"] for value in values if value["key"]["k"] == "first"]

    assert wait_until(closed, 60, "the first window's result", poll_s=0.5) == [1]
    assert not run.read(run.pipeline.topics.corrections)
    assert not run.read(run.pipeline.topics.rejects)


BY_ID = PIPELINE.replace("EVENT_TIME", '{ field = "ts", unit = "ms" }\nevent_id = "id"')


def test_a_topic_all_of_whose_kafka_timestamps_are_wrong_counts_and_its_windows_close(
    make: Callable[..., Running],
) -> None:
    # None of them is a time; through ingest, which writes them to the clean topic.
    run = make(BY_ID, partitions=1)
    producer = Producer(topics.client_config(run.pipeline.kafka))
    jobs = run.submit_all()
    ids = count()

    def send(key: str) -> None:
        now = time.time()
        for stamp in (-1, 1, int(now)):
            value = json.dumps({"ts": int(now * 1000), "k": key, "id": str(next(ids))})
            producer.produce(f"{run.pipeline.name}.in", value.encode(), timestamp=stamp)
        producer.flush()

    def closed() -> list[int]:
        send("beat")
        values = [json.loads(message.value()) for message in run.read(run.pipeline.topics.results)]
        return [value["count"] for value in values if value["key"]["k"] == "first"]

    send("first")
    assert wait_until(closed, 60, "the first window's result", poll_s=0.5) == [3]
    assert [run.flink.checkpoints(job)["counts"]["restored"] for job in jobs.values()] == [0, 0]
    assert {message.timestamp()[1] for message in run.read(run.pipeline.topics.clean)} == {0}
    assert not run.read(run.pipeline.topics.rejects)
    report = audit(run.pipeline)
    assert report.balanced, report.summary()
