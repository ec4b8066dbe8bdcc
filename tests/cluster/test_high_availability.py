"""A JobManager and ZooKeeper, killed with -9 one after the other: a job goes on by itself, and is exact."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from surecount.audit import audit
from surecount.errors import SurecountError
from surecount.local import processes, zookeeper
from surecount.local.layout import Layout
from surecount.local.spec import load_stack
from surecount.local.stack import Stack
from surecount.waiting import wait_until
from tests.conftest import Load, Running, started

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

[checkpoint]
interval = "2 s"
"""
GIVEN_UP = re.compile(r"State change: LOST|[Hh]eartbeat of .* timed out")
# Until ZooKeeper ends the session of a JobManager that was killed, 10 s, the other one has taken over, and the job
# is restored: three times that on a busy machine.
TAKEN_OVER_S = 90.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A stack of this file's own, with --ha."""
    stack = Stack(tmp_path_factory.mktemp("ha"), is_owned=True)
    with started(stack, request, ha=True):
        yield stack
    assert processes.find(stack.directory) == []
    assert not stack.directory.exists()


def kill(stack: Stack, name: str) -> float:
    pid = stack.processes()[name]
    print(f"kill -9 {pid} ({name})")
    os.kill(pid, signal.SIGKILL)
    return time.monotonic()


def port_of_zookeeper(stack: Stack) -> int:
    spec = load_stack(Layout(stack.directory).stack_file)
    assert spec is not None
    assert spec.zookeeper_port is not None
    return spec.zookeeper_port


def leader(stack: Stack) -> str:
    found = wait_until(lambda: stack.status().leader, TAKEN_OVER_S, "a JobManager that leads", seen=stack.status)
    assert found is not None
    return found


def log_sizes(stack: Stack) -> dict[Path, int]:
    return {log: log.stat().st_size for log in stack.logs_dir.glob("*manager-*.log")}


def gave_up(stack: Stack, since: dict[Path, int]) -> list[str]:
    """What JobManagers and TaskManagers say of sessions with ZooKeeper, or of one another, that they gave up.

    ZooKeeper or they may be starved for as long as that, on a busy machine.
    """
    found = []
    for log in log_sizes(stack):
        with log.open(encoding="utf-8", errors="replace") as lines:
            lines.seek(since.get(log, 0))
            found += [line for line in lines if GIVEN_UP.search(line)]
    return found


def test_a_job_goes_on_when_a_jobmanager_and_zookeeper_are_killed(
    make: Callable[..., Running], load: Callable[..., Load], stack: Stack
) -> None:
    run = make(PIPELINE)
    job = run.submit()
    feeding = load(run.pipeline, rate=1_000, keys=50, late=0.01, bad=0.005, disorder_ms=1000, seed=11)

    def last_checkpoint() -> int:
        """Its number, which goes on from one JobManager to the next; 0 while none is known."""
        try:
            found = run.flink.checkpoints(job)["latest"]["completed"]
        except SurecountError:  # while the next one takes over
            return 0
        return int(found["id"]) if found else 0

    def goes_on(since: float, before: int, what: str) -> None:
        # The first one may have been under way at the kill.
        wait_until(lambda: last_checkpoint() > before + 1, TAKEN_OVER_S, f"a checkpoint after {what}")
        print(f"checkpoint {last_checkpoint()} after {before} at the kill of {what}: {time.monotonic() - since:.1f} s")

    wait_until(lambda: last_checkpoint() >= 2, 60, "two checkpoints", seen=last_checkpoint)
    first = leader(stack)
    before = last_checkpoint()
    goes_on(kill(stack, first), before, "the JobManager that leads")
    second = leader(stack)
    assert second != first

    def since_restart() -> int:
        return int(run.flink.vertices(job)[0]["duration"])  # in ms

    before, running_ms, logged = last_checkpoint(), since_restart(), log_sizes(stack)
    killed = kill(stack, "zookeeper")
    wait_until(lambda: zookeeper.in_service(port_of_zookeeper(stack)), 60, "ZooKeeper to be back", poll_s=0.05)
    away_s = time.monotonic() - killed
    goes_on(killed, before, f"ZooKeeper, which was away for {away_s:.1f} s")
    if not (given_up := gave_up(stack, logged)):
        assert since_restart() > running_ms  # nothing was restarted
        assert leader(stack) == second
    print("".join(given_up))

    sent = feeding.end()
    report = audit(run.pipeline)
    print(report.summary())
    assert report.balanced, report.summary()
    assert report.books[0].records_in == sent.records
    assert report.books[0].results > sent.events / 2
