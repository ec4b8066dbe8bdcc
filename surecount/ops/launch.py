"""Asking Flink to run a job, by its command line; and what its answers mean."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops.flink import Flink
from surecount.ops.ledger import Run, TakenError
from surecount.waiting import WaitTimeoutError, wait_until

_SHOWN_LINES = 12

# Flink's Duplicate(Application|Job)SubmissionException: one of that id runs, has ended, or is just being taken.
_SUBMITTED = re.compile(r"(Application|Job) has already been submitted\.")
_LISTED_WITHIN_S = 10.0

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
    gone: Collection[str] = (),
) -> None:
    """Submit a run with the code in ``folder``/code. Flink takes a job id once, whoever submits it. ``gone`` has the
    offsets of its snapshot that are not there any more, each with the one to begin at.

    Raises TakenError where another command has submitted it, RefusedError with Flink's cause, or UnsettledError.
    """
    name = f"{pipeline.name}.{job}"
    done = subprocess.run(
        _command(pipeline, flink, environment, job, run, folder, gone, moved=moved),
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    output = done.stdout + done.stderr
    if done.returncode == 0 and f"JobID {run.job_id}" in output:
        return
    if _SUBMITTED.search(output):
        raise _submitted(flink, run, name)
    if flink.remembered(run.job_id):
        return  # killed after Flink had answered
    killed = done.returncode < 0 or done.returncode > 128
    if killed or _UNANSWERED.search(output):
        ended = f"was killed ({done.returncode})" if killed else "had no answer"
        raise UnsettledError(
            f"Flink's command line {ended}: whether Flink has taken run {run.number} of {name} is not known"
            + ("" if killed else f"\n{_essence(output)}"),
            "the same command goes on with that run, whether it is there or not",
            exit_code=1,
        )
    raise RefusedError(f"Flink refused the job:\n{_essence(output)}", exit_code=1)


def rest_address(url: str) -> str:
    """A URL as Flink's command line takes it: with its port; without https:// Flink switches TLS off again, whatever
    its configuration says."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    return f"{'https://' if secure else ''}{parts.hostname}:{parts.port or (443 if secure else 80)}"


def settings_for(pipeline: Pipeline) -> str:
    """A pipeline as JSON for the code that a job ships. That may be an earlier run's, which refuses settings that it
    does not know: so what is as by default is left out."""
    return json.dumps(pipeline.model_dump(mode="json", exclude_defaults=True))


def _submitted(flink: Flink, run: Run, name: str) -> SurecountError:
    try:
        state = wait_until(lambda: flink.remembered(run.job_id), _LISTED_WITHIN_S, "Flink to list the job")
    except WaitTimeoutError:  # it lists jobs for an hour after they have ended, and knows ids for longer
        return RefusedError(
            f"run {run.number} of {name} has ended in Flink, which lists job {run.job_id} no more",
            "run the command again: it begins the next run",
            exit_code=1,
        )
    return TakenError(
        f"another command has submitted run {run.number} of {name}, as job {run.job_id}, which is {state}"
    )


def _command(
    pipeline: Pipeline,
    flink: Flink,
    environment: dict[str, str],
    job: str,
    run: Run,
    folder: Path,
    gone: Collection[str],
    *,
    moved: bool,
) -> list[str]:
    # What was checked is what runs, also where the file changes meanwhile.
    file, code = folder / f"{pipeline.name}.json", folder / "code"
    file.write_text(settings_for(pipeline), encoding="utf-8")
    pathway = pipeline.pathway_of(job)
    return [
        str(Path(environment["FLINK_BIN_DIR"]) / "flink"), "run", "--detached",
        "--jobmanager", rest_address(flink.url),
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
        *(part for place in gone for part in ("--moved", place)),
    ]  # fmt: skip


def _essence(output: str) -> str:
    """The lines that say why: Python's last error and Java's causes."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    telling = [
        line for line in lines
        if not re.match(r"\s+at |\s+\.\.\. \d+ more|WARNING|SLF4J", line)
    ]  # fmt: skip
    return "\n".join(telling[-_SHOWN_LINES:])
