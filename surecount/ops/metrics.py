"""Metrics of a job over Flink's REST API: seeing to it that they are of now, and commits that failed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress

from surecount.errors import SurecountError
from surecount.ops.flink import Flink
from surecount.ops.ledger import Ledger
from surecount.waiting import WaitTimeoutError, wait_until

_CPU = "Status.JVM.CPU.Time"
_FRESH_MS = 15_000
_REFRESH_S = 5.0
_FAILED_COMMITS = "failedCommittables"


def refresh(flink: Flink) -> None:
    """See to it that the metrics of running jobs which Flink tells are of now. Raises SurecountError where they stay
    old.

    A JobManager fetches metrics only when it is asked for some, at most once in 10 s
    (``metrics.fetcher.update-interval``), and answers at once with those that it has: of whenever it was last asked.
    """
    if (job := next((job for job in flink.jobs() if job.state == "RUNNING"), None)) is None:
        return
    managers = ["/jobmanager", *(f"/taskmanagers/{row['id']}" for row in flink.get("/taskmanagers")["taskmanagers"])]
    before = {manager: _cpu(flink, manager) for manager in managers}
    if _age_ms(flink, job.id) < _FRESH_MS:
        return
    old = set(managers)

    def fetched() -> bool:
        old.difference_update([manager for manager in old if _cpu(flink, manager) != before[manager]])
        return not old

    try:
        wait_until(fetched, _REFRESH_S, "metrics", poll_s=0.1)
    except WaitTimeoutError as error:
        raise SurecountError(f"{', '.join(sorted(old))} tells no metrics of now") from error


def _cpu(flink: Flink, manager: str) -> str:
    """CPU time that a process has used: of two fetches never the same."""
    rows = flink.get(f"{manager}/metrics?get={_CPU}")
    return str(rows[0]["value"]) if rows else ""


def _age_ms(flink: Flink, job_id: str) -> float:
    """How old the metrics are, by how long the job runs according to them; without end where they don't know it."""
    details, told = flink.get(f"/jobs/{job_id}"), flink.job_metric(job_id, "uptime")
    since = details["timestamps"].get("RUNNING") or 0
    return float("inf") if told is None or not since else details["now"] - since - told


def failed_commits(flink: Flink, job_id: str, vertices: Iterable[str]) -> dict[str, int]:
    """Commits that failed since the job last restarted, by sink: Flink counts no further."""
    found: dict[str, int] = {}
    for vertex in vertices:
        for name, value in flink.metric(job_id, vertex, _FAILED_COMMITS):
            found[_sink(name)] = found.get(_sink(name), 0) + int(value)
    return found


def _sink(metric: str) -> str:
    """The sink in a metric's name, such as ``results[12]__Committer.failedCommittables``."""
    return re.sub(r"(\[\d+])?__Committer$", "", metric.removesuffix(f".{_FAILED_COMMITS}"))


def restarts(flink: Flink, job_id: str) -> int:
    """How often Flink has restarted a job."""
    return int(flink.job_metric(job_id, "numRestarts") or 0)


def note_failed_commits(flink: Flink, ledger: Ledger, job_id: str) -> None:
    """Have the ledger remember which commits of a job that runs have failed. Best effort: what keeps it from looking
    is not the concern of the command that looks on its way."""
    with suppress(SurecountError):
        refresh(flink)
        vertices = [vertex["id"] for vertex in flink.vertices(job_id)]
        for run in ledger.runs():
            if run.job_id == job_id:
                ledger.note_lost(run, restarts(flink, job_id), failed_commits(flink, job_id, vertices))
