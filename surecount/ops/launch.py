"""Asking Flink to run a job, by its command line; and what its answers mean."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops.flink import Flink
from surecount.ops.ledger import Run, TakenError

_SHOWN_LINES = 12

# Flink's Dispatcher, DuplicateJobSubmissionException: a job of that id runs, or has ended.
_RUNS = "Job has already been submitted."
_ENDED = re.compile("globally[- ]terminal|has already been terminated", re.IGNORECASE)

# The command line had no answer, so the job may be there yet.
_UNANSWERED = re.compile(r"TimeoutException|ConnectException|ConnectionClosedException|Connection re(fused|set)")


class RefusedError(SurecountError):
    """Flink has refused a run for good."""


class UnsettledError(SurecountError):
    """Flink's command line ended before it told whether Flink has taken the job."""


def launch(
    pipeline: Pipeline,
    flink: Flink,
    environment: dict[str, str],
    job: str,
    run: Run,
    folder: Path,
    *,
    moved: bool,
) -> None:
    """Submit a run with the code in ``folder``/code. Flink takes a job id once, whoever submits it.

    Raises TakenError where another command has submitted it, RefusedError with Flink's cause, or UnsettledError.
    """
    name = f"{pipeline.name}.{job}"
    done = subprocess.run(
        _command(pipeline, flink, environment, job, run, folder, moved=moved),
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    output = done.stdout + done.stderr
    if done.returncode == 0 and f"JobID {run.job_id}" in output:
        return
    if _RUNS in output:
        raise TakenError(f"another command has submitted run {run.number} of {name}, as job {run.job_id}")
    if _ENDED.search(output):
        raise RefusedError(f"run {run.number} of {name} has ended in Flink: job {run.job_id}", exit_code=1)
    if flink.remembered(run.job_id):
        return  # killed after Flink had answered
    killed = done.returncode < 0 or done.returncode > 128
    if killed or _UNANSWERED.search(output):
        why = f"ended with {done.returncode}, before it told" if killed else f"does not know:\n{_essence(output)}\n"
        raise UnsettledError(
            f"whether Flink has taken run {run.number} of {name}, its command line {why}".rstrip(", "),
            "the same command goes on with that run, whether it is there or not",
            exit_code=1,
        )
    raise RefusedError(f"Flink refused the job:\n{_essence(output)}", exit_code=1)


def settings_for(pipeline: Pipeline) -> str:
    """A pipeline as JSON for the code that a job ships. That may be an earlier run's, which refuses settings that it
    does not know: so what is as by default is left out."""
    return json.dumps(pipeline.model_dump(mode="json", exclude_defaults=True))


def _command(
    pipeline: Pipeline,
    flink: Flink,
    environment: dict[str, str],
    job: str,
    run: Run,
    folder: Path,
    *,
    moved: bool,
) -> list[str]:
    # What was checked is what runs, also where the file changes meanwhile.
    file, code = folder / f"{pipeline.name}.json", folder / "code"
    file.write_text(settings_for(pipeline), encoding="utf-8")
    pathway = pipeline.pathway_of(job)
    return [
        str(Path(environment["FLINK_BIN_DIR"]) / "flink"), "run", "--detached",
        "--jobmanager", urlsplit(flink.url).netloc,
        f"-D$internal.pipeline.job-id={run.job_id}",
        *(["--fromSavepoint", run.snapshot] if run.snapshot else []),
        *(["--allowNonRestoredState"] if moved else []),
        "--python", str(code / "jobs" / f"{'relay' if pathway else job}.py"),
        "--pyFiles", str(code),
        "--pipeline", str(file),
        "--parallelism", str(run.parallelism),
        "--name", f"{pipeline.name}.{job}",
        *(["--pathway", pathway.name] if pathway else []),
        *(["--bounded"] if run.bounded else []),
        *(["--generation", str(run.generation)] if run.generation else []),
    ]  # fmt: skip


def _essence(output: str) -> str:
    """The lines that say why: Python's last error and Java's causes."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    telling = [
        line for line in lines
        if not re.match(r"\s+at |\s+\.\.\. \d+ more|WARNING|SLF4J", line)
    ]  # fmt: skip
    return "\n".join(telling[-_SHOWN_LINES:])
