"""Bring a job onto a Flink cluster, after all that can be checked before has been."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from surecount import topics
from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops.code import PROJECT, check_decode, package
from surecount.ops.flink import Flink

_JOB_ID = re.compile(r"JobID ([0-9a-f]{32})")
_SHOWN_LINES = 12


def job_name(pipeline: Pipeline, job: str = "aggregate") -> str:
    """The name of a pipeline's job in Flink."""
    return f"{pipeline.name}.{job}"


def check_outputs_empty(pipeline: Pipeline, jobs: Iterable[str]) -> None:
    """Refuse a start from nothing where an earlier run left records: it would write each of them twice."""
    found = topics.offsets(pipeline.kafka, [topic for job in jobs for topic in pipeline.writes(job)])
    if written := {topic for (topic, _), (low, high) in found.items() if high > low}:
        raise SurecountError(
            f"{', '.join(sorted(written))}: there are records of an earlier run, which a new one would write again",
            "start from its snapshot with --from PATH, or give the pipeline new output topics",
            exit_code=1,
        )


def submit(
    pipeline: Pipeline,
    pipeline_file: Path,
    flink: Flink,
    environment: dict[str, str],
    *,
    job: str = "aggregate",
    parallelism: int = 1,
    bounded: bool = False,
    snapshot: str | None = None,
) -> str:
    """Submit one job of a pipeline and return its id.

    ``environment`` is that of Flink's command line: where its conf and lib folders are. ``snapshot`` is
    the path of a savepoint or checkpoint to start from. Raises SurecountError with Flink's own cause.
    """
    if pipeline.source.decode is not None:
        check_decode(pipeline_file, pipeline.source.decode)
    name, pathway = job_name(pipeline, job), pipeline.pathway_of(job)
    if running := flink.running(name):
        raise SurecountError(
            f"{running.name} runs already, as job {running.id}",
            "two would write everything twice; stop it first",
            exit_code=1,
        )
    address = urlsplit(flink.url)
    with tempfile.TemporaryDirectory(prefix="surecount-submit-") as folder:
        code = Path(folder) / "code"
        package(code, pipeline_file, pipeline.source.decode)
        command = [
            str(Path(environment["FLINK_BIN_DIR"]) / "flink"), "run", "--detached",
            "--jobmanager", address.netloc,
            *(["--fromSavepoint", snapshot] if snapshot else []),
            "--python", str(PROJECT / "jobs" / f"{'relay' if pathway else job}.py"),
            "--pyFiles", str(code),
            "--pipeline", str(pipeline_file.resolve()),
            "--parallelism", str(parallelism),
            "--name", name,
            *(["--pathway", pathway.name] if pathway else []),
            *(["--bounded"] if bounded else []),
        ]  # fmt: skip
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    found = _JOB_ID.search(output)
    if done.returncode != 0 or found is None:
        raise SurecountError(f"Flink refused the job:\n{_essence(output)}", exit_code=1)
    return found[1]


def client_environment() -> dict[str, str]:
    """The environment for Flink's command line where the machine has a Flink of its own."""
    home = os.environ.get("FLINK_HOME")
    if home is None:
        raise SurecountError(
            "--flink names a cluster, but FLINK_HOME names no Flink to submit with",
            "set FLINK_HOME to the folder that has bin/flink, and FLINK_CONF_DIR and FLINK_LIB_DIR",
        )
    return {**os.environ, "FLINK_BIN_DIR": str(Path(home) / "bin")}


def _essence(output: str) -> str:
    """The lines that say why: Python's last error and Java's causes."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    telling = [
        line for line in lines
        if not re.match(r"\s+at |\s+\.\.\. \d+ more|WARNING|SLF4J", line)
    ]  # fmt: skip
    return "\n".join(telling[-_SHOWN_LINES:])
