"""Flink's REST API, as far as it is needed, and its command line for submitting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import requests

from surecount.errors import SurecountError

_TIMEOUT_S = 10.0
RUNNING_STATES = ("INITIALIZING", "CREATED", "RUNNING", "FAILING", "RESTARTING", "CANCELLING", "RECONCILING")


@dataclass(frozen=True)
class Job:
    """A job as Flink's overview lists it; ``started_ms`` since 1970."""

    id: str
    name: str
    state: str
    started_ms: int


class Flink:
    """A cluster behind the root ``url`` of its REST API."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def get(self, path: str) -> Any:
        """The JSON at a path; raises SurecountError where Flink is away or refuses."""
        return self._call("GET", path)

    def _call(self, method: str, path: str) -> Any:
        try:
            response = requests.request(method, self.url + path, timeout=_TIMEOUT_S)
        except requests.RequestException as error:
            raise SurecountError(
                f"no Flink answers at {self.url}: {type(error).__name__}",
                "`surecount up` starts one here; --flink URL names another",
            ) from error
        if not response.ok:
            raise SurecountError(f"{method} {path} at {self.url}: {response.status_code} {response.text[:300]}")
        return response.json() if response.content else None

    def jobs(self) -> list[Job]:
        """All jobs that the cluster remembers, the newest first."""
        rows = self.get("/jobs/overview")["jobs"]
        jobs = [Job(row["jid"], row["name"], row["state"], row["start-time"]) for row in rows]
        return sorted(jobs, key=lambda job: -job.started_ms)

    def running(self, name: str) -> Job | None:
        """The job of that name that has not ended."""
        return next((job for job in self.jobs() if job.name == name and job.state in RUNNING_STATES), None)

    def state(self, job_id: str) -> str:
        """The state of a job, such as RUNNING."""
        return str(self.get(f"/jobs/{job_id}")["state"])

    def cancel(self, job_id: str) -> None:
        """Ask a job to end without a savepoint; its checkpoints stay."""
        self._call("PATCH", f"/jobs/{job_id}?mode=cancel")

    def cause(self, job_id: str) -> str:
        """The JVM's own words for a job's last failure: the innermost cause, or nothing."""
        history = self.get(f"/jobs/{job_id}/exceptions?maxExceptions=1")["exceptionHistory"]["entries"]
        if not history:
            return ""
        lines = [line.strip() for line in history[0]["stacktrace"].splitlines()]
        causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
        return str(causes[-1] if causes else lines[0])

    def checkpoints(self, job_id: str) -> dict[str, Any]:
        """Counts, latest and history of checkpoints."""
        found: dict[str, Any] = self.get(f"/jobs/{job_id}/checkpoints")
        return found

    def vertices(self, job_id: str) -> list[dict[str, Any]]:
        """The job's operator chains with their record counts, sources first."""
        found: list[dict[str, Any]] = self.get(f"/jobs/{job_id}")["vertices"]
        return found

    def metric(self, job_id: str, vertex_id: str, name: str) -> list[tuple[str, float]]:
        """Sums over subtasks of a vertex's metrics whose names end with ``name``."""
        base = f"/jobs/{job_id}/vertices/{vertex_id}/subtasks/metrics"
        names = [row["id"] for row in self.get(base) if row["id"].endswith(name)]
        if not names:
            return []
        rows = self.get(f"{base}?get={','.join(names)}&agg=sum")
        return [(row["id"], float(row["sum"])) for row in rows]
