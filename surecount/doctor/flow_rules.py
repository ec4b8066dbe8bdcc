"""Rules over what comes out of a job while records come in; ``status`` and ``doctor`` judge by the same ones.

A job may run without a restart, complete its checkpoints, and be of no use: its watermark is in the future, so that
all that comes is late; or stands still, so that no window closes; or most of what comes is rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from surecount.config import Pipeline
from surecount.doctor.facts import Facts, Flow, JobFacts, Unseen, seen
from surecount.doctor.findings import Finding
from surecount.doctor.words import about, listed, moment
from surecount.ops.ledger import Run
from udfs import flows

CLOCKS_MS = 60_000
"""How far the clocks of two machines may be apart."""

STILL_MS = 30_000
"""Windows wait for longer than this, and than a silent partition takes to be idle, before it is told."""

BEHIND_S = 10.0
"""A job that needs longer than this for what waits to be read is catching up."""

JUMP_SHARE = 0.05
JUMP_FACTOR = 5
"""A share has jumped where it is as much as this, and so many times the usual."""
LEAST = 50
"""Fewer events say nothing of a share."""
LEAST_USUAL = 1_000
"""What is usual is known from so many records on."""
MOST_REJECTED = 0.5
"""A pipeline that rejects more than this is not for what its topics hold, however usual that is."""

_FUTURE_MEND = (
    "no watermark passes the clock of its TaskManager: set the clocks right (NTP), then stop and start the job, as "
    "snapshots keep no watermark. Ingest keeps what it has forgotten: its records are beyond_horizon until then, and "
    "`surecount rejects replay` brings them in"
)
_WAIT_MEND = "see what the partition's producers send: records from an old clock hold the watermark where it is"


@dataclass(frozen=True)
class Watched:
    """A job that runs: ``name`` is Flink's, ``bounded`` one that closes its windows at the end of its input."""

    name: str
    flow: Flow
    pipeline: Pipeline
    now_ms: int
    bounded: bool = False


Judge = Callable[[Watched], Iterable[Finding]]


def of_watermark(job: Watched) -> Iterator[Finding]:
    """The watermark is not in the future, and windows do not wait for it."""
    flow, latest = job.flow, job.now_ms + job.pipeline.source.max_ahead + CLOCKS_MS
    if flow.watermark_ms is not None and flow.watermark_ms > latest:
        yield Finding(
            "fail",
            f"{job.name}: its watermark is {moment(flow.watermark_ms)}, {about(flow.watermark_ms - job.now_ms)} in the "
            "future: all that is sent until then is late, or beyond the horizon",
            _FUTURE_MEND,
        )
        return
    marks = {where: split.watermark_ms or 0 for where, split in flow.splits.items()}
    if ahead := {where: mark for where, mark in marks.items() if mark > latest}:
        yield Finding(
            "fail",
            f"{job.name}: the watermark of {listed(ahead)} is in the future, {moment(max(ahead.values()))}: once the "
            "other partitions are idle, all that is sent until then is late, or beyond the horizon",
            _FUTURE_MEND,
        )
        return
    yield _windows(job)


def _windows(job: Watched) -> Finding:
    flow = job.flow
    where = f"its watermark is {moment(flow.watermark_ms)}" if flow.watermark_ms else "it has no watermark yet"
    if flow.newest_ms is None or job.bounded or not _wait(job):
        return Finding("ok", f"{job.name}: {where}")
    lagging = _lagging(job)
    told = (
        f"{job.name}: {where}, while windows up to {moment(flow.newest_ms)} have had records, for "
        f"{about(job.now_ms - (flow.since_ms or job.now_ms))} now: none of them closes before it comes there"
        + (f"; it waits for {listed(lagging)}" if lagging else "")
    )
    # Where all pathways are relayed, windows wait for the one that is late, as documented.
    by_design = job.pipeline.has_ingest and all(map(job.pipeline.is_relayed, job.pipeline.pathways))
    return Finding("warn" if by_design and not _stands(job) else "fail", told, _WAIT_MEND)


def _wait(job: Watched) -> bool:
    """Whether windows have waited for too long, and not only until the job has caught up."""
    flow = job.flow
    ahead = float("inf") if flow.watermark_ms is None else (flow.newest_ms or 0) - flow.watermark_ms
    if ahead <= job.pipeline.watermark_patience or not _long_ago(job, flow.since_ms):
        return False
    return _stands(job) or flow.pending <= flow.rate * BEHIND_S


def _stands(job: Watched) -> bool:
    """Whether the watermark has not moved for too long."""
    return _long_ago(job, job.flow.moved_ms)


def _long_ago(job: Watched, at_ms: int | None) -> bool:
    return at_ms is not None and job.now_ms - at_ms > job.pipeline.source.idle_after + STILL_MS


def _lagging(job: Watched) -> list[str]:
    """The partitions that others wait for."""
    marks = {where: split.watermark_ms or 0 for where, split in job.flow.splits.items() if not split.idle}
    furthest = max(marks.values(), default=0)
    return sorted(where for where, mark in marks.items() if furthest - mark > job.pipeline.watermark_patience)


def of_shares(job: Watched) -> Iterator[Finding]:
    """The shares of records that are rejected, duplicates, or late are what they use to be."""
    recent = job.flow.recent
    faults = [*_jumps(job), *_mostly_rejected(job)]
    yield from faults
    if not faults:
        span, records = about(flows.SPANS_S["recent"] * 1000), recent.get(flows.RECORDS, 0)
        others = sum(number for kind, number in recent.items() if kind != flows.RECORDS)
        yield Finding(
            "ok", f"{job.name}: {records:,} records in the last {span}, {others:,} rejected, duplicate or late"
        )


def _mostly_rejected(job: Watched) -> Iterator[Finding]:
    records = job.flow.recent.get(flows.RECORDS, 0)
    rejected = {
        kind.removeprefix(flows.REJECTED): number
        for kind, number in job.flow.recent.items()
        if kind.startswith(flows.REJECTED)
    }
    if (all_ := sum(rejected.values())) >= max(LEAST, MOST_REJECTED * records):
        most = max(rejected, key=rejected.__getitem__)
        yield Finding(
            "fail", f"{job.name}: {all_:,} of the last {records:,} records were rejected, most of them as {most}"
        )


def _jumps(job: Watched) -> Iterator[Finding]:
    recent, before = job.flow.recent, job.flow.before
    records, usual = recent.get(flows.RECORDS, 0), before.get(flows.RECORDS, 0)
    for kind, number in sorted(recent.items()):
        # Of events that come on several pathways, all but one are duplicates, and all of one that catches up.
        if kind == flows.RECORDS or (kind == flows.DUPLICATES and len(job.pipeline.pathways) > 1):
            continue
        if jumped(number, records, before.get(kind, 0), usual):
            yield Finding(
                "fail",
                f"{job.name}: {number:,} of the last {records:,} records {_called(kind)}, that is "
                f"{number / records:.1%}; before that it was {before.get(kind, 0) / usual:.1%}",
            )


def jumped(number: int, records: int, before: int, usual: int) -> bool:
    """Whether ``number`` of ``records`` is a share far above that of ``before`` of ``usual``."""
    if number < LEAST or usual < LEAST_USUAL or not records:
        return False
    share = number / records
    return share >= JUMP_SHARE and share >= JUMP_FACTOR * before / usual


def _called(kind: str) -> str:
    if kind.startswith(flows.REJECTED):
        return f"were rejected as {kind.removeprefix(flows.REJECTED)}"
    if kind.startswith(flows.LATE):
        return f"came too late for their windows of {kind.removeprefix(flows.LATE)}"
    return "were duplicates"


def of_job(facts: JobFacts, pipeline: Pipeline, name: str, run: Run, now_ms: int) -> list[Finding]:
    """What ``status`` says of a job of a pipeline that runs, of which ``name`` is the pipeline's."""
    return [*_judged(lambda job: [*of_watermark(job), *of_shares(job)], facts, pipeline, name, run, now_ms)]


def _judged(
    judge: Judge, facts: JobFacts, pipeline: Pipeline, name: str, run: Run | None, now_ms: int
) -> Iterator[Finding]:
    if pipeline.pathway_of(name) is not None:
        return  # a relay has neither windows nor Python
    if isinstance(facts.flow, Unseen):
        yield Finding("unknown", f"{facts.name}: watermark and rejects were not looked at: {facts.flow.why}")
    elif not facts.flow.recent:
        yield Finding("unknown", f"{facts.name}: its workers have not told yet; they do once they had records")
    else:
        yield from judge(Watched(facts.name, facts.flow, pipeline, now_ms, run is not None and run.bounded))


def watermarks(facts: Facts) -> Iterator[Finding]:
    """Watermarks of the jobs that run."""
    yield from _each(of_watermark, facts)


def shares(facts: Facts) -> Iterator[Finding]:
    """What becomes of the records of the jobs that run."""
    yield from _each(of_shares, facts)


def _each(judge: Judge, facts: Facts) -> Iterator[Finding]:
    runs = {} if isinstance(facts.runs, Unseen) else facts.runs
    found: list[Finding] = []
    for name, job in seen(facts.jobs).items():
        if job is not None:
            run = next((run for run in runs.get(name, ()) if run.job_id == job.id), None)
            found += _judged(judge, job, facts.pipeline, name, run, facts.now_ms)
    yield from found or [Finding("ok", "no job with windows or ids runs")]
