"""What the doctor and `status` see of a real pipeline: one that is well, and four ways in which it is not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import requests
from confluent_kafka import Producer

from surecount import topics
from surecount.doctor import health
from surecount.generate import Options, generate
from surecount.local.flink import artifact
from surecount.local.layout import FLINK_JARS
from surecount.ops.life import Life
from surecount.ops.transactions import Transaction, transactions
from surecount.waiting import wait_until
from tests.conftest import PIPELINE, Running, alter


def command(run: Running, *arguments: str, expect: int) -> str:
    directory = ("--dir", str(run.stack.directory))
    done = subprocess.run(
        [sys.executable, "-m", "surecount.cli", *arguments, *directory], capture_output=True, text=True, check=False,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == expect, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def doctor(run: Running, *, expect: int) -> dict[str, Any]:
    """The rows by check."""
    return {row["id"]: row for row in json.loads(command(run, "doctor", str(run.file), "--json", expect=expect))}


def told(row: dict[str, Any]) -> str:
    return "\n".join(finding["seen"] for finding in row["findings"])


def start(run: Running) -> str:
    return Life(run.pipeline, run.file, run.flink, run.stack.flink_env()).start(["aggregate"])["aggregate"]


def completed(run: Running, job: str) -> int:
    return int(run.flink.checkpoints(job)["counts"]["completed"])


def test_a_pipeline_that_is_well_a_foreign_transaction_and_settings_that_are_wrong(
    make: Callable[..., Running],
) -> None:
    run = make(PIPELINE)
    source = f"{run.pipeline.name}.in"
    refused = run.file.with_name("refused.toml")
    refused.write_text(run.file.read_text() + '\n[sink]\ntransaction_timeout = "1 h"\n')
    said = command(run, "submit", str(refused), expect=1)
    assert "transaction_max_timeout: sink.transaction_timeout is 1 h, and broker 1 allows 15 min" in said
    assert "lower sink.transaction_timeout" in said

    job = start(run)
    generate(run.pipeline, Options(events=2_000, keys=10, disorder_ms=500))
    patient = {"transactional.id": "till-1", "transaction.timeout.ms": 600_000}
    foreign = Producer({**topics.client_config(run.pipeline.kafka), **patient})
    foreign.init_transactions(30)
    foreign.begin_transaction()
    for _ in range(3):
        foreign.produce(source, b"{}", partition=1)
    foreign.flush(30)
    wait_until(lambda: completed(run, job) >= 2, 60, "two checkpoints")

    def all_known() -> dict[str, Any] | None:
        # Workers tell their versions after their first records, and Flink that some seconds later.
        rows = doctor(run, expect=0)
        return rows if all(row["state"] != "unknown" for row in rows.values()) else None

    rows = wait_until(all_known, 60, "all that the doctor looks at")
    assert {row["state"] for row in rows.values()} <= {"ok", "warn"}, rows
    assert {id for id, row in rows.items() if row["state"] == "warn"} <= {"last_stable_offset", "open_transactions"}
    held = told(rows["last_stable_offset"])
    assert f"{source}: 3 records in 1 partition(s) wait for till-1 (open for " in held
    assert f"till: 1 open on {source}, the oldest is till-1 (open for " in told(rows["open_transactions"])
    assert " of 10 min, producer " in held
    assert "its workers have python" in told(rows["worker_versions"])
    # Flink's distribution brings an older log4j, and no zstd.
    shipped = {artifact(jar.name): jar.name for jar in FLINK_JARS.glob("*.jar")}
    for server in ("the JobManager", "TaskManager taskmanager-1"):
        assert re.search(rf"{server} has .*{shipped['zstd-jni']}", told(rows["jars"]))
        assert re.search(rf"log4j is {shipped['log4j-core']} here and at .*{server}", told(rows["logging_versions"]))
    assert all(not seen.problems for seen in health.of_jobs(run.flink) if seen.id == job)

    foreign.abort_transaction(30)

    results = run.pipeline.topics.results
    alter(run.pipeline.kafka, results, "message.timestamp.type", "CreateTime")
    rows = doctor(run, expect=1)
    assert rows["outputs"]["state"] == "fail"
    assert f"topic '{results}' has message.timestamp.type=CreateTime" in told(rows["outputs"])
    assert any("--add-config message.timestamp.type=LogAppendTime" in mend for mend in rows["outputs"]["mend"])
    assert rows["last_stable_offset"]["state"] == "ok"


def test_status_fails_on_commits_that_failed_and_on_restarts(make: Callable[..., Running]) -> None:
    # No checkpoint but the one that is asked for below.
    run = make(PIPELINE.replace('interval = "1 s"', 'interval = "1 h"'), partitions=1)
    producer = Producer(topics.client_config(run.pipeline.kafka))
    began = time.time_ns() // 1_000_000 // 5_000 * 5_000

    def send(at_ms: int) -> None:
        producer.produce(f"{run.pipeline.name}.in", b'{"ts":%d,"customer":"c","amount":1}' % at_ms)
        producer.flush(30)

    results = run.pipeline.transactional_id_prefix("aggregate", "results")

    def written() -> list[Transaction]:
        send(began + 8_000)  # closes the window, if it is young when it is read
        found = transactions(run.pipeline.kafka, run.stack.flink_env())
        return [transaction for transaction in found if transaction.id.startswith(results)]

    job = start(run)
    send(began)
    (open_,) = wait_until(written, 60, "a transaction of the sink")
    topic = run.pipeline.topics.results
    assert (open_.state, open_.places, open_.timeout_ms) == ("Ongoing", ((topic, 0),), 900_000)
    assert 0 <= open_.age_ms(time.time_ns() // 1_000_000) < 60_000
    # Another producer of that name: what the sink has written is aborted, and its commit fails.
    Producer({**topics.client_config(run.pipeline.kafka), "transactional.id": open_.id}).init_transactions(30)

    trigger = {"checkpointType": "FULL"}
    requests.post(f"{run.flink.url}/jobs/{job}/checkpoints", json=trigger, timeout=10).raise_for_status()

    def problems() -> tuple[str, ...]:
        return next(seen.problems for seen in health.of_jobs(run.flink) if seen.id == job)

    lost = f"{run.pipeline.name}.aggregate: commits failed: 1 of results in run 1, seen "
    told = wait_until(lambda: [p for p in problems() if p.startswith(lost)], 60, "the failed commit", seen=problems)
    assert run.flink.state(job) == "RUNNING"  # Flink itself sees nothing wrong
    assert f"problem: {told[0]}" in command(run, "status", expect=1)

    os.kill(run.stack.taskmanagers()["taskmanager-1"], signal.SIGKILL)
    # Once, or again until the TaskManager is back.
    restarted = re.compile(rf"{run.pipeline.name}\.aggregate restarted [1-9]\d* time\(s\), the last ")
    wait_until(lambda: restarted.search("\n".join(problems())), 60, "the restart", seen=problems)
    wait_until(lambda: run.stack.status().ok, 60, "the stack to be whole again", seen=run.stack.status)
    said = json.loads(command(run, "status", "--json", expect=1))
    (shown,) = [problem for problem in said["problems"] if restarted.match(problem)]
    assert "ago: " in shown  # the JVM's own cause
    # Flink counts anew, what it tries to commit again among them, and the ledger remembers until that is accepted.
    assert any(problem.startswith(told[0]) for problem in said["problems"])
    assert told[0] in command(run, "doctor", str(run.file), expect=1)
    command(run, "doctor", str(run.file), "--accept", "lost_commits", expect=1)
    assert "commits failed" not in command(run, "status", expect=1)


def test_a_compacted_source_is_read_where_that_is_accepted_once(make: Callable[..., Running]) -> None:
    run = make(PIPELINE)
    alter(run.pipeline.kafka, f"{run.pipeline.name}.in", "cleanup.policy", "compact,delete")
    said = command(run, "submit", str(run.file), expect=1)
    assert f"raw_topics: {run.pipeline.name}.in has cleanup.policy=compact,delete" in said
    assert "--accept compacted_source" in said
    assert not run.flink.running(f"{run.pipeline.name}.aggregate")

    command(run, "submit", str(run.file), "--accept", "compacted_source", expect=0)
    life = Life(run.pipeline, run.file, run.flink, run.stack.flink_env())
    assert [known.accepted for known in life.ledger("aggregate").runs()] == [("compacted_source",)]
    life.stop(["aggregate"])
    said = command(run, "start", str(run.file), expect=0)
    assert "which was accepted" in said


REJECTING = """
[source]
topics = ["NAME.in"]
event_id = "id"
event_time = { field = "ts", unit = "ms" }
idle_after = "2 s"

[[aggregate]]
name = "a"
key = ["customer"]
window = "5 s"

[checkpoint]
interval = "1 s"
"""
YEAR_2099_MS = 4_070_908_800_000


def produce(run: Running, number: int, at_ms: int, *, partition: int = 0, sent_ms: int = 0, value: bytes = b"") -> None:
    """Records of a time, which were ``sent_ms``, or the same ``value``, to a partition of the source topic."""
    producer = Producer(topics.client_config(run.pipeline.kafka))
    for _ in range(number):
        record = value or json.dumps({"id": uuid4().hex, "customer": "c", "amount": 1, "ts": at_ms}).encode()
        producer.produce(f"{run.pipeline.name}.in", record, partition=partition, timestamp=sent_ms)
    assert producer.flush(30) == 0


@contextmanager
def again_and_again(send: Callable[[], None]) -> Iterator[None]:
    """Send twice a second, until the block ends."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.5):
            send()

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(work)
        try:
            yield
        finally:
            ended.set()
        sending.result()


def test_jobs_that_run_and_are_of_no_use(make: Callable[..., Running]) -> None:
    """One whose records are mostly rejected, and one whose windows wait for a partition of an old clock."""
    rejecting = make(REJECTING, partitions=1)
    waiting = make(PIPELINE.replace('idle_after = "5 s"', 'idle_after = "10 s"'))
    alter(
        rejecting.pipeline.kafka, f"{rejecting.pipeline.name}.in", "message.timestamp.after.max.ms", str((1 << 63) - 1)
    )
    life = Life(rejecting.pipeline, rejecting.file, rejecting.flink, rejecting.stack.flink_env())
    ingest, aggregate = life.start(["ingest"])["ingest"], start(waiting)
    now = time.time_ns() // 1_000_000

    def useless() -> None:
        produce(waiting, 1, now - 3_600_000, partition=1)
        produce(waiting, 5, now - 600_000)

    def problems(job: str) -> list[str]:
        return next([*seen.problems, *seen.notes] for seen in health.of_jobs(waiting.flink) if seen.id == job)

    with again_and_again(useless):
        produce(rejecting, 100, now)
        # They count, and nothing is wrong with the limit but that there is none. A record of the year 2099 moves no
        # watermark, so those behind it count, too.
        wait_until(lambda: not problems(ingest), 60, "a job that is well", seen=lambda: problems(ingest))
        produce(rejecting, 1, YEAR_2099_MS, sent_ms=YEAR_2099_MS)
        produce(rejecting, 100, now)

        def told() -> bool:
            produce(rejecting, 20, 0, value=b"no record")
            found = "\n".join(problems(ingest))
            assert "beyond_horizon" not in found
            return (
                re.search(r"ingest: \d+ of the last \d+ records were rejected, most of them as not_json", found)
                is not None
            )

        wait_until(told, 60, "rejects", poll_s=1, seen=lambda: problems(ingest))
        rows = doctor(rejecting, expect=1)
        assert rows["timestamp_limit"]["state"] == "warn", rows["timestamp_limit"]
        assert rows["shares"]["state"] == "fail", rows["shares"]
        assert rows["watermarks"]["state"] == "ok", rows["watermarks"]

        wait_until(lambda: problems(aggregate), 90, "windows that wait", poll_s=1)
        (waits,) = problems(aggregate)
        assert (
            f"none of them closes before it comes there; it waits for {waiting.pipeline.name}.in partition 1" in waits
        )
        said = command(waiting, "status", expect=1)
        assert f"problem: {waiting.pipeline.name}.aggregate: its watermark is " in said
        assert f"problem: {rejecting.pipeline.name}.ingest: " in said
        assert doctor(waiting, expect=1)["watermarks"]["state"] == "fail"
        assert waiting.read(waiting.pipeline.topics.results) == []

    produce(waiting, 1, now - 600_000, partition=1)
    wait_until(lambda: not problems(aggregate), 60, "windows that wait no more", seen=lambda: problems(aggregate))
