"""What Flink tells: facts, gathered over its REST API, and what is installed here."""

from __future__ import annotations

import platform
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from surecount.config import Pipeline
from surecount.doctor.ask_flows import flow
from surecount.doctor.ask_kafka import tried
from surecount.doctor.facts import Installed, JobFacts, Slots, Unseen, Versions
from surecount.doctor.flink_rules import PACKAGES
from surecount.errors import SurecountError
from surecount.ops import metrics
from surecount.ops.flink import Flink, Job
from surecount.ops.ledger import Ledger, Lost, Run
from surecount.ops.snapshots import Folders
from surecount.ops.submit import job_name

WORKER_METRIC = "surecount_worker"
"""The group under which the Python workers tell what they run on: see jobs/operators.py."""

_BANNER = re.compile(r"Version: ([\w.-]+), Scala: ")
_CLASSPATH = re.compile(r"Classpath: (\S+)")
_JVM = re.compile(r" JVM: (.+)")
_JAVA = re.compile(r" - (\d+)(?:\.\d+)?/")
_CONNECTOR = re.compile(r"(?:flink-(?:sql-)?connector-kafka|flink-python|surecount-packs|zstd-jni)-[^/:]*\.jar")
_LOGGER = re.compile(r"log4j-core-[^/:]*\.jar")
# A process says at its start what it is; a log that was rolled begins later.
_LOG_HEAD_BYTES = 256 << 10
_NO_CHECKPOINTS: dict[str, Any] = {"latest": {"completed": None, "failed": None}, "history": []}


def job_facts(flink: Flink, job: Job, topics: Collection[str] = (), stale: Unseen | None = None) -> JobFacts:
    """What Flink tells of a job that runs, and reads ``topics``. ``stale`` is why its metrics are not of now."""
    details = flink.get(f"/jobs/{job.id}")
    config = flink.checkpoint_config(job.id)
    found = flink.checkpoints(job.id) if config else _NO_CHECKPOINTS
    restarted = details["timestamps"].get("RESTARTING") or None
    completed, failed = found["latest"]["completed"], found["latest"]["failed"]
    in_a_row = 0
    for checkpoint in found["history"]:  # the newest first
        if checkpoint["status"] == "COMPLETED":
            break
        in_a_row += checkpoint["status"] == "FAILED"
    workers: set[tuple[str, str]] = set()
    names = {vertex["id"]: flink.metric_names(job.id, vertex["id"]) for vertex in details["vertices"]}
    for vertex in details["vertices"]:
        workers |= _workers(names[vertex["id"]])
    restarts = metrics.restarts(flink, job.id)
    return JobFacts(
        name=job.name,
        id=job.id,
        state=str(details["state"]),
        started_ms=job.started_ms,
        interval_ms=config["interval"] if config else None,
        timeout_ms=config["timeout"] if config else None,
        restarts=restarts,
        restarted_ms=restarted,
        cause=flink.cause(job.id) if restarts or details["state"] != "RUNNING" else "",
        completed_ms=completed["latest_ack_timestamp"] if completed else None,
        # Not its counts: they hold those that could not begin while the job's tasks were starting, too.
        failed_lately=sum(checkpoint["status"] == "FAILED" for checkpoint in found["history"]),
        failed_in_a_row=in_a_row,
        failed_why=failed["failure_message"] or "" if in_a_row and failed else "",
        failed_commits=metrics.failed_commits(flink, job.id, names),
        workers=frozenset(workers),
        flow=stale if stale is not None else tried(lambda: flow(flink, job.id, topics, names)),
    )


def _workers(names: Iterable[str]) -> set[tuple[str, str]]:
    """Packages and versions in metrics' names, such as ``windows.surecount_worker.python.3_11_9.bundles``."""
    found = set()
    for name in names:
        if match := re.search(rf"\.{WORKER_METRIC}\.(.+)\.\w+$", name):
            parts = match[1].split(".")
            found |= set(zip(parts[::2], parts[1::2], strict=True))
    return found


def jobs(pipeline: Pipeline, flink: Flink) -> dict[str, JobFacts | None] | Unseen:
    """What Flink tells of each of the pipeline's jobs; None for those that don't run."""

    folders, stale = tried(lambda: Folders.of(flink)), tried(lambda: metrics.refresh(flink))

    def look(name: str) -> JobFacts | None:
        if not (found := flink.all_running(job_name(pipeline, name))):
            return None
        job, *others = found
        facts = replace(
            job_facts(flink, job, pipeline.reads(name)[1], stale), beside=tuple(other.id for other in others)
        )
        return facts if isinstance(folders, Unseen) else remembered(Ledger(folders.savepoints, pipeline, name), facts)

    return tried(lambda: {name: look(name) for name in pipeline.jobs})


def remembered(ledger: Ledger, job: JobFacts) -> JobFacts:
    """The job with all failed commits that the ledger knows of, those of now among them, which it writes down."""

    def look() -> tuple[Lost, ...]:
        if run := next((run for run in ledger.runs() if run.job_id == job.id), None):
            ledger.note_lost(run, job.restarts, job.failed_commits)
            return tuple(ledger.lost())
        raise SurecountError(f"the ledger does not know job {job.id}")

    return replace(job, lost=tried(look))


def runs(pipeline: Pipeline, flink: Flink) -> dict[str, tuple[Run, ...]] | Unseen:
    """What the ledger tells of each job."""

    def look() -> dict[str, tuple[Run, ...]]:
        folder = Folders.of(flink).savepoints
        return {name: tuple(Ledger(folder, pipeline, name).runs()) for name in pipeline.jobs}

    return tried(look)


def lost(pipeline: Pipeline, flink: Flink) -> dict[str, tuple[Lost, ...]]:
    """The failed commits that the ledger remembers of each job; none where it cannot be read, which runs tell."""

    def look() -> dict[str, tuple[Lost, ...]]:
        folder = Folders.of(flink).savepoints
        return {name: tuple(Ledger(folder, pipeline, name).lost()) for name in pipeline.jobs}

    found = tried(look)
    return {} if isinstance(found, Unseen) else found


def slots(
    pipeline: Pipeline,
    flink: Flink,
    wanted: Iterable[str],
    known: Mapping[str, tuple[Run, ...]],
    parallelism: int | None,
) -> Slots | Unseen:
    """Free slots, and what those of the ``wanted`` jobs need that don't run: ``parallelism``, or what they had last."""

    def look() -> Slots:
        needed = {
            name: parallelism or (known[name][-1].parallelism if known.get(name) else 1)
            for name in wanted
            if flink.running(job_name(pipeline, name)) is None
        }
        return Slots(flink.free_slots(), needed)

    return tried(look)


def versions(flink: Flink, environment: Mapping[str, str]) -> Versions:
    """What is installed at the JobManager and at the TaskManagers, and here, by the ``environment`` of Flink's command
    line."""
    packages = {name: metadata.version(name) for name in PACKAGES if name != "python"}
    return Versions(
        client=_client(Path(environment["FLINK_LIB_DIR"])),
        packages={"python": platform.python_version(), **packages},
        jobmanager=tried(lambda: _jobmanager(flink)),
        taskmanagers=_taskmanagers(flink),
    )


def _client(lib: Path) -> Installed:
    jars = [path.name for path in lib.glob("*.jar")]
    dist = next((name for name in jars if name.startswith("flink-dist")), "")
    return _installed(_version_of(dist), jars)


def _version_of(dist: str) -> str:
    return dist.removeprefix("flink-dist-").removesuffix(".jar") or metadata.version("apache-flink")


def _jobmanager(flink: Flink) -> Installed:
    environment = flink.get("/jobmanager/environment")
    jvm = environment.get("jvm", {}).get("version", "")
    return _installed(flink.get("/config")["flink-version"], environment["classpath"], jvm)


def _java_of(jvm: str) -> int | None:
    """The version of Java in Flink's words for a JVM, such as ``OpenJDK 64-Bit Server VM - Debian - 17/17.0.15+6``."""
    found = _JAVA.search(jvm)
    return int(found[1]) if found else None


def _taskmanagers(flink: Flink) -> dict[str, Installed | Unseen]:
    ids = tried(lambda: [str(row["id"]) for row in flink.get("/taskmanagers")["taskmanagers"]])
    if isinstance(ids, Unseen):
        return {"the TaskManagers": ids}
    return {f"TaskManager {name}": tried(lambda name=name: _taskmanager(flink, name)) for name in ids}  # type: ignore[misc]


def _taskmanager(flink: Flink, name: str) -> Installed:
    """Its REST answers tell no versions; what it logs at its start does."""
    log = flink.text(f"/taskmanagers/{name}/log", _LOG_HEAD_BYTES)
    version, classpath = (pattern.findall(log) for pattern in (_BANNER, _CLASSPATH))
    if not version or not classpath:
        raise SurecountError("its log does not reach back to its start, where it tells")
    jvms = _JVM.findall(log)
    return _installed(version[-1], classpath[-1].split(":"), jvms[-1] if jvms else "")


def _installed(version: str, classpath: Iterable[str], jvm: str = "") -> Installed:
    jars = list(classpath)
    connectors, loggers = (
        tuple(sorted({match[0] for entry in jars if (match := kind.search(entry))})) for kind in (_CONNECTOR, _LOGGER)
    )
    return Installed(version, connectors, _java_of(jvm), loggers)
