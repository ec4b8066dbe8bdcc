"""Flink's REST API, as far as it is needed, and its command line for submitting."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, NamedTuple
from urllib.parse import quote

import requests

from surecount.errors import SurecountError
from surecount.ops.storage import uri_of
from surecount.rest_tls import RestTls
from surecount.waiting import wait_until

_TIMEOUT_S = 10.0
# A JobManager that was killed leads until its session with ZooKeeper ends, 10 s; then the other one takes over.
_ELECTION_S = 30.0
_POLL_S = 0.5
_NOT_FOUND = 404
_PYTHON_TRACE = "Traceback (most recent call last):"
_SERVER_ERROR = 500
_NAMES_A_REQUEST = 100  # an address has a limit
# SUSPENDED is a job that another JobManager is about to take over.
RUNNING_STATES = (
    *("INITIALIZING", "CREATED", "RUNNING", "FAILING", "RESTARTING", "CANCELLING", "RECONCILING"),
    "SUSPENDED",
)


class NotThereError(SurecountError):
    """Flink knows nothing at that path."""


@dataclass(frozen=True)
class Job:
    """A job as Flink's overview lists it; ``started_ms`` since 1970."""

    id: str
    name: str
    state: str
    started_ms: int


class Spread(NamedTuple):
    """A metric over subtasks."""

    min: float
    max: float
    sum: float


def _request(
    method: str, url: str, path: str, tls: RestTls, body: dict[str, Any] | None = None, *, stream: bool = False
) -> requests.Response | requests.RequestException:
    try:
        return requests.request(method, url + path, json=body, timeout=_TIMEOUT_S, stream=stream, **tls.of_requests())
    except requests.RequestException as error:
        return error


def _innermost(error: BaseException) -> str:
    """What OpenSSL says, of an error that requests and urllib3 have wrapped."""
    for part in (getattr(error, "reason", None), *error.args):
        if isinstance(part, BaseException):
            return _innermost(part)
    return str(error)


def innermost(trace: str) -> str:
    """The innermost cause in a stack trace of Java's, or nothing.

    Where that is an error of Python's, whose own trace Java has for a message, it is the last line that Python would
    have printed of it: the exception's type and the first line of its message.
    """
    cause = trace.strip().rpartition("Caused by: ")[2].splitlines()
    starts = [number for number, line in enumerate(cause) if line.endswith(_PYTHON_TRACE)]
    if starts:
        # Java's own frames come after it.
        lines = [line for line in cause[starts[-1] + 1 :] if line.strip()]
        told = next((line for line in lines if not line.startswith((" ", "\t"))), None)
        if told is not None:
            return told.strip()
    return cause[0].strip() if cause else ""


class Flink:
    """A cluster behind the root ``url`` of its REST API, or those of all its JobManagers with commas between.

    ``url`` is that of one JobManager then, which answered last. It need not be the one that leads: a standby
    passes on what it is asked.
    """

    def __init__(self, url: str) -> None:
        self._urls = [part.strip().rstrip("/") for part in url.split(",")]
        self.url = self._urls[0]
        self._tls = RestTls.from_environment()

    def get(self, path: str) -> Any:
        """The JSON at a path; raises SurecountError where Flink is away or refuses."""
        return self._call("GET", path)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        response = self._request(method, path, body)
        return response.json() if response.content else None

    def _request(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, stream: bool = False
    ) -> requests.Response:
        if method != "GET" and len(self._urls) > 1:
            self._get("/overview")  # what changes something is sent once only, to one that has just answered
        response = (
            self._get(path, stream=stream) if method == "GET" else _request(method, self.url, path, self._tls, body)
        )
        if isinstance(response, requests.RequestException):
            raise self._unanswered(response) from response
        if not response.ok:
            refused = NotThereError if response.status_code == _NOT_FOUND else SurecountError
            raise refused(f"{method} {path} at {self.url}: {response.status_code} {response.text[:300]}")
        return response

    def _unanswered(self, error: requests.RequestException) -> SurecountError:
        what = f"no Flink answers at {', '.join(self._urls)}: {type(error).__name__}"
        if isinstance(error, requests.exceptions.SSLError):
            return SurecountError(
                f"{what}: {_innermost(error)}",
                "--ca names the authority that signed Flink's certificate, which must be for the host in --flink; "
                "--cert and --key name what to show where Flink asks for a client's certificate",
            )
        return SurecountError(what, "`surecount up` starts one here; --flink URL names another")

    def _get(self, path: str, *, stream: bool = False) -> requests.Response | requests.RequestException:
        """The answer of the first JobManager that is able to give one. Where there are several, they get time to
        find a new leader."""
        deadline = time.monotonic() + _ELECTION_S
        while True:
            answers = []
            for url in sorted(self._urls, key=lambda url: url != self.url):
                answers.append(answer := _request("GET", url, path, self._tls, stream=stream))
                if isinstance(answer, requests.Response) and answer.status_code < _SERVER_ERROR:
                    self.url = url
                    return answer
            unreachable = all(isinstance(answer, requests.RequestException) for answer in answers)
            if len(self._urls) == 1 or unreachable or time.monotonic() >= deadline:
                return answers[0]
            time.sleep(_POLL_S)

    def jobs(self) -> list[Job]:
        """All jobs that the cluster remembers, the newest first."""
        rows = self.get("/jobs/overview")["jobs"]
        jobs = [Job(row["jid"], row["name"], row["state"], row["start-time"]) for row in rows]
        return sorted(jobs, key=lambda job: -job.started_ms)

    def running(self, name: str) -> Job | None:
        """The job of that name that has not ended; the newest, where two run."""
        return next(iter(self.all_running(name)), None)

    def all_running(self, name: str) -> list[Job]:
        """The jobs of that name that have not ended, the newest first: more than one is a mistake."""
        return [job for job in self.jobs() if job.name == name and job.state in RUNNING_STATES]

    def remembered(self, job_id: str) -> str | None:
        """The state of a job that the cluster lists, running or ended; None of others."""
        return next((job.state for job in self.jobs() if job.id == job_id), None)

    def state(self, job_id: str) -> str:
        """The state of a job, such as RUNNING."""
        return str(self.get(f"/jobs/{job_id}")["state"])

    def settings(self) -> dict[str, str]:
        """The JobManager's configuration."""
        return {row["key"]: row["value"] for row in self.get("/jobmanager/config")}

    def free_slots(self) -> int:
        """Slots of all TaskManagers that no job has."""
        return int(self.get("/overview")["slots-available"])

    def savepoint(self, job_id: str, timeout_s: float, *, stop: bool) -> str:
        """Take a savepoint, and ``stop`` the job with it, never drained; its path. Raises SurecountError."""
        path, body = ("stop", {"drain": False}) if stop else ("savepoints", {"cancel-job": False})
        request = self._call("POST", f"/jobs/{job_id}/{path}", {**body, "formatType": "CANONICAL"})["request-id"]

        def ended() -> dict[str, Any]:
            answer: dict[str, Any] = self.get(f"/jobs/{job_id}/savepoints/{request}")
            return answer["operation"] if answer["status"]["id"] == "COMPLETED" else {}

        operation = wait_until(ended, timeout_s, "the savepoint", poll_s=0.3)
        if "location" not in operation:
            cause = innermost(operation["failure-cause"]["stack-trace"])
            raise SurecountError(f"Flink took no savepoint: {cause}", exit_code=1)
        return uri_of(operation["location"])

    def cancel(self, job_id: str) -> None:
        """Ask a job to end without a savepoint; its checkpoints stay."""
        self._call("PATCH", f"/jobs/{job_id}?mode=cancel")

    def cause(self, job_id: str) -> str:
        """The JVM's own words for a job's last failure: the innermost cause, or nothing."""
        history = self.get(f"/jobs/{job_id}/exceptions?maxExceptions=1")["exceptionHistory"]["entries"]
        if not history:
            return ""
        return innermost(history[0]["stacktrace"])

    def checkpoints(self, job_id: str) -> dict[str, Any]:
        """Counts, latest and history of checkpoints."""
        found: dict[str, Any] = self.get(f"/jobs/{job_id}/checkpoints")
        return found

    def checkpoint_config(self, job_id: str) -> dict[str, Any] | None:
        """How a job makes checkpoints, such as their ``interval`` and ``timeout`` in ms; None where it makes none."""
        try:
            found: dict[str, Any] = self.get(f"/jobs/{job_id}/checkpoints/config")
        except NotThereError:
            return None
        return found

    def vertices(self, job_id: str) -> list[dict[str, Any]]:
        """The job's operator chains, sources first."""
        found: list[dict[str, Any]] = self.get(f"/jobs/{job_id}")["vertices"]
        return found

    def records_read(self, job_id: str) -> int:
        """How many records the job's consumers have polled since it was last started.

        By Kafka's own count: Flink's is one of packs.
        """
        sources = (v for v in self.vertices(job_id) if v["name"].startswith("Source: "))
        found = (self.metric(job_id, v["id"], "KafkaConsumer.records-consumed-total") for v in sources)
        return int(sum(count for counts in found for _, count in counts))

    def metric(self, job_id: str, vertex_id: str, name: str) -> list[tuple[str, float]]:
        """Sums over subtasks of a vertex's metrics whose names end with ``name``."""
        names = [found for found in self.metric_names(job_id, vertex_id) if found.endswith(name)]
        if not names:
            return []
        rows = self.get(f"{_metrics(job_id, vertex_id)}?get={','.join(map(quote, names))}&agg=sum")
        return [(row["id"], float(row["sum"])) for row in rows]

    def spreads(self, job_id: str, vertex_id: str, names: Sequence[str]) -> dict[str, Spread]:
        """The values of a vertex's metrics by name, over its subtasks."""
        found: dict[str, Spread] = {}
        for at in range(0, len(names), _NAMES_A_REQUEST):
            wanted = ",".join(map(quote, names[at : at + _NAMES_A_REQUEST]))
            rows = self.get(f"{_metrics(job_id, vertex_id)}?get={wanted}&agg=min,max,sum")
            # A gauge without a value is told as NaN.
            values = {row["id"]: Spread(*(float(row[of]) for of in ("min", "max", "sum"))) for row in rows}
            found |= {name: spread for name, spread in values.items() if not isnan(spread.sum)}
        return found

    def metric_names(self, job_id: str, vertex_id: str) -> list[str]:
        """The names of a vertex's metrics that can be asked for."""
        return [str(row["id"]) for row in self.get(_metrics(job_id, vertex_id))]

    def job_metric(self, job_id: str, name: str) -> float | None:
        """A metric of a job as a whole; None where there is none of that name."""
        rows = self.get(f"/jobs/{job_id}/metrics?get={name}")
        return float(rows[0]["value"]) if rows else None

    def text(self, path: str, most: int) -> str:
        """The beginning of a text at a path, of ``most`` bytes."""
        found = b""
        with self._request("GET", path, stream=True) as response:
            for chunk in response.iter_content(1 << 16):
                found += chunk
                if len(found) >= most:
                    break
        return found[:most].decode("utf-8", "replace")


def _metrics(job_id: str, vertex_id: str) -> str:
    return f"/jobs/{job_id}/vertices/{vertex_id}/subtasks/metrics"
