"""Kill -9 under load: TaskManager, Python worker, broker; the audit is exact after all of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from surecount.audit import audit
from surecount.waiting import wait_until
from tests.conftest import Load, Running

PIPELINE = """
[source]
topics = ["NAME.in"]
event_time = { field = "ts", unit = "ms" }
out_of_orderness = "2 s"
idle_after = "5 s"

[[aggregate]]
name = "per_customer"
key = ["customer"]
sum = ["amount"]
window = "5 s"

[[aggregate]]
name = "per_country"
key = ["country"]
sum = ["amount", { field = "tax", type = "decimal", scale = 2 }, { field = "weight", type = "float" }]
window = "10 s"

[checkpoint]
interval = "2 s"
"""


def test_books_balance_after_kills_of_every_kind(make: Callable[..., Running], load: Callable[..., Load]) -> None:
    run = make(PIPELINE)
    job = run.submit(parallelism=2)
    feeding = load(run.pipeline, rate=5_000, keys=100, late=0.01, bad=0.005, duplicates=0.005, disorder_ms=1000, seed=7)

    def checkpoints() -> int:
        return int(run.flink.checkpoints(job)["counts"]["completed"])

    def restarts() -> int:
        return int(run.flink.checkpoints(job)["counts"]["restored"])

    def settled(restarts_before: int) -> None:
        wait_until(lambda: restarts() > restarts_before, 60, "the job to be restored", seen=restarts)
        before = checkpoints()  # only now: one that was under way at the kill may still be completed
        wait_until(lambda: checkpoints() > before, 60, "a checkpoint after the kill", seen=checkpoints)

    def kill(pid: int, what: str) -> None:
        print(f"kill -9 {pid} ({what})")
        os.kill(pid, signal.SIGKILL)

    wait_until(lambda: checkpoints() >= 3, 60, "three checkpoints", seen=checkpoints)
    kill(run.stack.taskmanagers()["taskmanager-1"], "TaskManager")
    settled(0)
    worker = next(p for p in run.stack.children("taskmanager-1") if "beam_boot" in " ".join(p.process.cmdline()))
    kill(worker.pid, "Python worker")
    settled(1)
    before = checkpoints()
    kill(run.stack.processes()["kafka-1"], "the only broker")
    wait_until(lambda: checkpoints() > before + 1, 120, "checkpoints after the broker's kill", seen=checkpoints)
    sent = feeding.end()

    report = audit(run.pipeline)
    print(report.summary())
    assert report.balanced, report.summary()
    books = report.books[0]
    assert books.records_in == sent.records
    assert books.rejected == sum(sent.bad.values())
    assert books.results > sent.events / 2
