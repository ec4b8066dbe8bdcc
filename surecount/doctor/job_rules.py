"""Rules over running jobs: ``status`` and ``doctor`` judge by the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from surecount.config import format_duration
from surecount.doctor.facts import Facts, JobFacts, KafkaFacts, Unseen, UnseenError, seen
from surecount.doctor.findings import Finding
from surecount.doctor.words import about, moment
from surecount.ops.ledger import Lost, Run, begun
from surecount.ops.submit import job_name

RECENT_MS = 600_000
"""A job that restarted is worth an alarm for so long."""

LONG_IDLE_MS = 300_000


def judged(job: JobFacts, now_ms: int) -> list[Finding]:
    """All that can be said of one running job: restarts, commits, and checkpoints where it makes any."""
    checkpoints_ = [] if job.interval_ms is None else [of_checkpoints(job, now_ms)]
    return [of_restarts(job, now_ms), *checkpoints_, of_commits(job)]


def of_restarts(job: JobFacts, now_ms: int) -> Finding:
    """A restart is an alarm until a checkpoint was completed after it, and for ten minutes."""
    if not job.restarts:
        return Finding("ok", f"{job.name} did not restart")
    if job.restarted_ms is None:
        return Finding("warn", f"{job.name} restarted {job.restarts} time(s){_because(job.cause)}")
    age = now_ms - job.restarted_ms
    told = f"{job.name} restarted {job.restarts} time(s), the last {about(age)} ago{_because(job.cause)}"
    if job.completed_ms is None or job.completed_ms < job.restarted_ms:
        return Finding("fail", f"{told}; it has completed no checkpoint since")
    return Finding("fail" if age < RECENT_MS else "warn", told)


def _because(cause: str) -> str:
    return f": {cause}" if cause else ""


def of_checkpoints(job: JobFacts, now_ms: int) -> Finding:
    """The last checkpoint must not have failed, nor be long ago."""
    if job.interval_ms is None or job.timeout_ms is None:
        return Finding("fail", f"{job.name} makes no checkpoints: nothing that it writes is ever committed")
    if job.failed_in_a_row:
        return Finding(
            "fail",
            f"{job.name}: the last {job.failed_in_a_row} checkpoint(s) failed{_because(job.failed_why)}",
        )
    age = now_ms - max(job.completed_ms or 0, job.restarted_ms or 0, job.started_ms)
    when = f"completed its last checkpoint {about(age)} ago" if job.completed_ms else "has completed no checkpoint yet"
    told = f"{job.name} {when}, every {format_duration(job.interval_ms)} is wanted"
    if age > job.interval_ms + job.timeout_ms:
        return Finding("fail", told)
    if age > 3 * job.interval_ms + 10_000:
        return Finding("warn", told)
    failed = f"; {job.failed_lately} failed before it" if job.failed_lately else ""
    return Finding("ok", told + failed)


def of_commits(job: JobFacts) -> Finding:
    """A transaction that could not be committed is gone, and the job runs on."""
    if not isinstance(job.lost, Unseen):
        return of_lost(job.name, job.lost)
    if failed := {operator: number for operator, number in job.failed_commits.items() if number}:
        return Finding("fail", f"{job.name}: commits failed since its last restart: {_commits(failed)}")
    return Finding("ok", f"{job.name}: no commit failed since its last restart")


def of_lost(name: str, lost: Iterable[Lost]) -> Finding:
    """The same, of all that the ledger remembers of a job."""
    if told := [f"{_commits(one.commits)} in run {one.number}, seen {moment(one.at_ms)}" for one in lost]:
        return Finding("fail", f"{name}: commits failed: {'; '.join(told)}")
    return Finding("ok", f"{name}: no commit was seen to fail")


def _commits(failed: Mapping[str, int]) -> str:
    return ", ".join(f"{number} of {sink}" for sink, number in failed.items() if number)


def running(facts: Facts) -> Iterator[Finding]:
    """A job that was started and not stopped runs."""
    jobs, runs = seen(facts.jobs), seen(facts.runs)
    for name in facts.pipeline.jobs:
        job, last = jobs[name], _last(runs.get(name, ()))
        if job is not None and job.beside:
            ids = ", ".join((job.id, *job.beside))
            yield Finding(
                "fail",
                f"{name} runs {1 + len(job.beside)} times, as jobs {ids}: each writes everything",
                "cancel all but the newest run of `surecount snapshots PIPELINE` (Flink's UI, or `flink cancel ID`); "
                "`surecount audit` names what is there twice",
            )
        elif job is not None and job.state == "RUNNING":
            yield Finding("ok", f"{name} runs as {job.id}")
        elif job is not None:
            yield Finding("warn", f"{name} is {job.state}{_because(job.cause)}")
        elif last is None:
            yield Finding("ok", f"{name} was never started")
        elif last.bounded:
            yield Finding("ok", f"{name} had a bounded run, {last.number}")
        elif last.stopped_with:
            yield Finding("ok", f"{name} was stopped with a savepoint")
        else:
            yield Finding("fail", f"{name} does not run, and run {last.number} ({last.job_id}) was not stopped")


def _last(runs: tuple[Run, ...]) -> Run | None:
    return next(reversed(begun(runs)), None)


def _running(facts: Facts) -> Iterator[tuple[str, JobFacts]]:
    """The jobs that run, by name."""
    for name, job in seen(facts.jobs).items():
        if job is not None:
            yield name, job


def restarts(facts: Facts) -> Iterator[Finding]:
    """Restarts of the jobs that run."""
    yield from [of_restarts(job, facts.now_ms) for _, job in _running(facts)] or _NONE_RUNS


def checkpoints(facts: Facts) -> Iterator[Finding]:
    """Checkpoints of the jobs that run."""
    yield from [of_checkpoints(job, facts.now_ms) for _, job in _running(facts)] or _NONE_RUNS


def failed_commits(facts: Facts) -> Iterator[Finding]:
    """Commits of the jobs that run, and what the ledger remembers of the others."""
    told = False
    for name, job in seen(facts.jobs).items():
        if job is not None:
            told = True
            yield of_commits(job)
        elif lost := facts.lost.get(name):
            told = True
            yield of_lost(job_name(facts.pipeline, name), lost)
    if not told:
        yield from _NONE_RUNS


_NONE_RUNS = [Finding("ok", "no job runs")]


def slots(facts: Facts) -> Iterator[Finding]:
    """There are slots for the jobs that don't run."""
    found = seen(facts.slots)
    needed = sum(found.needed.values())
    told = f"{found.free} slot(s) are free, {needed} needed" + (
        f" by {', '.join(found.needed)}" if found.needed else ", as no job is to be started"
    )
    yield Finding("warn" if needed > found.free else "ok", told)


def parallelism(facts: Facts) -> Iterator[Finding]:
    """Subtasks of a source beyond its partitions read nothing."""
    runs = seen(facts.runs)
    started = {name: runs[name][-1] for name in facts.pipeline.jobs if runs.get(name)}
    yield from _each(started, lambda name: _parallelism(facts, name, started[name]))
    if not started:
        yield Finding("ok", "no job was started yet")


def _parallelism(facts: Facts, name: str, last: Run) -> Finding:
    partitions = len(_inputs(facts, name))
    told = f"{name} has parallelism {last.parallelism}, and {partitions} partitions to read"
    return Finding("warn" if last.parallelism > partitions else "ok", told)


def idle_partitions(facts: Facts) -> Iterator[Finding]:
    """Windows wait for a partition without records, but no longer than ``idle_after``."""
    # A relay has no windows, and no watermark.
    names = [name for name in facts.pipeline.jobs if facts.pipeline.pathway_of(name) is None]
    yield from _each(names, lambda name: _idle(facts, name))


def _idle(facts: Facts, name: str) -> Finding:
    wait = facts.pipeline.source.idle_after
    offsets = seen(seen(facts.cluster_of(name)).offsets)
    inputs = _inputs(facts, name)
    empty = [place for place in inputs if place in offsets and offsets[place].high == offsets[place].low]
    told = f"{name}: {len(empty)} of {len(inputs)} partitions are empty"
    waits = f", and windows wait up to {format_duration(wait)} for each that is (source.idle_after)"
    return Finding("warn" if empty and wait > LONG_IDLE_MS else "ok", told + (waits if empty else ""))


def _each(jobs: Iterable[str], judge: Callable[[str], Finding]) -> Iterator[Finding]:
    """A finding for each job: one whose facts were not seen leaves the others."""
    for name in jobs:
        try:
            yield judge(name)
        except UnseenError as error:
            yield Finding("unknown", f"{name}: {error}")


def _inputs(facts: Facts, job: str) -> list[tuple[str, int]]:
    """The partitions that a job reads; but for replays, which come seldom, and which nothing waits for."""
    kafka: KafkaFacts = seen(facts.cluster_of(job))
    names = [name for name in facts.pipeline.reads(job)[1] if name != facts.pipeline.topics.replay]
    found = [place for place in kafka.copies if place[0] in names]
    if not found:
        raise UnseenError(f"{', '.join(names)} is not there")
    return found
