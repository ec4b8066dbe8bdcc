"""What tests of a job's life do with a pipeline: its life, records of one partition, a drain, results."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import requests
from confluent_kafka import Producer

from surecount import config, topics
from surecount.config import Kafka
from surecount.ops.life import Life
from surecount.ops.restore import LATEST
from surecount.ops.submit import submit
from surecount.waiting import wait_until
from tests.conftest import Running

JOBS = ("aggregate",)


def life_of(run: Running) -> Life:
    return Life(run.pipeline, run.file, run.flink, run.stack.flink_env())


def changed(run: Running, text: str) -> Running:
    """The pipeline with another text in its file."""
    run.file.write_text(text)
    return replace(run, pipeline=config.load(run.file))


def start_bounded(run: Running, job: str) -> str:
    """Start a job from its newest snapshot as if its input had an end."""
    return submit(run.pipeline, run.file, run.flink, run.stack.flink_env(), job=job, bounded=True, snapshot=LATEST)


def send(
    run: Running, number: int, at_ms: int, *, keys: int = 1, topic: str = "in", kafka: Kafka | None = None
) -> None:
    """Records to partition 0 of a source topic, all of one window, to each key in turn."""
    producer = Producer(topics.client_config(kafka or run.pipeline.kafka))
    for i in range(number):
        value = b'{"ts":%d,"customer":"c%d","country":"x","amount":1}' % (at_ms, i % keys)
        producer.produce(f"{run.pipeline.name}.{topic}", value, partition=0)
    producer.flush()


def read_up_to(
    run: Running, offset: int, *, job: str = "aggregate", topic: str = "in", kafka: Kafka | None = None
) -> None:
    """Wait until a checkpoint has taken what is before ``offset`` in partition 0 of a source topic; the source commits
    that."""
    group, place = run.pipeline.group_id(job), (f"{run.pipeline.name}.{topic}", 0)

    def taken() -> int:
        return topics.committed(kafka or run.pipeline.kafka, group, [place]).get(place, 0)

    wait_until(lambda: taken() >= offset, 60, f"a checkpoint at offset {offset}", seen=taken)


def drain(run: Running, job_id: str) -> None:
    """Stop a job as no one should: every window is closed."""
    body = {"drain": True, "formatType": "CANONICAL"}
    requests.post(f"{run.flink.url}/jobs/{job_id}/stop", json=body, timeout=10).raise_for_status()
    wait_until(lambda: run.flink.state(job_id) == "FINISHED", 60, "the drained job to end")


def results(run: Running) -> list[dict[str, Any]]:
    """The values of all results, in order."""
    return [json.loads(message.value()) for message in run.read(run.pipeline.topics.results)]
