"""Bring a job onto a Flink cluster, after all that can be checked before has been."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Collection
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from surecount import __version__, topics
from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops.code import check_decode, hash_of_code, pack, package, unpack
from surecount.ops.flink import Flink
from surecount.ops.ledger import Ledger, Run, config_of, hash_of, now_ms
from surecount.ops.restore import find, ids_of_topics
from surecount.ops.snapshots import Folders

_SHOWN_LINES = 12


def job_name(pipeline: Pipeline, job: str = "aggregate") -> str:
    """The name of a pipeline's job in Flink."""
    return f"{pipeline.name}.{job}"


def check_outputs_empty(pipeline: Pipeline, job: str) -> None:
    """Refuse a start from nothing where an earlier run left records: it would write each of them twice."""
    found = topics.offsets(pipeline.kafka, pipeline.writes(job))
    if written := {topic for (topic, _), (low, high) in found.items() if high > low}:
        raise SurecountError(
            f"{', '.join(sorted(written))}: there are records of an earlier run, which a new one would write again",
            "`surecount start` goes on from its newest snapshot, --from PATH from another one; or give the pipeline "
            "new output topics",
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
    accepted: Collection[str] = (),
    code: bytes | None = None,
) -> str:
    """Submit one job of a pipeline and return its id.

    ``environment`` is that of Flink's command line: where its conf and lib folders are. ``snapshot`` is the path
    of a savepoint or checkpoint to start from, or ``LATEST``, which may be none; it is checked, and the run is
    written into the ledger. ``accepted`` are codes of refusals to go against. ``code`` is what the ledger kept of an
    earlier run, to be run in place of that of now. Raises SurecountError with what is refused, or Flink's own cause.
    """
    if code is None:
        check_decode(pipeline_file, pipeline)
    name = job_name(pipeline, job)
    if running := flink.running(name):
        raise SurecountError(
            f"{running.name} runs already, as job {running.id}",
            "two would write everything twice; stop it first",
            exit_code=1,
        )
    folders = Folders.of(flink)
    ledger = Ledger(folders.savepoints, pipeline, job)
    runs = ledger.runs()
    origin = None
    if snapshot is not None:
        origin = find(pipeline, job, folders, runs, snapshot, environment, parallelism, accepted, bounded=bounded)
    if origin is None:
        if runs and snapshot is None:
            raise _known(pipeline, job, runs[-1])
        check_outputs_empty(pipeline, job)
    with tempfile.TemporaryDirectory(prefix="surecount-submit-") as folder:
        shipped = Path(folder) / "code"
        if code is None:
            package(shipped, pipeline_file, pipeline.source.decode)
        else:
            unpack(code, shipped)
        run = Run(
            number=runs[-1].number + 1 if runs else 1,
            job_id=uuid4().hex,
            started_ms=now_ms(),
            snapshot=origin.path if origin else None,
            offsets=tuple((*place, offset) for place, offset in origin.offsets.items()) if origin else (),
            parallelism=parallelism,
            bounded=bounded,
            config=config_of(pipeline),
            config_hash=hash_of(config_of(pipeline)),
            code_hash=hash_of_code(shipped),
            versions=versions(environment),
            transactional_id_prefix=pipeline.transactional_id_prefix(job, ""),
            accepted=tuple(accepted),
            topic_ids=ids_of_topics(pipeline, job) or (origin.run.topic_ids if origin else {}),
            generation=origin.generation if origin else runs[-1].generation if runs else 0,
        )
        ledger.keep_code(run.code_hash, pack(shipped))
        # Before it begins: a run that the ledger does not know could not be gone on from.
        ledger.add(run)
        if run.generation:
            # The group tells the sources where to read on; in later runs, those of partitions without a record since.
            standing = {place: offset for place, offset in origin.offsets.items() if offset >= 0} if origin else {}
            topics.commit(pipeline.reads(job)[0], pipeline.group_id(job), standing)
        _run(pipeline, flink, environment, job, run, Path(folder), moved=origin is not None and origin.moved)
    return run.job_id


def _known(pipeline: Pipeline, job: str, last: Run) -> SurecountError:
    return SurecountError(
        f"the ledger knows {last.number} run(s) of {job_name(pipeline, job)}: one from nothing would count again what "
        "is still there, and never what is deleted",
        "`surecount start` goes on from its newest snapshot, --from PATH from another one; or give the pipeline "
        "another name",
        exit_code=1,
    )


def _run(
    pipeline: Pipeline,
    flink: Flink,
    environment: dict[str, str],
    job: str,
    run: Run,
    folder: Path,
    *,
    moved: bool,
) -> None:
    # What was checked is what runs, also where the file changes meanwhile.
    file, code = folder / f"{pipeline.name}.json", folder / "code"
    file.write_text(json.dumps(pipeline.model_dump(mode="json")), encoding="utf-8")
    pathway = pipeline.pathway_of(job)
    command = [
        str(Path(environment["FLINK_BIN_DIR"]) / "flink"), "run", "--detached",
        "--jobmanager", urlsplit(flink.url).netloc,
        f"-D$internal.pipeline.job-id={run.job_id}",
        *(["--fromSavepoint", run.snapshot] if run.snapshot else []),
        *(["--allowNonRestoredState"] if moved else []),
        "--python", str(code / "jobs" / f"{'relay' if pathway else job}.py"),
        "--pyFiles", str(code),
        "--pipeline", str(file),
        "--parallelism", str(run.parallelism),
        "--name", job_name(pipeline, job),
        *(["--pathway", pathway.name] if pathway else []),
        *(["--bounded"] if run.bounded else []),
        *(["--generation", str(run.generation)] if run.generation else []),
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    if done.returncode != 0 or f"JobID {run.job_id}" not in output:
        raise SurecountError(f"Flink refused the job:\n{_essence(output)}", exit_code=1)


def versions(environment: dict[str, str]) -> dict[str, str]:
    """What a job runs on, by name; of jars the file names."""
    jars = sorted(path.name for path in Path(environment["FLINK_LIB_DIR"]).glob("*.jar"))
    return {
        "surecount": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("apache-flink", "apache-beam", "pyarrow", "numpy")},
        "jars": " ".join(jars),
    }


def client_environment() -> dict[str, str]:
    """The environment for Flink's command line where the machine has a Flink of its own."""
    home = os.environ.get("FLINK_HOME")
    if home is None:
        raise SurecountError(
            "--flink names a cluster, but FLINK_HOME names no Flink to submit with",
            "set FLINK_HOME to the folder that has bin/flink, and FLINK_CONF_DIR and FLINK_LIB_DIR",
        )
    return {"FLINK_LIB_DIR": str(Path(home) / "lib"), **os.environ, "FLINK_BIN_DIR": str(Path(home) / "bin")}


def _essence(output: str) -> str:
    """The lines that say why: Python's last error and Java's causes."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    telling = [
        line for line in lines
        if not re.match(r"\s+at |\s+\.\.\. \d+ more|WARNING|SLF4J", line)
    ]  # fmt: skip
    return "\n".join(telling[-_SHOWN_LINES:])
