"""The image's entrypoint with a real TaskManager that joins the stack's cluster, and dies."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from surecount.container import health
from surecount.local.flink import conf_value
from surecount.local.layout import PROJECT
from surecount.local.processes import is_alive
from surecount.local.stack import Stack
from surecount.waiting import wait_until
from tests.conftest import Running

NAME = "127.0.0.1"
PIPELINE = """
[source]
topics = ["NAME.in"]
event_time = { field = "ts", unit = "ms" }
idle_after = "1 s"

[[aggregate]]
name = "per_k"
key = ["k"]
window = "1 s"
"""


@pytest.fixture
def entrypoint(stack: Stack, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``entrypoint.sh taskmanager`` with one slot, registered with the stack's JobManager."""
    conf = (stack.directory / "conf" / "config.yaml").read_text(encoding="utf-8")
    settings = {
        "jobmanager.rpc.address": NAME,
        "jobmanager.rpc.port": conf_value(conf, "jobmanager.rpc.port"),
        "taskmanager.numberOfTaskSlots": "1",
        "taskmanager.memory.process.size": "1500 mb",
    }
    properties = "\n".join(f"{key}: {value}" for key, value in settings.items())
    environ = {**os.environ, "SURECOUNT_ROLE_DIR": str(tmp_path / "role"), "FLINK_PROPERTIES": properties}
    with (tmp_path / "out").open("wb") as output:
        process = subprocess.Popen(
            [PROJECT / "deploy" / "entrypoint.sh", "taskmanager", NAME],
            env=environ,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(
                lambda: process.poll() is not None or health.taskmanager(NAME, [stack.flink_url]),
                60,
                "the TaskManager to be registered",
                seen=lambda: (tmp_path / "out").read_text(encoding="utf-8", errors="replace")[-2000:],
            )
            yield process
        finally:
            process.terminate()
            process.wait(timeout=60)


def test_nothing_is_left_when_a_taskmanager_with_workers_is_killed(
    entrypoint: subprocess.Popen[bytes], make: Callable[..., Running]
) -> None:
    assert entrypoint.poll() is None
    # One slot more than the stack's own TaskManager has.
    make(PIPELINE, partitions=5).submit(parallelism=5)
    (server,) = psutil.Process(entrypoint.pid).children()
    assert "TaskManagerRunner" in " ".join(server.cmdline())

    def workers() -> list[psutil.Process]:
        return [child for child in server.children(recursive=True) if "beam_boot" in " ".join(child.cmdline())]

    wait_until(workers, 60, "a Python worker of the TaskManager")
    below = server.children(recursive=True)
    server.kill()
    assert entrypoint.wait(timeout=30) == 128 + signal.SIGKILL

    def left() -> list[psutil.Process]:
        return [process for process in below if is_alive(process)]

    wait_until(lambda: not left(), 10, "the workers to be killed", seen=left)
