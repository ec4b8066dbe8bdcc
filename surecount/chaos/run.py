"""One run of chaos: a stack of its own, a pipeline under load, faults by schedule, the end, the judge."""

from __future__ import annotations

import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from surecount import config, topics
from surecount.audit import Report, audit
from surecount.chaos.inject import Injector
from surecount.chaos.judge import judge
from surecount.chaos.load import Load
from surecount.chaos.schedule import Fault, schedule
from surecount.chaos.seen import Account, Expected, Happened, Verdict
from surecount.chaos.watcher import Watcher, committed
from surecount.config import Pipeline, format_duration
from surecount.errors import SurecountError
from surecount.generate import Summary
from surecount.generator.answers import expected
from surecount.generator.options import Options
from surecount.generator.plan import Plan, plan
from surecount.local.stack import Stack
from surecount.ops.flink import Flink
from surecount.ops.history import history
from surecount.ops.life import Life
from surecount.ops.submit import job_name
from surecount.waiting import WaitTimeoutError, wait_until

_WELL_S = 240.0
# Beyond those in which faults are injected: a recovery takes its time.
_SPARE_MINUTES = 30
_AUDIT_S = 300.0
_TAKEN_OVER_S = 30.0
# Beyond the intervals that a result waits for by itself.
_YOUNG_MS = 5_000


@dataclass(frozen=True)
class Hearing:
    """Who hears what: processes that are ready after some seconds, what is being done, and what has happened."""

    ready: Callable[[str, float], None]
    step: Callable[[str], None]
    happened: Callable[[Happened], None]


@dataclass(frozen=True)
class Wanted:
    """What a run shall be. ``code`` takes the place of the job's code, as :func:`surecount.ops.code.pack` made it."""

    seed: int
    minutes: float
    faults: Sequence[Fault]
    rate: float
    keys: int | None
    brokers: int = 3
    taskmanagers: int = 2
    code: bytes | None = None

    def command(self, file: Path) -> str:
        """What runs it again."""
        names = ",".join(fault.name for fault in self.faults)
        return (
            f"surecount chaos {shlex.quote(str(file))} --seed {self.seed} --minutes {self.minutes:g} "
            f"--rate {self.rate:g} {f'--keys {self.keys} ' if self.keys else ''}--brokers {self.brokers} "
            f"--taskmanagers {self.taskmanagers} --faults {names}"
        )


def run(pipeline: Pipeline, file: Path, wanted: Wanted, kept: Path, hearing: Hearing) -> Account:
    """Run it, and say how it went; nothing runs afterwards. Logs are copied to ``kept`` where it failed.

    Raises SurecountError where it cannot be done, and NotRecoveredError where the jobs do not recover.
    """
    check(pipeline, wanted)
    folder = Path(tempfile.mkdtemp(prefix="surecount-chaos-"))
    stack = Stack(folder / "stack")
    failed = True
    try:
        with ExitStack() as stacks:
            moved = _up(stacks, stack, folder, pipeline, wanted, hearing)
            account = _Run(stack, moved, file, wanted, hearing).go()
        failed = not account.passed
    except NotRecoveredError as error:
        raise NotRecoveredError(f"{error.message}\nlogs are in {kept}", exit_code=1) from error
    finally:
        if failed and stack.logs_dir.exists():
            shutil.copytree(stack.logs_dir, kept, dirs_exist_ok=True)
        stack.down(purge=True)
        shutil.rmtree(folder)
    return replace(account, logs=str(kept) if failed else None)


def _up(
    stacks: ExitStack, stack: Stack, folder: Path, pipeline: Pipeline, wanted: Wanted, hearing: Hearing
) -> Pipeline:
    """Start what the pipeline needs; it, on these stacks."""
    # Any one TaskManager can take all of it, at the parallelism of a rescale.
    slots = 2 * len(pipeline.jobs)
    settings = {
        "taskmanager.load-balance.mode": "tasks",
        # By default Flink's answers are up to 3 s old: a moment would be over.
        "web.refresh-interval": "10 ms",
        "rest.cache.checkpoint-statistics.timeout": "10 ms",
    }
    stack.up(
        brokers=wanted.brokers, taskmanagers=wanted.taskmanagers, slots=slots, kafka_port=0, flink_port=0, ha=True,
        flink_settings=settings, on_ready=hearing.ready,
    )  # fmt: skip
    here: dict[str, Any] = {"bootstrap_servers": None, "properties": {}}
    elsewhere = here
    if any(pipeline.is_relayed(pathway) for pathway in pipeline.pathways):
        other = stacks.enter_context(_kafka_only(folder / "other", hearing))
        elsewhere = {**here, "bootstrap_servers": other.bootstrap_servers}
    pathways = [
        pathway.model_copy(update=elsewhere if pipeline.is_relayed(pathway) else here)
        for pathway in pipeline.source.pathway
    ]
    kafka = pipeline.kafka.model_copy(update={"bootstrap_servers": stack.bootstrap_servers, "properties": {}})
    source = pipeline.source.model_copy(update={"pathway": pathways})
    moved = pipeline.model_copy(update={"kafka": kafka, "source": source})
    # Two pathways whose topics have one name on two clusters are one on one.
    return config.parse(moved.model_dump(mode="json"), f"{pipeline.name} with all pathways' clusters as one")


@contextmanager
def _kafka_only(folder: Path, hearing: Hearing) -> Iterator[Stack]:
    other = Stack(folder)
    other.up(flink=False, kafka_port=0, on_ready=lambda name, s: hearing.ready(f"{name} of the other cluster", s))
    try:
        yield other
    finally:
        other.down(purge=True)


class _Run:
    """A run on stacks that are there."""

    def __init__(self, stack: Stack, pipeline: Pipeline, file: Path, wanted: Wanted, hearing: Hearing) -> None:
        self._stack, self._pipeline, self._file, self._wanted, self._hearing = stack, pipeline, file, wanted, hearing
        self._flink = Flink(stack.flink_url)
        self._life = Life(pipeline, file, self._flink, stack.flink_env(), code=wanted.code)

    def go(self) -> Account:
        """All of it."""
        pipeline = self._pipeline
        topics.ensure_source(pipeline, 2)
        topics.ensure_outputs(pipeline)
        self._hearing.step("starting the jobs")
        self._life.start(pipeline.jobs, parallelism=1)
        began_ms = _now_ms()
        options = load_options(pipeline, self._wanted, began_ms)
        planned = plan(pipeline, options, began_ms)
        with Watcher(pipeline, self._flink, self._hearing.happened) as watcher:
            with Load(pipeline, options) as load:
                self._break(watcher, load)
                self._catch_up(watcher, load, began_ms, planned)
                # All windows that end before have closed, too. What is held back to be late is not sent any more.
                closed_ms = watcher.newest_end_ms - planned.hold_ms
                sent = load.end()
            self._hearing.step("auditing")
            with _recovering():
                books = audit(pipeline, history=history(pipeline, self._flink), timeout_s=_AUDIT_S)
                final = committed(pipeline)
                watcher.wait_until_seen(final)
            watcher.check()
        answers = expected(planned).answers
        sent_was = Expected(answers, closed_ms, dict(sent.rejected), planned.out_of_orderness_ms)
        verdict = judge(sent_was, watcher.live, final)
        return self._account(began_ms, watcher, sent, books, verdict)

    def _break(self, watcher: Watcher, load: Load) -> None:
        """Inject faults until the time is over, each once all is well after the one before."""
        injector = Injector(self._stack, self._pipeline, self._flink, self._life, load, watcher.tell)
        self._well(_now_ms())
        for number, step in enumerate(schedule(self._wanted.seed, self._wanted.faults), start=1):
            if time.monotonic() - watcher.began + step.pause_s > self._wanted.minutes * 60:
                return
            time.sleep(step.pause_s)
            self._hearing.step(f"fault {number}: {step.fault.what}")
            injector.inject(step)
            self._hearing.step(f"fault {number}: {step.fault.what}; waiting until all is well")
            self._well(_now_ms(), may_have_ended=step.fault.moment == "rescale")
            watcher.tell("recovered", step.fault.name)
            watcher.check()
            load.check()

    def _well(self, began_ms: int, *, may_have_ended: bool = False) -> None:
        """Wait until all processes are in service, and all jobs have completed a checkpoint that began later."""
        stack, jobs = self._stack, self._pipeline.jobs
        patience_s = _WELL_S + 2 * self._pipeline.checkpoint.interval / 1000

        def missing() -> list[str]:
            return [job for job in jobs if self._last_checkpoint_ms(job) < began_ms]

        def ended() -> list[str]:
            return [job for job in jobs if job not in self._life.running(jobs)]

        with _recovering():
            wait_until(lambda: stack.status().ok, _WELL_S, "a whole stack", poll_s=0.3, seen=stack.status)
            try:  # A JobManager that has just taken over does not know them all yet.
                wait_until(lambda: not ended(), _TAKEN_OVER_S, "all jobs", poll_s=0.3, seen=ended)
            except WaitTimeoutError:
                if not may_have_ended:
                    raise
                # A rescale that failed half way leaves its job stopped, and says so.
                self._life.start(ended())
            wait_until(lambda: not missing(), patience_s, "a checkpoint of each job", poll_s=0.3, seen=missing)

    def _last_checkpoint_ms(self, job: str) -> int:
        """When the last one that was completed began; 0 where there is none."""
        try:
            running = self._flink.running(job_name(self._pipeline, job))
            found = running and self._flink.checkpoints(running.id)["latest"]["completed"]
        except SurecountError:  # while a JobManager takes over
            return 0
        return int(found["trigger_timestamp"]) if found else 0

    def _catch_up(self, watcher: Watcher, load: Load, began_ms: int, planned: Plan) -> None:
        """Wait until results are as young as they get."""
        shortest = _shortest_ms(self._pipeline)
        # A window is over, what is late has passed, and each job has committed, at worst just after it could. And
        # events began with their window, so their clock is behind.
        checkpoints = 2 * len(self._pipeline.jobs) * self._pipeline.checkpoint.interval
        young_ms = shortest + planned.out_of_orderness_ms + checkpoints + _YOUNG_MS + began_ms - planned.start_ms

        def age_ms() -> int:
            watcher.check()
            load.check()
            return _now_ms() - watcher.newest_end_ms

        self._hearing.step("waiting until results are young again")
        what = f"results younger than {young_ms / 1000:g} s"
        with _recovering():
            wait_until(lambda: age_ms() < young_ms, _WELL_S + 2 * shortest / 1000, what, seen=age_ms)

    def _account(self, began_ms: int, watcher: Watcher, sent: Summary, books: Report, verdict: Verdict) -> Account:
        return Account(
            pipeline=self._pipeline.name,
            seed=self._wanted.seed,
            command=self._wanted.command(self._file),
            began=datetime.fromtimestamp(began_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            seconds=round(sent.elapsed_s, 1),
            records=sent.records,
            happened=tuple(watcher.happened),
            sent=tuple(sorted(watcher.sent.items())),
            results=tuple(sorted(watcher.results.items())),
            books=books,
            verdict=verdict,
            notes=sent.notes,
        )


class NotRecoveredError(SurecountError):
    """The jobs did not come back from a fault in time."""


@contextmanager
def _recovering() -> Iterator[None]:
    try:
        yield
    except WaitTimeoutError as error:
        raise NotRecoveredError(f"not recovered: {error.message}", exit_code=1) from error


def load_options(pipeline: Pipeline, wanted: Wanted, start_ms: int) -> Options:
    """The events of a run that begins at a time, in ms since 1970."""
    return Options(
        events=int(wanted.rate * 60 * (wanted.minutes + _SPARE_MINUTES)), keys=wanted.keys, rate=wanted.rate,
        seed=wanted.seed, late=0.005, bad=0.005, duplicates=0.01 if pipeline.has_ingest else 0.0,
        disorder_ms=pipeline.source.out_of_orderness // 2, partitions=2, start_ms=start_ms,
    )  # fmt: skip


def check(pipeline: Pipeline, wanted: Wanted) -> None:
    """Raise SurecountError where no such events can be made, or no window would be judged."""
    now_ms = _now_ms()
    planned = plan(pipeline, load_options(pipeline, wanted, now_ms), now_ms)
    shortest_ms = _shortest_ms(pipeline)
    needed_ms = planned.hold_ms + 3 * shortest_ms
    if wanted.minutes * 60_000 < needed_ms:
        raise SurecountError(
            f"--minutes {wanted.minutes:g}: no window would be judged, the shortest is {format_duration(shortest_ms)}",
            f"give --minutes {needed_ms / 60_000 + 1:.0f} or more",
        )


def _shortest_ms(pipeline: Pipeline) -> int:
    return min(aggregate.window_ms for aggregate in pipeline.spec().aggregates)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
