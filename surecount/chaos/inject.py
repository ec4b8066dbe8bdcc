"""Doing to a running stack what a schedule says."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import psutil

from surecount.chaos.load import Load
from surecount.chaos.schedule import Moment, Step, Target
from surecount.chaos.seen import KILLS, HappenedKind
from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.local.spec import SUPERVISOR
from surecount.local.stack import Stack
from surecount.ops.flink import Flink
from surecount.ops.life import Life
from surecount.ops.submit import job_name
from surecount.waiting import WaitTimeoutError, wait_until

_MOMENT_S = 60.0
_MOMENT_POLL_S = 0.02
# Far longer than a TaskManager takes to pre-commit; meanwhile there is nobody who could tell.
_PRE_COMMIT_S = 1.0

T = TypeVar("T")

Victim = tuple[str, int]
"""What it is, for people, and its pid."""


@dataclass
class Injector:
    """Injects faults; ``tell`` hears what was done, at the moment it is."""

    stack: Stack
    pipeline: Pipeline
    flink: Flink
    life: Life
    load: Load
    tell: Callable[[HappenedKind, str], None]

    def inject(self, step: Step) -> None:
        """Do what the step says; what has an end has ended when this returns."""
        fault = step.fault
        if fault.moment is not None:
            self._at(fault.moment, step)
        elif fault.action is None:
            self._lack(step)
        else:
            victims = self._victims(fault.target, step)
            if fault.action == "freeze":
                self._freeze(victims, step.hold_s)
            else:
                self._signal(victims, signal.SIGKILL if fault.action == "kill" else signal.SIGTERM)

    def _signal(self, victims: Sequence[Victim], number: signal.Signals) -> None:
        for name, pid in victims:
            with suppress(ProcessLookupError):  # it died of another one
                os.kill(pid, number)
            self.tell("fault", f"{KILLS[0] if number == signal.SIGKILL else number.name} {name}")

    def _freeze(self, victims: Sequence[Victim], seconds: float) -> None:
        self.tell("fault", f"SIGSTOP for {seconds:g} s: {', '.join(name for name, _ in victims)}")
        with _frozen(victims):
            time.sleep(seconds)

    def _lack(self, step: Step) -> None:
        match step.fault.name:
            case "burst":
                self.tell("fault", f"nothing is sent for {step.hold_s:g} s, and then all of it")
                self.load.hold_back(step.hold_s)
            case "full-disk":
                of_flink = [found for found in self._main() if found[0].startswith(("taskmanager", "jobmanager"))]
                names = ", ".join(name for name, _ in of_flink)
                self.tell("fault", f"no file takes what {names} write for {step.hold_s:g} s")
                with _unable_to_write(of_flink):
                    time.sleep(step.hold_s)
            case _:
                self._without_checkpoints(step.hold_s)

    def _without_checkpoints(self, seconds: float) -> None:
        folder = self.stack.checkpoints_dir
        aside = folder.with_name(f"{folder.name}-away")
        self.tell("fault", f"the checkpoint folder is away for {seconds:g} s")
        folder.rename(aside)
        try:
            with suppress(FileExistsError):
                folder.touch(exist_ok=False)  # so that nobody makes it anew
            time.sleep(seconds)
        finally:
            if folder.is_dir():  # somebody did, before that
                shutil.rmtree(folder)
            folder.unlink(missing_ok=True)
            aside.rename(folder)

    def _at(self, moment: Moment, step: Step) -> None:
        jobs = [job for job in self.pipeline.jobs if self.pipeline.pathway_of(job) is None]
        # Ingest writes all the time, and what it lost is missing in all that comes after it.
        job = jobs[0] if step.fault.loses else jobs[step.pick_2 % len(jobs)]
        running = self.flink.running(job_name(self.pipeline, job))
        if running is None:
            raise SurecountError(f"{job_name(self.pipeline, job)} has ended", exit_code=1)

        if moment == "commit" and (step.fault.loses or step.pick % 2):
            self._in_commit(job, running.id, step)
            return
        of_job = self._candidates(job)
        victim = of_job[step.pick % len(of_job)]

        def kill(when: Callable[[], bool], what: str, over: Callable[[], bool] = lambda: False) -> None:
            try:
                wait_until(lambda: over() or _told(when), _MOMENT_S, what, poll_s=_MOMENT_POLL_S)
            except WaitTimeoutError:
                self.tell("note", f"{what}: did not come")
            if over():
                self.tell("note", f"{what}: was over")
            self._signal([victim], signal.SIGKILL)

        def latest() -> dict[str, Any]:
            found: dict[str, Any] = self.flink.checkpoints(running.id)["history"][0]
            return found

        def saving() -> bool:
            found = latest()
            return bool(found["is_savepoint"]) and found["status"] == "IN_PROGRESS"

        def restarting() -> bool:
            return self.flink.state(running.id) != "RUNNING" or self._deploying(running.id)

        def stopped() -> bool:
            return not self.flink.running(running.name)

        def again() -> bool:
            found = self.flink.running(running.name)
            return found is not None and found.id != running.id

        match moment:
            case "commit":
                before = latest()["id"]

                def committing() -> bool:
                    """Some subtasks have pre-committed."""
                    found = latest()
                    return bool(found["id"] != before and found["num_acknowledged_subtasks"] > 0)

                kill(committing, f"a commit of {job}")
            case "recovery":
                self._signal([victim], signal.SIGKILL)
                others = [found for found in self._main() if found[0].startswith("taskmanager") and found != victim]
                victim = (others or of_job)[step.pick_2 % len(others or of_job)]
                kill(restarting, f"the recovery of {job}")
            case "savepoint":
                work = partial(self.life.savepoint, [job])
                self._while(work, lambda over: kill(saving, f"a savepoint of {job}", over))
            case "rescale":
                to = self.life.ledger(job).runs()[-1].parallelism % 2 + 1
                when = (saving, stopped, again)[step.pick % 3]
                self.tell("note", f"rescaling {job} to {to}")
                work = partial(self.life.rescale, [job], to)
                self._while(work, lambda over: kill(when, f"a rescale of {job}", over))

    def _in_commit(self, job: str, job_id: str, step: Step) -> None:
        """Kill when all subtasks have pre-committed, and none was told to commit.

        The JobManager is stopped when the first subtask has, since the others need it no more to do the same, and goes
        on when those that it would tell are dead.
        """

        def begun() -> int | None:
            found = self.flink.checkpoints(job_id)["history"][0]
            begun = found["status"] == "IN_PROGRESS" and found["num_acknowledged_subtasks"] > 0
            return int(found["id"]) if begun else None

        victims = self._candidates(job)
        leader = self._candidates("jobmanager")[:1]
        what = f"a checkpoint of {job}"
        checkpoint = None
        try:
            checkpoint = wait_until(lambda: _told(begun), _MOMENT_S, what, poll_s=_MOMENT_POLL_S)
        except WaitTimeoutError:
            self.tell("note", f"{what}: did not come")
        brokers = self._candidates("broker") if step.fault.loses else []
        with _frozen(leader):
            time.sleep(_PRE_COMMIT_S)
            self._signal([*victims, *brokers], signal.SIGKILL)
        if brokers:
            self._keep_away(brokers, step.hold_s)
        history = _told(lambda: self.flink.checkpoints(job_id)["history"]) or ()
        ended = [one["status"] for one in history if one["id"] == checkpoint]
        self.tell("note", f"checkpoint {checkpoint} of {job}: {', '.join(ended) or 'not known'}")

    def _keep_away(self, killed: Sequence[Victim], seconds: float) -> None:
        """Stop the successors of these as soon as the supervisor starts them, for so long."""
        names, before = {name for name, _ in killed}, {pid for _, pid in killed}

        def successors() -> list[Victim]:
            found = [(name, pid) for name, pid in self._main() if name in names and pid not in before]
            return found if len(found) == len(names) else []

        with _frozen(wait_until(successors, _MOMENT_S, "the brokers to be started again", poll_s=_MOMENT_POLL_S)):
            self.tell("note", f"{', '.join(sorted(names))}: away for {seconds:g} s")
            time.sleep(seconds)

    def _while(self, work: Callable[[], object], fault: Callable[[Callable[[], bool]], None]) -> None:
        """Do both, the fault knowing whether the work is over; that this fails for the fault is right, as long as it
        says so."""
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(work)
            fault(working.done)
            try:
                working.result()
            except SurecountError as error:
                self.tell("note", f"said: {error.message.splitlines()[0]}")

    def _deploying(self, job_id: str) -> bool:
        return any(
            vertex["status"] in ("SCHEDULED", "DEPLOYING", "INITIALIZING") for vertex in self.flink.vertices(job_id)
        )

    def _victims(self, target: Target, step: Step) -> list[Victim]:
        """Those that the step picks among all that there are. Raises SurecountError where there is none."""
        if target == "all":
            return self._main()
        if target == "two":
            found = self._candidates("two")
            first = found.pop(step.pick % len(found))
            return [first, found[step.pick_2 % len(found)]]
        found = self._candidates(target)
        return [found[step.pick % len(found)]]

    def _candidates(self, target: str) -> list[Victim]:
        """All processes that are such a target, or that run tasks of the job of that name; waited for."""

        def look() -> list[Victim]:
            main = self._main()
            if target in self.pipeline.jobs:
                hosts = self._hosts(target)
                return [found for found in main if found[0] in hosts]
            works = [
                (name, child.pid)
                for name in sorted(self.stack.taskmanagers())
                for child in self.stack.children(name)
                if "beam_boot" in " ".join(child.process.cmdline())
            ]
            busy = {name for name, _ in works}
            match target:
                case "two":
                    return main
                case "worker":
                    return [(f"a Python worker of {name}", pid) for name, pid in works]
                case "taskmanager":
                    return [found for found in main if found[0] in busy]
                case "jobmanager":
                    leader = self.stack.status().leader
                    return [found for found in main if found[0].startswith("jobmanager") and leader in (None, found[0])]
                case "broker":
                    return [found for found in main if found[0].startswith("kafka")]
            return [found for found in main if found[0].startswith(target)]

        def there() -> list[Victim]:
            with suppress(psutil.NoSuchProcess, SurecountError):  # what is asked comes and goes
                return look()
            return []

        return wait_until(there, _MOMENT_S, f"a {target}")

    def _main(self) -> list[Victim]:
        """All processes that the supervisor would start again."""
        return sorted((name, pid) for name, pid in self.stack.processes().items() if name != SUPERVISOR)

    def _hosts(self, job: str) -> set[str]:
        """The TaskManagers where subtasks of a job are."""
        running = self.flink.running(job_name(self.pipeline, job))
        if running is None:
            return set()
        vertices = [self.flink.get(f"/jobs/{running.id}/vertices/{v['id']}") for v in self.flink.vertices(running.id)]
        return {subtask["taskmanager-id"] for vertex in vertices for subtask in vertex["subtasks"]}


@contextmanager
def _frozen(victims: Sequence[Victim]) -> Iterator[None]:
    """They are stopped meanwhile, where they live."""
    try:
        for _, pid in victims:
            with suppress(psutil.NoSuchProcess):  # it died by itself
                psutil.Process(pid).suspend()
        yield
    finally:
        for _, pid in victims:
            with suppress(psutil.NoSuchProcess):  # given up, and killed, meanwhile
                psutil.Process(pid).resume()


@contextmanager
def _unable_to_write(victims: Sequence[Victim]) -> Iterator[None]:
    """No file that they write to may grow meanwhile: writing fails, as where a disk is full. Linux only."""
    before: dict[int, tuple[int, int]] = {}
    try:
        for _, pid in victims:
            with suppress(psutil.NoSuchProcess):
                before[pid] = psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE)
                psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, (0, before[pid][1]))
        yield
    finally:
        for pid, limits in before.items():
            with suppress(psutil.NoSuchProcess):  # it gave up, and its successor has the limits of the supervisor
                psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, limits)


def _told(ask: Callable[[], T]) -> T | None:
    """What Flink says; it may have no answer, as while a JobManager takes over."""
    with suppress(SurecountError, IndexError):
        return ask()
    return None
