"""Two operators at once, and commands that are killed: one run of a number, and no window lost or twice."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from surecount.ops.code import unpack
from surecount.ops.launch import launch
from surecount.ops.ledger import TakenError
from surecount.ops.steps import Step
from surecount.waiting import wait_until
from tests.conftest import Running
from tests.interleavings import PIPELINE, WINDOW_MS, check_each_once, interleave
from tests.lives import life_of, read_up_to, send
from tests.typed import COMMAND, kill_of, typed_of


def arguments(run: Running, command: str, *more: str) -> list[str]:
    return [command, run.file.name, "--dir", str(run.stack.directory), *more]


def begin(run: Running, command: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments(run, command, *more)], cwd=run.file.parent, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def at_once(run: Running, *commands: tuple[str, ...]) -> list[tuple[int, str]]:
    """Exit code and output of commands that begin together."""
    running = [begin(run, *command) for command in commands]
    said = [one.communicate(timeout=300)[0] for one in running]
    return [(one.returncode, text) for one, text in zip(running, said, strict=True)]


def submit_again(run: Running, state: str) -> None:
    """Submit the newest run once more, as a command does that was slow: Flink refuses it, its job being in a state."""
    ledger = life_of(run).ledger("aggregate")
    last = ledger.runs()[-1]
    with TemporaryDirectory() as folder:
        unpack(ledger.code(last.code_hash), Path(folder) / "code")
        with pytest.raises(TakenError, match=f"another command has submitted run 1 of .*, which is {state}"):
            launch(run.pipeline, run.flink, run.stack.flink_env(), "aggregate", last, Path(folder), moved=False)


def test_of_two_starts_at_once_one_starts_and_the_other_says_so(make: Callable[..., Running]) -> None:
    run = make(PIPELINE, partitions=1)
    at_ms = int(time.time() * 1000) // WINDOW_MS * WINDOW_MS - 20 * WINDOW_MS
    send(run, 100, at_ms, keys=10)
    first = at_once(run, ("start",), ("start",))
    print(first)
    assert sorted(code for code, _ in first) == [0, 1]
    assert "another command" in next(text for code, text in first if code)
    read_up_to(run, 100)
    submit_again(run, "RUNNING")

    # As it was seen: after the cancelling of what ran twice, a start doubled what had been written since.
    (job,) = run.flink.all_running(f"{run.pipeline.name}.aggregate")
    run.flink.cancel(job.id)
    wait_until(lambda: run.flink.state(job.id) == "CANCELED", 60, "the job to end")
    submit_again(run, "CANCELED")
    second = at_once(run, ("start",), ("start",))
    assert sorted(code for code, _ in second) == [0, 1], second
    assert [one.number for one in life_of(run).ledger("aggregate").runs()] == [1, 2]
    check_each_once(run, 100, at_ms)


@dataclass(frozen=True)
class Killed:
    """A command that is killed at a step, or whose child is; then the same command ends with ``code``, and ``says``."""

    command: tuple[str, ...]
    step: str
    says: str
    code: int = 0


UPGRADE = ("upgrade", "--yes")
STORY = [
    Killed(("submit",), Step.RECORDING, "aggregate RUNNING after"),
    Killed(("stop",), Step.STOPPED, "stopped with file:///"),
    Killed(("start",), "client:1", "runs as"),
    Killed(("rescale", "--parallelism", "2"), Step.STOPPED, "`surecount start --parallelism 2` starts what", 1),
    Killed(("start", "--parallelism", "2"), Step.SUBMITTING, "runs as"),
    Killed(UPGRADE, Step.SUBMITTING, "`surecount start` starts it with the pipeline file and the code of now", 1),
    Killed(("start", "--parallelism", "2"), Step.CONFIRMING, "runs already"),
    Killed(UPGRADE, Step.WATCHING, "stays as it is"),
]
"""What is done to one pipeline, in this order; before each upgrade its file changes."""


def test_a_command_that_is_killed_goes_on_or_says_how_to(make: Callable[..., Running]) -> None:
    run = make(PIPELINE, partitions=1)
    at_ms = int(time.time() * 1000) // WINDOW_MS * WINDOW_MS - 20 * WINDOW_MS
    for number, killed in enumerate(STORY, 1):
        if killed.command == UPGRADE:
            text = re.sub(r'idle_after = "\d+ s"', f'idle_after = "{600 + number} s"', run.file.read_text())
            run.file.write_text(text)
        kill_of(run, killed.step, *killed.command)
        send(run, 10, at_ms, keys=10)
        said = typed_of(run, *killed.command, expect=killed.code)
        print(number, killed.command, said)
        assert killed.says in said, f"{killed.command}, killed at {killed.step!r}"
    runs = life_of(run).ledger("aggregate").runs()
    assert [one.parallelism for one in runs] == [1, 1, 2, 2, 2]
    assert life_of(run).running(["aggregate"])["aggregate"].id == runs[-1].job_id
    check_each_once(run, 10 * len(STORY), at_ms)


@pytest.mark.parametrize("seed", [3, 9])
def test_no_window_is_lost_or_twice_when_two_operators_are_killed(make: Callable[..., Running], seed: int) -> None:
    print(interleave(make(PIPELINE, partitions=1), seed))
