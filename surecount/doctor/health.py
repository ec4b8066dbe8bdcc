"""The health of a cluster's jobs, by the same rules as the doctor's: ``surecount status``."""

from __future__ import annotations

import time
from dataclasses import dataclass

from surecount.doctor import topic_ids
from surecount.doctor.ask_flink import job_facts
from surecount.doctor.job_rules import judged
from surecount.ops.flink import Flink, Job

_FINE = ("RUNNING", "FINISHED", "CANCELED")
# Flink tells little of others, that begin or end.
_JUDGED = ("RUNNING", "RESTARTING", "FAILING")


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
    return [_of_job(flink, job, replaced=newest[job.name] != job) for job in jobs]


def _of_job(flink: Flink, job: Job, *, replaced: bool) -> JobHealth:
    problems, notes = [], []
    if job.state not in _FINE and not replaced:
        cause = flink.cause(job.id)
        problems.append(f"{job.name} is {job.state}{f': {cause}' if cause else ''}")
    if job.state in _JUDGED:
        findings = [*judged(job_facts(flink, job), time.time_ns() // 1_000_000), *topic_ids.of_named(flink, job)]
        problems += [finding.seen for finding in findings if finding.state == "fail"]
        notes = [finding.seen for finding in findings if finding.state in ("warn", "unknown")]
    return JobHealth(job.id, job.name, job.state, job.started_ms, tuple(problems), tuple(notes))
