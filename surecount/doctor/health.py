"""The health of a cluster's jobs, by the same rules as the doctor's: ``surecount status``."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from surecount.doctor import flow_rules, topic_ids
from surecount.doctor.ask_flink import job_facts, remembered
from surecount.doctor.ask_kafka import tried
from surecount.doctor.facts import JobFacts, Unseen
from surecount.doctor.findings import Finding
from surecount.doctor.job_rules import judged, of_lost
from surecount.kafka.refusals import mend_of
from surecount.ops import metrics
from surecount.ops.flink import RUNNING_STATES, Flink, Job
from surecount.ops.ledger import Ledger, Run
from surecount.ops.snapshots import Folders

_FINE = ("RUNNING", "FINISHED", "CANCELED")
# Flink tells little of others, that begin or end.
_JUDGED = ("RUNNING", "RESTARTING", "FAILING")

_OURS = re.compile(r"\.(aggregate|ingest|relay\.[^.]+)$")


@dataclass(frozen=True)
class JobHealth:
    """A job as Flink lists it; what is wrong with it, and what is worth a look."""

    id: str
    name: str
    state: str
    started_ms: int
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def of_jobs(flink: Flink) -> list[JobHealth]:
    """The health of all jobs, the newest first. One that a newer job of its name replaced is no problem any more."""
    jobs = flink.jobs()
    newest = {job.name: job for job in reversed(jobs)}
    doubled = runs_twice(jobs)
    cluster = _Cluster(flink, tried(lambda: Folders.of(flink)), tried(lambda: metrics.refresh(flink)))
    return [_of_job(cluster, job, doubled.get(job.id), replaced=newest[job.name] != job) for job in jobs]


def runs_twice(jobs: Sequence[Job]) -> dict[str, str]:
    """What is wrong with jobs of ours that run beside another one of their name, by their ids; other programs may."""
    running: dict[str, list[str]] = {}
    for job in jobs:
        if job.state in RUNNING_STATES and job.state != "CANCELLING" and _OURS.search(job.name):
            running.setdefault(job.name, []).append(job.id)
    return {
        job_id: f"{name} runs {len(ids)} times, as jobs {', '.join(ids)}: each writes everything"
        for name, ids in running.items()
        if len(ids) > 1
        for job_id in ids
    }


@dataclass(frozen=True)
class _Cluster:
    """Flink, where its snapshots are, and why its metrics are not of now, if so."""

    flink: Flink
    folders: Folders | Unseen
    stale: Unseen | None

    def ledger(self, job: Job) -> Ledger | Unseen:
        return self.folders if isinstance(self.folders, Unseen) else Ledger.named(self.folders.savepoints, job.name)

    def facts(self, job: Job, topics: Collection[str] = ()) -> JobFacts:
        return job_facts(self.flink, job, topics, self.stale)


def _of_job(cluster: _Cluster, job: Job, doubled: str | None, *, replaced: bool) -> JobHealth:
    problems: list[str] = [doubled] if doubled else []
    findings: list[Finding] = []
    if job.state not in _FINE and not replaced:
        cause = cluster.flink.cause(job.id)
        problems.append(f"{job.name} is {job.state}{f': {cause}' if cause else ''}")
    ledger = cluster.ledger(job)
    if job.state in _JUDGED:
        findings = [*_judged(cluster, job, ledger), *topic_ids.of_named(cluster.flink, job)]
    elif not replaced and not isinstance(ledger, Unseen):
        lost = tried(ledger.lost)
        findings = [Finding("unknown", lost.why) if isinstance(lost, Unseen) else of_lost(job.name, lost)]
    problems += [finding.seen for finding in findings if finding.state == "fail"]
    notes = [finding.seen for finding in findings if finding.state in ("warn", "unknown")]
    notes += {mend: None for problem in problems if (mend := mend_of(problem))}
    return JobHealth(job.id, job.name, job.state, job.started_ms, tuple(problems), tuple(notes))


def _judged(cluster: _Cluster, job: Job, ledger: Ledger | Unseen) -> list[Finding]:
    """All findings of a job that runs; what could not be looked at is one of them.

    What the ledger does not know is not one of ours, and judged by what Flink says of any job.
    """
    now_ms = time.time_ns() // 1_000_000
    run = ledger if isinstance(ledger, Unseen) else tried(lambda: _run(ledger, job))
    pipeline = tried(run.pipeline) if isinstance(run, Run) else run
    if pipeline is None:
        return judged(cluster.facts(job), now_ms)
    if isinstance(pipeline, Unseen) or not isinstance(run, Run) or isinstance(ledger, Unseen):
        why = pipeline.why if isinstance(pipeline, Unseen) else ""
        unseen = Finding("unknown", f"{job.name}: watermark and rejects were not looked at: {why}")
        return [*judged(cluster.facts(job), now_ms), unseen]
    name = job.name.removeprefix(f"{pipeline.name}.")
    facts = remembered(ledger, cluster.facts(job, pipeline.reads(name)[1]))
    return [*judged(facts, now_ms), *flow_rules.of_job(facts, pipeline, name, run, now_ms)]


def _run(ledger: Ledger, job: Job) -> Run | None:
    return next((run for run in ledger.runs() if run.job_id == job.id), None)
