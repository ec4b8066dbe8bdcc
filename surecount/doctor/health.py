"""The health of a cluster's jobs, by the same rules as the doctor's: ``surecount status``."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from surecount.doctor import topic_ids
from surecount.doctor.ask_flink import job_facts
from surecount.doctor.job_rules import judged
from surecount.kafka.refusals import mend_of
from surecount.ops.flink import RUNNING_STATES, Flink, Job

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
    return [_of_job(flink, job, doubled.get(job.id), replaced=newest[job.name] != job) for job in jobs]


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


def _of_job(flink: Flink, job: Job, doubled: str | None, *, replaced: bool) -> JobHealth:
    problems, notes = [doubled] if doubled else [], []
    if job.state not in _FINE and not replaced:
        cause = flink.cause(job.id)
        problems.append(f"{job.name} is {job.state}{f': {cause}' if cause else ''}")
    if job.state in _JUDGED:
        findings = [*judged(job_facts(flink, job), time.time_ns() // 1_000_000), *topic_ids.of_named(flink, job)]
        problems += [finding.seen for finding in findings if finding.state == "fail"]
        notes = [finding.seen for finding in findings if finding.state in ("warn", "unknown")]
    notes += {mend: None for problem in problems if (mend := mend_of(problem))}
    return JobHealth(job.id, job.name, job.state, job.started_ms, tuple(problems), tuple(notes))
