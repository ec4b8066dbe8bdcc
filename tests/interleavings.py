"""Two operators at once, whose commands are killed: seeds of interleavings on one stack, each judged.

``python -m tests.interleavings --seed 1 --runs 100`` starts a stack and makes a pipeline for each seed. Two operators,
each with a copy of the pipeline file, give it two commands each, at once; commands are killed with SIGKILL at a step,
at some time, or by the end of their child, Flink's command line; records come all the while. Then ``surecount start``
has to bring the job up, and each window of each key has to be there once, with all records; the audit has to agree.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from surecount import config, topics
from surecount.audit import audit
from surecount.local.flink import quickly_compiled
from surecount.local.stack import Stack
from surecount.ops.history import history
from surecount.ops.steps import Step
from surecount.waiting import wait_until
from tests.conftest import PIPELINE as SHORT
from tests.conftest import Running, read_committed
from tests.lives import send
from udfs.times import to_rfc3339

PIPELINE = SHORT.replace('idle_after = "5 s"', 'idle_after = "600 s"')
"""Long to become idle: while operators are busy no window closes by the clock, and no record becomes a correction."""
WINDOW_MS = 5_000
SETTLING = 4
"""How often a start may be asked for before the job runs: each may find what another one has left behind."""

_START = (Step.CHECKING, Step.RECORDING, Step.SUBMITTING, Step.AWAITING, Step.CONFIRMING)
_STOP = (Step.STOPPING, Step.STOPPED)
COMMANDS: dict[tuple[str, ...], tuple[Step, ...]] = {
    ("submit",): _START,
    ("start",): _START,
    ("start", "--parallelism", "2"): _START,
    ("stop",): _STOP,
    ("rescale", "--parallelism", "2"): (*_STOP, *_START),
    ("rescale", "--parallelism", "1"): (*_STOP, *_START),
    ("upgrade", "--yes"): (*_STOP, *_START, Step.WATCHING),
}
"""What an operator may do, and the steps at which that may be killed."""


@dataclass(frozen=True)
class Move:
    """A command, what kills it (see ``tests.killed``; None for nothing), and how long its operator waits before."""

    command: tuple[str, ...]
    killed: str | None
    after_s: float


@dataclass(frozen=True)
class Interleaving:
    """What two operators do: each its moves, one after the other, to a job that runs already or to none."""

    runs: bool
    operators: tuple[list[Move], list[Move]]


def interleaving(seed: int) -> Interleaving:
    """The interleaving of a seed; where no job runs, the first operator begins with a start."""
    chance = random.Random(seed)
    starts = [command for command in COMMANDS if command[0] in ("start", "submit")]
    runs = chance.random() < 0.6

    def move(commands: Sequence[tuple[str, ...]]) -> Move:
        command = chance.choice(commands)
        kills = (
            None,
            None,
            str(chance.choice(COMMANDS[command])),
            f"after:{chance.uniform(0.5, 10):.1f}",
            f"client:{chance.uniform(0, 3):.1f}",
        )
        # What needs a job that runs comes later where none does.
        waits = 4 if runs or command in starts else 12
        return Move(command, chance.choice(kills), round(chance.choice((0, chance.uniform(0, waits))), 1))

    every = [*COMMANDS]
    return Interleaving(runs, ([move(every if runs else starts), move(every)], [move(every), move(every)]))


def interleave(run: Running, seed: int) -> str:
    """Run the interleaving of a seed on a pipeline that nothing was done with yet; what was done, as a line.

    Raises AssertionError where a window is lost or twice, where no start succeeds, or where a command breaks.
    """
    began, wanted = time.monotonic(), interleaving(seed)
    first_ms = int(time.time() * 1000) // WINDOW_MS * WINDOW_MS - 1000 * WINDOW_MS
    done = threading.Event()

    def feed() -> int:
        number = 0
        while not done.is_set():
            send(run, 10, first_ms + number * 1_000, keys=5)
            number += 1
            done.wait(0.5)
        return number

    with ThreadPoolExecutor(3) as pool:
        feeding = pool.submit(feed)
        try:
            if wanted.runs:
                assert _surecount(run, "a", ("start",), None)[0] == 0
            both = zip("ab", wanted.operators, strict=True)
            operators = [pool.submit(_operate, run, name, given) for name, given in both]
            said = [operator.result() for operator in operators]
        finally:
            done.set()
        batches = feeding.result()
    sent = 10 * batches
    lines = [f"{name}: {', '.join(line)}" for name, line in zip("ab", said, strict=True)]
    story = "; ".join(["a job runs", *lines] if wanted.runs else lines)
    print(f"seed {seed}: {story}", flush=True)
    ends = []
    for _ in range(SETTLING):
        ends.append(_surecount(run, "a", ("start",), None))
        if ends[-1][0] == 0:
            break
    assert ends[-1][0] == 0, f"seed {seed}: no start succeeds: {ends}"
    check_each_once(run, sent, first_ms + batches * 1_000)
    return f"{story}; starts {len(ends)}; {sent} records; {time.monotonic() - began:.0f} s"


def check_each_once(run: Running, sent: int, at_ms: int) -> None:
    """Close all windows; each key and window is there once, and all records are counted; the audit agrees."""
    send(run, 1, at_ms + 10 * WINDOW_MS)
    # That record's own window closes by the clock, some time.
    last = to_rfc3339((at_ms // WINDOW_MS + 10) * WINDOW_MS)
    windows: Counter[tuple[str, int]] = Counter()

    def counted() -> int:
        windows.clear()
        found = [
            json.loads(message.value()) for message in read_committed(run.pipeline, run.pipeline.topics.results, 0)
        ]
        found = [result for result in found if result["start"] < last]
        windows.update((result["key"]["customer"], result["start"]) for result in found)
        return sum(result["count"] for result in found)

    def seen() -> str:
        corrections = read_committed(run.pipeline, run.pipeline.topics.corrections, 0)
        return f"{counted()}, and {len(corrections)} corrections"

    wait_until(lambda: counted() >= sent, 60, f"results of {sent} records", poll_s=0.5, seen=seen)
    report = audit(run.pipeline, history=history(run.pipeline, run.flink))
    assert report.balanced, report.summary()
    assert report.books[0].records_in == sent + 1
    assert counted() == sent
    assert max(windows.values()) == 1, [window for window, times in windows.items() if times > 1]


def _operate(run: Running, name: str, given: list[Move]) -> list[str]:
    """Make the moves of an operator; what each came to."""
    text = run.file.read_text()
    done = []
    for number, move in enumerate(given):
        time.sleep(move.after_s)
        if move.command[0] == "upgrade":
            text = re.sub(r'idle_after = "\d+ s"', f'idle_after = "{600 + 10 * (number + 1) + ord(name) % 7} s"', text)
        code, said = _surecount(run, name, move.command, move.killed, text)
        assert "Traceback" not in said, said
        killed = f" killed {move.killed}" if move.killed else ""
        why = f" ({said.strip().splitlines()[0]})" if code > 0 else ""
        done.append(f"{' '.join(move.command)}{killed} → {code}{why}")
    return done


def _surecount(
    run: Running, name: str, command: tuple[str, ...], killed: str | None, text: str | None = None
) -> tuple[int, str]:
    """Exit code and output of a command of an operator, who has ``text`` in a pipeline file of its own."""
    folder = run.file.parent / name
    kept = folder / "tmp"  # what a killed command leaves behind goes with the pipeline's folder
    kept.mkdir(exist_ok=True, parents=True)
    if text is not None or not (folder / run.file.name).exists():
        (folder / run.file.name).write_text(text or run.file.read_text())
    program = ["-m", "tests.killed", killed] if killed else ["-m", "surecount.cli"]
    done = subprocess.run(
        [sys.executable, *program, command[0], run.file.name, "--dir", str(run.stack.directory), *command[1:]],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(Path.cwd()), "TMPDIR": str(kept)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def pipelines(stack: Stack, folder: Path) -> Callable[[int], Running]:
    """Makes a pipeline for a seed, with topics of its own."""

    def build(seed: int) -> Running:
        name = f"i{seed}"
        text = f'name = "{name}"\n[kafka]\nbootstrap_servers = "{stack.bootstrap_servers}"\n'
        text += PIPELINE.replace("NAME", name)
        file = folder / name / f"{name}.toml"
        file.parent.mkdir()
        file.write_text(text)
        pipeline = config.parse(tomllib.loads(text), str(file))
        topics.ensure_source(pipeline, 1)
        topics.ensure_outputs(pipeline)
        return Running(pipeline, file, stack)

    return build


def cancel_all(run: Running) -> None:
    """Give the pipeline's slots back."""
    name = f"{run.pipeline.name}.aggregate"
    for job in run.flink.all_running(name):
        run.flink.cancel(job.id)
    wait_until(lambda: not run.flink.all_running(name), 60, f"{name} to end")


def main() -> int:
    """Run the interleavings that the command line asks for; 1 where one fails."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=1, help="The first one.")
    options.add_argument("--runs", type=int, default=10, help="How many seeds.")
    options.add_argument("--at-once", type=int, default=2, help="How many pipelines at a time.")
    asked = options.parse_args()
    seeds = range(asked.seed, asked.seed + asked.runs)
    began = time.monotonic()
    with TemporaryDirectory(prefix="surecount-interleavings-") as folder:
        stack = Stack(Path(folder) / "stack", is_owned=True)
        stack.up(kafka_port=0, flink_port=0, slots=6 * asked.at_once, flink_settings=quickly_compiled())
        make = pipelines(stack, Path(folder))

        def passes(seed: int) -> bool:
            run = make(seed)
            try:
                print(f"seed {seed}: passed; {interleave(run, seed)}", flush=True)
            except Exception as error:  # noqa: BLE001  # the others are run all the same
                print(f"seed {seed}: FAILED {type(error).__name__}: {error}", flush=True)
                return False
            finally:
                cancel_all(run)
            return True

        pool = ThreadPoolExecutor(asked.at_once)
        try:
            failed = [seed for seed, passed in zip(seeds, pool.map(passes, seeds), strict=True) if not passed]
        finally:
            pool.shutdown(cancel_futures=True)  # interrupted, those that have begun come to their end
            stack.down(purge=True)
    took = f"in {time.monotonic() - began:.0f} s"
    print(f"{len(seeds) - len(failed)} of {len(seeds)} passed {took}" + (f"; failed: {failed}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
