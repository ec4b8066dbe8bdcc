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
from surecount.chaos.schedule import TRANSACTION_TIMEOUT_S, Fault, schedule
from surecount.chaos.seen import Account, Expected, Happened, Verdict
from surecount.chaos.watcher import Watcher, committed
from surecount.config import Pipeline, format_duration
from surecount.doctor import diagnose
from surecount.errors import SurecountError
from surecount.generate import Summary
from surecount.generator.answers import expected
from surecount.generator.options import Options
from surecount.generator.plan import Plan, plan
from surecount.kafka.grants import grant
from surecount.kafka.rights import needed, principal
from surecount.local.flink import quickly_compiled
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
# Brokers look every 10 s by default, so that what is too old may be committed all the same.
_KAFKA_SETTINGS = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "100"}


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
    secure: bool = False

    @property
    def may_lose(self) -> bool:
        """Whether a fault may lose records, which must be told then."""
        return any(fault.loses for fault in self.faults)

    def command(self, file: Path) -> str:
        """What runs it again."""
        names = ",".join(fault.name for fault in self.faults)
        return (
            f"surecount chaos {shlex.quote(str(file))} --seed {self.seed} --minutes {self.minutes:g} "
            f"--rate {self.rate:g} {f'--keys {self.keys} ' if self.keys else ''}--brokers {self.brokers} "
            f"--taskmanagers {self.taskmanagers} {'--secure ' if self.secure else ''}--faults {names}"
        )


def run(pipeline: Pipeline, file: Path, wanted: Wanted, kept: Path, hearing: Hearing) -> Account:
    """Run it, and say how it went; nothing runs afterwards. Logs are copied to ``kept`` where it failed.

    Raises SurecountError where it cannot be done. Jobs that do not recover are a ``failure`` of the account.
    """
    check(pipeline, wanted)
    folder = Path(tempfile.mkdtemp(prefix="surecount-chaos-"))
    stack = Stack(folder / "stack", is_owned=True)
    failed = True
    try:
        with ExitStack() as stacks:
            moved = _up(stacks, stack, folder, pipeline, wanted, hearing)
            account = _Run(stack, moved, file, wanted, hearing).go()
        failed = not account.passed
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
        **quickly_compiled(),
        "taskmanager.load-balance.mode": "tasks",
        # By default Flink's answers are up to 3 s old: a moment would be over.
        "web.refresh-interval": "10 ms",
        "rest.cache.checkpoint-statistics.timeout": "10 ms",
    }
    stack.up(
        brokers=wanted.brokers, taskmanagers=wanted.taskmanagers, slots=slots, kafka_port=0, flink_port=0, ha=True,
        secure=wanted.secure, flink_settings=settings, kafka_settings=_KAFKA_SETTINGS, on_ready=hearing.ready,
    )  # fmt: skip
    used = [stack]
    here: dict[str, Any] = {"bootstrap_servers": None, "properties": {}, "security": None}
    elsewhere = here
    if any(pipeline.is_relayed(pathway) for pathway in pipeline.pathways):
        other = stacks.enter_context(_kafka_only(folder / "other", hearing, secure=wanted.secure))
        elsewhere = {**here, **_clients(other)}
        used.append(other)
    pathways = [
        pathway.model_copy(update=elsewhere if pipeline.is_relayed(pathway) else here)
        for pathway in pipeline.source.pathway
    ]
    kafka = pipeline.kafka.model_copy(update={**here, **_clients(stack)})
    source = pipeline.source.model_copy(update={"pathway": pathways})
    moved = pipeline.model_copy(update={"kafka": kafka, "source": source})
    if wanted.may_lose:
        sink = pipeline.sink.model_copy(update={"transaction_timeout": round(TRANSACTION_TIMEOUT_S * 1000)})
        moved = moved.model_copy(update={"sink": sink})
    # Two pathways whose topics have one name on two clusters are one on one.
    moved = config.parse(moved.model_dump(mode="json"), f"{pipeline.name} with all pathways' clusters as one")
    if wanted.secure:
        rights = needed(moved)
        for one in used:
            of_cluster = [need.right for need in rights if need.kafka.bootstrap_servers == one.bootstrap_servers]
            grant(one.kafka_as_admin, of_cluster, principal(one.kafka))
    return moved


def _clients(stack: Stack) -> dict[str, Any]:
    """How clients come to a stack, as a pipeline file says it."""
    return {"bootstrap_servers": stack.kafka.bootstrap_servers, "security": stack.kafka.security}


@contextmanager
def _kafka_only(folder: Path, hearing: Hearing, *, secure: bool) -> Iterator[Stack]:
    other = Stack(folder, is_owned=True)
    other.up(
        flink=False, kafka_port=0, secure=secure,
        on_ready=lambda name, s: hearing.ready(f"{name} of the other cluster", s),
    )  # fmt: skip
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
        self._told: list[str] = []

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
            try:
                return self._judged(watcher, options, planned, began_ms)
            except WaitTimeoutError as error:
                failure = f"not recovered: {error.message}"
                watcher.tell("note", failure)
                return self._account(began_ms, watcher, None, None, Verdict((), 0, 0, 0, 0), failure)

    def _judged(self, watcher: Watcher, options: Options, planned: Plan, began_ms: int) -> Account:
        pipeline = self._pipeline
        with Load(pipeline, options) as load:
            young_ms = self._young_ms(began_ms, planned)
            self._break(watcher, load, young_ms)
            # All windows that end before have closed, too. What is held back to be late is not sent any more.
            closed_ms = watcher.newest_end_ms - planned.hold_ms
            sent = load.end()
        self._hearing.step("auditing")
        books = audit(pipeline, history=history(pipeline, self._flink), timeout_s=_AUDIT_S)
        final = committed(pipeline)
        watcher.wait_until_seen(final)
        watcher.check()
        self._hearing.step("judging")
        answers = expected(planned).answers
        sent_was = Expected(answers, closed_ms, dict(sent.rejected), planned.out_of_orderness_ms)
        return self._account(began_ms, watcher, sent, books, judge(sent_was, watcher.live, final))

    def _break(self, watcher: Watcher, load: Load, young_ms: int) -> None:
        """Inject faults until the time is over, each once all is well after the one before, and so at the end."""
        injector = Injector(self._stack, self._pipeline, self._flink, self._life, load, watcher.tell)
        self._well(_now_ms())
        self._catch_up(watcher, load, young_ms)
        for number, step in enumerate(schedule(self._wanted.seed, self._wanted.faults), start=1):
            if time.monotonic() - watcher.began + step.pause_s > self._wanted.minutes * 60:
                return
            time.sleep(step.pause_s)
            self._hearing.step(f"fault {number}: {step.fault.what}")
            injector.inject(step)
            self._hearing.step(f"fault {number}: {step.fault.what}; waiting until all is well")
            self._well(_now_ms(), may_have_ended=step.fault.moment == "rescale")
            watcher.tell("recovered", step.fault.name)
            if step.fault.loses:
                self._ask_doctor(watcher)
            self._catch_up(watcher, load, young_ms)

    def _ask_doctor(self, watcher: Watcher) -> None:
        """Keep what the doctor says of commits, and nothing else: all that is broken is so on purpose."""
        for row in diagnose(self._pipeline, self._flink, self._stack.flink_env()):
            if row.check.id == "failed_commits" and row.state == "fail":
                for finding in row.telling:
                    self._told.append(finding.seen)
                    watcher.tell("note", f"doctor: {finding.seen}")

    def _well(self, began_ms: int, *, may_have_ended: bool = False) -> None:
        """Wait until all processes are in service, and all jobs have completed a checkpoint that began later."""
        stack, jobs = self._stack, self._pipeline.jobs
        patience_s = _WELL_S + 2 * self._pipeline.checkpoint.interval / 1000

        def missing() -> list[str]:
            return [job for job in jobs if self._last_checkpoint_ms(job) < began_ms]

        def ended() -> list[str]:
            return [job for job in jobs if job not in self._life.running(jobs)]

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

    def _young_ms(self, began_ms: int, planned: Plan) -> int:
        """How old the newest result may be where nothing is held up."""
        # A window is over, what is late has passed, and each job has committed, at worst just after it could. And
        # events began with their window, so their clock is behind.
        checkpoints = 2 * len(self._pipeline.jobs) * self._pipeline.checkpoint.interval
        behind_ms = began_ms - planned.start_ms
        return int(_shortest_ms(self._pipeline) + planned.out_of_orderness_ms + checkpoints + _YOUNG_MS + behind_ms)

    def _catch_up(self, watcher: Watcher, load: Load, young_ms: int) -> None:
        """Wait until what came meanwhile is counted. Without that a run would soon be nothing but one backlog."""

        def age_ms() -> int:
            watcher.check()
            load.check()
            return _now_ms() - watcher.newest_end_ms

        self._hearing.step("waiting until results are young again")
        what = f"results younger than {young_ms / 1000:g} s (a lower --rate needs less time)"
        wait_until(lambda: age_ms() < young_ms, _WELL_S + 2 * _shortest_ms(self._pipeline) / 1000, what, seen=age_ms)

    def _account(
        self,
        began_ms: int,
        watcher: Watcher,
        sent: Summary | None,
        books: Report | None,
        verdict: Verdict,
        failure: str | None = None,
    ) -> Account:
        return Account(
            pipeline=self._pipeline.name,
            seed=self._wanted.seed,
            command=self._wanted.command(self._file),
            began=datetime.fromtimestamp(began_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            seconds=round(sent.elapsed_s if sent else time.monotonic() - watcher.began, 1),
            records=sent.records if sent else watcher.sent.total(),
            happened=tuple(watcher.happened),
            sent=tuple(sorted(watcher.sent.items())),
            results=tuple(sorted(watcher.results.items())),
            books=books,
            verdict=verdict,
            notes=sent.notes if sent else (),
            failure=failure,
            told=tuple(self._told) if self._wanted.may_lose else None,
        )


def load_options(pipeline: Pipeline, wanted: Wanted, start_ms: int) -> Options:
    """The events of a run that begins at a time, in ms since 1970."""
    disorder_ms = pipeline.source.out_of_orderness // 2
    return Options(
        events=int(wanted.rate * 60 * (wanted.minutes + _SPARE_MINUTES)), keys=wanted.keys, rate=wanted.rate,
        seed=wanted.seed, late=0.005, bad=0.005, duplicates=0.01 if pipeline.has_ingest else 0.0,
        disorder_ms=disorder_ms, partitions=2, start_ms=start_ms,
        skew_ms=0 if pipeline.source.event_time == "kafka" else max(0, pipeline.source.max_ahead // 2 - disorder_ms),
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
