"""A local stack of real processes: start, failures, stop. On free ports, in temporary folders."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from surecount.errors import SurecountError
from surecount.local import kafka, processes
from surecount.local.spec import ProcessSpec
from surecount.local.stack import Stack, StackRunsError
from surecount.waiting import wait_until

NAMES = {"supervisor", "kafka-1", "jobmanager", "taskmanager-1"}
# A TaskManager is back in some 5 s, Python workers not counted; twice that on a busy machine, and
# a margin.
RECOVERY_S = 60.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One running stack for the tests that leave it running."""
    stack = Stack(tmp_path_factory.mktemp("shared"), is_owned=True)
    ready: dict[str, float] = {}
    stack.up(kafka_port=0, flink_port=0, on_ready=ready.__setitem__)
    print("seconds to ready:", ready)
    assert set(ready) == NAMES - {"supervisor"}
    yield stack
    stack.down(purge=True)
    assert processes.find(stack.directory) == []
    assert not stack.directory.exists()


def _topics(stack: Stack) -> set[str]:
    return set(AdminClient({"bootstrap.servers": stack.bootstrap_servers}).list_topics(timeout=10).topics)


def _create_topic(stack: Stack, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
    for created in admin.create_topics([NewTopic(name, num_partitions=1)]).values():
        created.result(timeout=10)


def test_up_brings_every_process_into_service(stack: Stack) -> None:
    status = stack.status()
    assert status.ok, status.problems
    assert {p.name: p.state for p in status.processes} == dict.fromkeys(NAMES, "running")
    assert all(p.rss_bytes > 0 and p.restarts == 0 for p in status.processes)
    assert json.loads(json.dumps(asdict(status)))["bootstrap_servers"] == stack.bootstrap_servers
    assert set(stack.taskmanagers()) == {"taskmanager-1"}


def test_every_server_is_on_the_loopback_interface(stack: Stack) -> None:
    listening = [
        connection.laddr.ip
        for pid in stack.processes().values()
        for connection in psutil.Process(pid).net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 6
    assert set(listening) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_no_process_keeps_files_outside_of_the_stacks_folder(stack: Stack) -> None:
    outside = [
        file.path
        for pid in stack.processes().values()
        for file in psutil.Process(pid).open_files()
        if file.mode != "r" and not Path(file.path).is_relative_to(stack.directory)
    ]
    assert outside == []


def test_flinks_client_reaches_the_stack_with_classes_from_the_archive(stack: Stack, tmp_path: Path) -> None:
    env = stack.flink_env()
    loaded = tmp_path / "loaded.log"
    done = subprocess.run(
        [Path(env["FLINK_BIN_DIR"]) / "flink", "list"],
        env={**env, "JVM_ARGS": f"{env['JVM_ARGS']} -Xlog:class+load:file={loaded}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "No running jobs" in done.stdout
    (client,) = (
        line for line in loaded.read_text().splitlines() if " org.apache.flink.client.cli.CliFrontend " in line
    )
    assert client.endswith("source: shared objects file (top)")


def test_a_second_up_says_that_it_runs_and_changes_nothing(stack: Stack) -> None:
    before = stack.processes()
    with pytest.raises(StackRunsError, match="already runs"):
        Stack(stack.directory).up(kafka_port=0, flink_port=0)
    assert stack.processes() == before


def test_a_killed_taskmanager_comes_back_and_what_it_left_is_gone(stack: Stack) -> None:
    # What a Python worker is to the supervisor: a process with the TaskManager's environment.
    worker = subprocess.Popen(["sleep", "1000"], env=processes.identified(stack.directory, "taskmanager-1"))
    pid = stack.taskmanagers()["taskmanager-1"]
    os.kill(pid, signal.SIGKILL)
    assert worker.wait(timeout=10) == -signal.SIGKILL
    assert not stack.status().ok
    wait_until(lambda: stack.status().ok, RECOVERY_S, "a whole stack", seen=lambda: stack.status().problems)
    assert stack.taskmanagers()["taskmanager-1"] != pid
    (taskmanager,) = [p for p in stack.status().processes if p.role == "taskmanager"]
    assert (taskmanager.restarts, taskmanager.exit_code) == (1, -signal.SIGKILL)


def test_data_survive_a_killed_supervisor_and_a_new_up(stack: Stack) -> None:
    _create_topic(stack, "kept")
    before = stack.processes()
    os.kill(before["supervisor"], signal.SIGKILL)
    wait_until(lambda: "supervisor" not in stack.processes(), 10, "the supervisor's end")
    status = stack.status()
    assert status.running
    assert not status.ok
    assert status.problems[0] == "supervisor is dead"

    stack.up(kafka_port=0, flink_port=0)
    assert stack.status().ok
    assert not set(before.values()) & set(stack.processes().values())
    assert "kept" in _topics(stack)


def test_down_leaves_no_process_when_the_supervisor_was_killed(stack: Stack) -> None:
    """The last test of the shared stack: it stops it."""
    os.kill(stack.processes()["supervisor"], signal.SIGKILL)
    wait_until(lambda: "supervisor" not in stack.processes(), 10, "the supervisor's end")
    assert stack.down() == ["taskmanager-1", "jobmanager", "kafka-1"]
    assert processes.find(stack.directory) == []
    assert stack.status().problems == ("the stack is stopped",)
    assert stack.down() == []


def test_a_stack_without_flink(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "stack", is_owned=True)
    ready: list[str] = []
    stack.up(kafka_port=0, flink=False, on_ready=lambda name, _seconds: ready.append(name))
    try:
        assert ready == ["kafka-1"]
        status = stack.status()
        assert status.ok, status.problems
        assert {p.name for p in status.processes} == {"supervisor", "kafka-1"} == set(stack.processes())
        assert status.flink_url is None
        with pytest.raises(SurecountError, match="has no Flink"):
            _ = stack.flink_url
        _create_topic(stack, "raw")
        assert "raw" in _topics(stack)
    finally:
        stopped = stack.down(purge=True)
    assert stopped == ["supervisor", "kafka-1"]
    assert processes.find(stack.directory) == []
    assert not stack.directory.exists()


def test_a_port_in_use_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "stack", is_owned=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(SurecountError, match=rf"port {port}, for broker kafka-1, is in use") as raised:
            stack.up(kafka_port=port, flink_port=0)
    assert "--kafka-port" in raised.value.hint
    assert processes.find(stack.directory) == []


def test_a_process_that_dies_at_its_start_shows_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(*args: object, **kwargs: object) -> ProcessSpec:
        whole = original(*args, **kwargs)  # type: ignore[arg-type]
        return replace(whole, argv=("sh", "-c", "echo no space for the log; exit 3"))

    original = kafka.process
    monkeypatch.setattr(kafka, "process", dying)
    stack = Stack(tmp_path / "stack", is_owned=True)
    with pytest.raises(SurecountError, match=r"kafka-1 died .*exit code 3(?s:.*)no space for the log"):
        stack.up(kafka_port=0, flink_port=0)
    assert processes.find(stack.directory) == []


def test_ctrl_c_during_up_leaves_nothing_running(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "stack", is_owned=True)

    def interrupt(_name: str, _seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stack.up(kafka_port=0, flink_port=0, on_ready=interrupt)
    assert processes.find(stack.directory) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"brokers": 2}, "--brokers is 2"),
        ({"taskmanagers": -1}, "--taskmanagers is -1"),
        ({"slots": 0}, "--slots is 0"),
    ],
)
def test_impossible_sizes_are_refused(tmp_path: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(SurecountError, match=message):
        Stack(tmp_path / "stack").up(**options)  # type: ignore[arg-type]
    assert not (tmp_path / "stack").exists()


def test_a_folder_that_flinks_scripts_cannot_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SurecountError, match="has a blank"):
        Stack(tmp_path / "my stack").up()
