"""Topics that are deleted and made anew under a running job: `status`, `doctor` and `audit` say so."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient

from surecount import topics
from surecount.audit import audit
from surecount.doctor import health, topic_ids
from surecount.ops.history import history
from surecount.waiting import wait_until
from tests.conftest import PIPELINE, Running
from tests.lives import JOBS, life_of, read_up_to, send


def make_anew(run: Running, topic: str) -> None:
    kafka = run.pipeline.kafka
    before = topics.ids_of(kafka, [topic])
    admin = AdminClient(topics.client_config(kafka))
    for deleted in admin.delete_topics([topic]).values():
        deleted.result(timeout=10)

    def is_another() -> bool:
        topics.ensure_source(run.pipeline, 1)
        topics.ensure_outputs(run.pipeline)
        return topics.ids_of(kafka, [topic]) not in ({}, before)

    wait_until(is_another, 30, f"{topic} to be there again")


@pytest.mark.parametrize("of_output", [True, False])
def test_a_topic_that_was_made_anew(make: Callable[..., Running], of_output: bool) -> None:
    run = make(PIPELINE, partitions=1)
    at_ms = time.time_ns() // 1_000_000 // 5_000 * 5_000
    send(run, 100, at_ms)
    job = life_of(run).start(JOBS)["aggregate"]
    read_up_to(run, 100)

    def problems() -> list[str]:
        seen = next(seen for seen in health.of_jobs(run.flink) if seen.id == job)
        return [problem for problem in seen.problems if "made anew" in problem]

    def differences() -> list[tuple[str, str]]:
        report = audit(run.pipeline, history=history(run.pipeline, run.flink), timeout_s=60)
        return [(difference.kind, difference.where) for difference in report.differences[:1]]

    assert problems() == [] and differences() == []
    changed = run.pipeline.topics.corrections if of_output else run.pipeline.source.topics[0]
    make_anew(run, changed)
    if not of_output:
        send(run, 300, at_ms)
        read_up_to(run, 300)

    (problem,) = problems()
    assert f"{changed} was deleted and made anew under the job" in problem
    (run_,) = life_of(run).ledger("aggregate").runs()
    (finding,) = topic_ids.of_job("aggregate", run_, topic_ids.now(run.pipeline, "aggregate"))
    assert finding.state == "fail"
    assert differences() == [("topic_made_anew", changed)]
