"""The supervisor and the process finder, with real but tiny processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from surecount.errors import SurecountError
from surecount.local import processes, supervisor
from surecount.local.layout import Layout
from surecount.local.spec import ProcessSpec, StackSpec, load_observed, save_stack
from surecount.local.stack import Stack
from surecount.waiting import wait_until

# Starts a child, as a TaskManager starts Python workers, and goes on.
PARENT = "sleep 1000 & exec sleep 1000"
Start = Callable[[dict[str, str]], Stack]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a supervisor for shell commands by process name; all is stopped at the end."""
    stack = Stack(tmp_path / "stack")

    def start_commands(commands: dict[str, str]) -> Stack:
        layout = Layout(stack.directory)
        layout.logs.mkdir(parents=True)
        specs = tuple(
            ProcessSpec(name, ("sh", "-c", command), {}, str(layout.output(name)), str(layout.scratch(name)))
            for name, command in commands.items()
        )
        save_stack(layout.stack_file, StackSpec("id", 1, (), (), processes=specs))
        stack._start_supervisor()
        wait_until(lambda: layout.state_file.exists(), 10, "the supervisor's first notes")
        return stack

    yield start_commands
    stack.down()
    assert processes.find(stack.directory) == []


def test_a_killed_process_is_restarted_and_its_children_are_reaped(start: Start) -> None:
    stack = start({"taskmanager-1": PARENT})
    old = wait_until(lambda: stack.children("taskmanager-1"), 10, "a child", seen=stack.processes)
    pid = stack.taskmanagers()["taskmanager-1"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: stack.taskmanagers().get("taskmanager-1", pid) != pid, 10, "a restart", seen=stack.processes)
    assert not any(processes.is_alive(child.process) for child in old)
    observed = wait_until(lambda: load_observed(Layout(stack.directory).state_file), 1, "notes")
    assert observed is not None
    assert observed.processes["taskmanager-1"].restarts == 1
    assert observed.processes["taskmanager-1"].exit_code == -signal.SIGKILL


def test_a_child_that_left_the_process_group_is_reaped_too(start: Start) -> None:
    stack = start({"taskmanager-1": "setsid sleep 1000 & exec sleep 1000"})

    def pids() -> set[int]:
        return {p.pid for p in processes.find(stack.directory) if p.name == "taskmanager-1"}

    old = wait_until(lambda: pids() if len(pids()) == 2 else None, 10, "a process and its child", seen=pids)
    assert old is not None
    notes = Layout(stack.directory).state_file
    observed = load_observed(notes)
    assert observed is not None
    main = observed.processes["taskmanager-1"].pid
    assert main is not None
    os.kill(main, signal.SIGKILL)
    wait_until(lambda: not pids() & old, 10, "the old processes to be gone", seen=pids)


def test_stopping_gives_every_process_the_chance_to_end_well(start: Start) -> None:
    stack = start(
        {
            name: f"trap 'echo {name} >> order; exit' TERM; touch {name}.up; while :; do sleep 0.05; done"
            for name in ("kafka-1", "zookeeper", "jobmanager-1", "taskmanager-1")
        }
    )
    wait_until(lambda: len(list(stack.directory.glob("*.up"))) == 4, 10, "all traps")
    assert stack.down() == ["supervisor", "taskmanager-1", "jobmanager-1", "zookeeper", "kafka-1"]
    order = (stack.directory / "order").read_text(encoding="utf-8").split()
    assert order == ["taskmanager-1", "jobmanager-1", "zookeeper", "kafka-1"]


def test_a_stack_that_is_owned_stops_with_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    Layout(folder).logs.mkdir(parents=True)
    spec = ProcessSpec("kafka-1", ("sh", "-c", PARENT), {}, str(folder / "out"), str(folder / "scratch"))
    save_stack(Layout(folder).stack_file, StackSpec("id", 1, (), (), processes=(spec,)))
    program = (
        "import time; from pathlib import Path; from surecount.local.stack import Stack\n"
        f"Stack(Path({str(folder)!r}), is_owned=True)._start_supervisor(); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as owner:
        try:
            wait_until(lambda: Stack(folder).children("kafka-1"), 20, "a process with a child")
        finally:
            owner.kill()
    wait_until(lambda: not processes.find(folder), 20, "all to be gone", seen=lambda: processes.find(folder))
    assert "is gone: stopping" in Layout(folder).log("supervisor").read_text(encoding="utf-8")


def test_without_flink_nobody_asks_for_it(start: Start) -> None:
    stack = start({"kafka-1": "exec sleep 1000"})
    wait_until(lambda: "kafka-1" in stack.processes(), 10, "the process")
    assert stack.status().problems == ("kafka-1 runs but is not in service",)


def test_nothing_is_left_when_the_supervisor_was_killed(start: Start) -> None:
    stack = start({"kafka-1": PARENT, "taskmanager-1": PARENT})
    wait_until(lambda: stack.children("kafka-1") and stack.children("taskmanager-1"), 10, "children")
    os.kill(stack.processes()["supervisor"], signal.SIGKILL)
    wait_until(lambda: "supervisor" not in stack.processes(), 10, "the supervisor's end")
    status = stack.status()
    assert status.running
    assert not status.ok
    assert {p.name: p.state for p in status.processes} == {
        "supervisor": "dead",
        "kafka-1": "running",
        "taskmanager-1": "running",
    }
    assert stack.down() == ["taskmanager-1", "kafka-1"]
    assert processes.find(stack.directory) == []


def test_nothing_is_left_when_the_folder_is_removed(start: Start) -> None:
    stack = start({"kafka-1": PARENT})
    shutil.rmtree(stack.directory)
    wait_until(lambda: not processes.find(stack.directory), 20, "an empty stack", seen=stack.processes)


def test_a_process_that_dies_at_once_is_tried_again(start: Start) -> None:
    stack = start({"jobmanager": "exit 3"})
    notes = Layout(stack.directory).state_file

    def restarts() -> int:
        observed = load_observed(notes)
        return observed.processes["jobmanager"].restarts if observed else 0

    wait_until(lambda: restarts() >= 2, 10, "two restarts", seen=restarts)


def test_a_process_of_another_stack_or_of_none_is_left_alone(start: Start, tmp_path: Path) -> None:
    stack = start({"kafka-1": "exec sleep 1000"})
    other = processes.identified(tmp_path / "other", "kafka-1")
    strangers = [subprocess.Popen(["sleep", "1000"], env=environ) for environ in (other, processes.without_identity())]
    try:
        stack.down()
        assert all(stranger.poll() is None for stranger in strangers)
    finally:
        for stranger in strangers:
            stranger.kill()
            stranger.wait()


def test_a_command_run_from_the_stacks_environment_does_not_find_itself(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; from surecount.local import processes; import sys;"
        "print(processes.find(Path(sys.argv[1])))"
    )
    done = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" "$2"; true', sys.executable, script, str(tmp_path)],
        env=processes.identified(tmp_path, "taskmanager-1"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("deaths", "delay_s"), [(1, 0.25), (2, 0.5), (4, 2.0), (7, 10.0), (10_000, 10.0)])
def test_the_delay_before_a_restart_doubles_up_to_a_limit(deaths: int, delay_s: float) -> None:
    assert supervisor.restart_delay_s(deaths) == delay_s


def test_what_a_process_prints_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MAX_OUTPUT_BYTES", 10)
    output = tmp_path / "a.out"
    with output.open("ab", buffering=0) as process:
        process.write(b"0123456789")
        supervisor.roll(output)
        assert output.stat().st_size == 10
        process.write(b"+")
        supervisor.roll(output)
        process.write(b"new")
    assert output.read_bytes() == b"new"
    assert (tmp_path / "a.out.1").read_bytes() == b"0123456789+"


def test_only_a_stacks_own_folder_is_purged_or_filled(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear", encoding="utf-8")
    with pytest.raises(SurecountError, match="is not removed"):
        Stack(tmp_path).down(purge=True)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_without_a_stack_is_no_error_to_stop_or_look_at(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "none")
    assert stack.down() == []
    assert stack.status().problems == (f"there is no stack in {stack.directory}",)
    assert not stack.directory.exists()
    with pytest.raises(SurecountError, match="there is no stack"):
        _ = stack.bootstrap_servers
