"""The faults that there are, as data, and the order in which a seed chooses them. Pure.

Same seed and same faults, same schedule: which fault, after how long a pause, on which of the candidates, and for how
long. When a fault meets the jobs is up to them, since the next one waits until all is well.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from surecount.errors import SurecountError

Action = Literal["kill", "term", "freeze"]
Target = Literal["taskmanager", "worker", "jobmanager", "broker", "zookeeper", "ingest", "aggregate", "two", "all"]
Moment = Literal["commit", "savepoint", "rescale", "recovery"]

FREEZE_S = (12.0, 18.0)
"""Longer than ``heartbeat.timeout``, 10 s: a TaskManager or JobManager is given up, and wakes as a zombie."""
AWAY_S = (4.0, 9.0)
PAUSE_S = (1.0, 6.0)
TRANSACTION_TIMEOUT_S = 20.0
"""``sink.transaction_timeout`` where a fault is to outlast it."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault. ``action`` is done to a ``target`` at once, or when a ``moment`` has come; without one, the
    folder of checkpoints is away for a while, Flink can write to no file, or the load pauses and then comes at once.
    ``hold_s`` are the shortest and the longest time for what has an end. What ``loses`` must not do so in silence."""

    name: str
    what: str
    action: Action | None = None
    target: Target = "taskmanager"
    moment: Moment | None = None
    hold_s: tuple[float, float] = (0.0, 0.0)
    loses: bool = False


_KILLED: tuple[Target, ...] = ("taskmanager", "worker", "jobmanager", "broker", "zookeeper")
_TERMINATED: tuple[Target, ...] = ("taskmanager", "jobmanager", "broker", "zookeeper")
_FROZEN: tuple[Target, ...] = ("taskmanager", "worker", "jobmanager", "broker")


def _signals() -> Iterator[Fault]:
    for target in _KILLED:
        yield Fault(f"kill-{target}", f"kill -9 of a {target}", "kill", target)
    yield Fault("kill-ingest", "kill -9 of a TaskManager that ingests", "kill", "ingest")
    yield Fault("kill-aggregate", "kill -9 of a TaskManager that aggregates", "kill", "aggregate")
    for target in _TERMINATED:
        yield Fault(f"term-{target}", f"SIGTERM to a {target}", "term", target)
    for target in _FROZEN:
        what = f"a {target} is stopped for longer than heartbeats wait, and goes on"
        yield Fault(f"freeze-{target}", what, "freeze", target, hold_s=FREEZE_S)
    yield Fault("kill-two", "kill -9 of two processes at once", "kill", "two")
    yield Fault("kill-all", "kill -9 of every process at once", "kill", "all")


def _moments() -> Iterator[Fault]:
    yield Fault("kill-in-commit", "kill -9 between pre-commit and commit", "kill", moment="commit")
    yield Fault("kill-in-savepoint", "kill -9 during a savepoint", "kill", moment="savepoint")
    yield Fault("kill-in-rescale", "kill -9 during a rescale", "kill", moment="rescale")
    yield Fault("kill-in-recovery", "kill -9 during the recovery from another one", "kill", moment="recovery")


FAULTS = {
    fault.name: fault
    for fault in (
        *_signals(),
        *_moments(),
        Fault("no-checkpoints", "the checkpoint folder is away", hold_s=AWAY_S),
        Fault("full-disk", "Flink's processes can write to no file, as on a full disk", hold_s=AWAY_S),
        Fault("burst", "the load pauses, and all that was held back comes at once", hold_s=(9.0, 10.0)),
        Fault(
            "outlast-transactions",
            "kill -9 between pre-commit and commit, also of all brokers, which are away beyond the transaction timeout",
            "kill", moment="commit", hold_s=(TRANSACTION_TIMEOUT_S + 2, TRANSACTION_TIMEOUT_S + 5), loses=True,
        ),
    )
}  # fmt: skip
"""All faults by name."""


@dataclass(frozen=True)
class Step:
    """One fault of a schedule: after a pause, on the candidate number ``pick`` of as many as there are, and again so
    with ``pick_2`` where there are two."""

    fault: Fault
    pause_s: float
    pick: int
    pick_2: int
    hold_s: float


def chosen(names: Sequence[str]) -> list[Fault]:
    """The faults of these names. Raises SurecountError that names one that there is not."""
    if unknown := next((name for name in names if name not in FAULTS), None):
        raise SurecountError(f"--faults {unknown}: no such fault", f"there are {', '.join(FAULTS)}")
    return [FAULTS[name] for name in names]


def schedule(seed: int, faults: Sequence[Fault]) -> Iterator[Step]:
    """Steps without end: rounds in which each fault comes once, in an order that changes."""
    choice = random.Random(seed)
    while True:
        for fault in choice.sample(faults, len(faults)):
            yield Step(
                fault,
                pause_s=round(choice.uniform(*PAUSE_S), 2),
                pick=choice.randrange(1 << 30),
                pick_2=choice.randrange(1 << 30),
                hold_s=round(choice.uniform(*fault.hold_s), 2),
            )
