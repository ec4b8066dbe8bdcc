"""Rules over Flink's settings, and over what is installed where."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from surecount import __version__
from surecount.doctor.facts import Facts, Installed, KafkaFacts, Unseen, Versions, seen
from surecount.doctor.findings import Finding, State
from udfs import packs

FOLDERS = ("execution.checkpointing.dir", "execution.checkpointing.savepoint-dir")
_RETENTION = "execution.checkpointing.externalized-checkpoint-retention"
_TOLERABLE = "execution.checkpointing.tolerable-failed-checkpoints"
_MODE = "execution.checkpointing.mode"
_BACKEND = "state.backend.type"
_PYTHON = "python.execution-mode"
_RESTART = "restart-strategy.type"

TRANSACTIONS = "transaction.version"
SAFE_TRANSACTIONS = 2
"""With this level each transaction has a producer epoch of its own."""

_OUR_JAR = "surecount-packs-"
PACKS_JAR = f"{_OUR_JAR}{packs.LAYOUT}.jar"

JAVA = 17
"""What our jar is compiled for."""
# The connector does not bring zstd: Kafka's client in it calls zstd's classes by their own names. Our jar has a class
# that extends one of Flink's jar for Python, so that has to be beside it.
_NEEDED = ("flink-sql-connector-kafka-", "surecount-packs-", "zstd-jni-", "flink-python-")
_WITHOUT_ZSTD = "the first record that is compressed with zstd would restart the job for ever"

# Packages whose versions change what the Python workers compute, or whether they start at all.
PACKAGES = ("python", "apache-flink", "pyarrow", "numpy")


def folders(facts: Facts) -> Iterator[Finding]:
    """There is a place for checkpoints, and one for savepoints."""
    settings = seen(facts.settings)
    for name in FOLDERS:
        value = settings.get(name)
        yield Finding("ok" if value else "fail", f"{name} is {value or 'not set'}")


def retention(facts: Facts) -> Iterator[Finding]:
    """Checkpoints are there after the job has ended."""
    value = seen(facts.settings).get(_RETENTION, "NO_EXTERNALIZED_CHECKPOINTS")
    states: dict[str, State] = {"RETAIN_ON_CANCELLATION": "ok", "DELETE_ON_CANCELLATION": "warn"}
    yield Finding(states.get(value, "fail"), f"{_RETENTION} is {value}")


def mode(facts: Facts) -> Iterator[Finding]:
    """Exactly once."""
    value = seen(facts.settings).get(_MODE, "EXACTLY_ONCE")
    yield Finding("ok" if value == "EXACTLY_ONCE" else "fail", f"{_MODE} is {value}")


def tolerable(facts: Facts) -> Iterator[Finding]:
    """Slow storage does not restart a healthy job."""
    value = seen(facts.settings).get(_TOLERABLE, "0")
    yield Finding("warn" if value == "0" else "ok", f"{_TOLERABLE} is {value}")


def backend(facts: Facts) -> Iterator[Finding]:
    """State may be larger than memory."""
    value = seen(facts.settings).get(_BACKEND, "hashmap")
    yield Finding("ok" if value in ("rocksdb", "forst") else "warn", f"{_BACKEND} is {value}")


def python_mode(facts: Facts) -> Iterator[Finding]:
    """Python runs in processes of its own."""
    value = seen(facts.settings).get(_PYTHON, "process")
    yield Finding("ok" if value == "process" else "warn", f"{_PYTHON} is {value}")


def restart_strategy(facts: Facts) -> Iterator[Finding]:
    """A failure restarts the job."""
    value = seen(facts.settings).get(_RESTART, "exponential-delay")
    yield Finding("fail" if value.lower() in ("none", "off", "disable") else "ok", f"{_RESTART} is {value}")


def flink_versions(facts: Facts) -> Iterator[Finding]:
    """Client, JobManager and TaskManagers are of one version."""
    versions = seen(facts.versions)
    yield from _agree(versions, "Flink", lambda found: found.flink)


def connector_versions(facts: Facts) -> Iterator[Finding]:
    """They have the same Kafka connector, and our jar as this code needs it."""
    versions = seen(facts.versions)
    if PACKS_JAR not in versions.client.connectors:
        ours = next((jar for jar in versions.client.connectors if jar.startswith(_OUR_JAR)), "no such jar")
        yield Finding("fail", f"this code reads the packs of {PACKS_JAR}, and in the lib folder here is {ours}")
    yield from _agree(versions, "the connector", lambda found: ", ".join(found.connectors) or "missing")


def java_versions(facts: Facts) -> Iterator[Finding]:
    """The JVMs can load our jar."""
    versions = seen(facts.versions)
    for name, found in _servers(versions).items():
        if isinstance(found, Unseen):
            yield Finding("unknown", f"Java of {name}: {found.why}")
        elif found.java is None:
            yield Finding("unknown", f"Java of {name}: it does not tell")
        else:
            yield Finding("ok" if found.java >= JAVA else "fail", f"{name} runs on Java {found.java}")


def jars(facts: Facts) -> Iterator[Finding]:
    """Every process of Flink has the jars without which a job restarts for ever."""
    for name, found in _servers(seen(facts.versions)).items():
        if isinstance(found, Unseen):
            yield Finding("unknown", f"the jars of {name}: {found.why}")
        elif missing := [jar for jar in _NEEDED if not any(there.startswith(jar) for there in found.connectors)]:
            why = f": {_WITHOUT_ZSTD}" if "zstd-jni-" in missing else ""
            yield Finding("fail", f"{name} has no jar {' and no '.join(f'{jar}*' for jar in missing)}{why}")
        else:
            yield Finding("ok", f"{name} has {', '.join(found.connectors)}")


def _servers(versions: Versions) -> dict[str, Installed | Unseen]:
    return {"the JobManager": versions.jobmanager, **versions.taskmanagers}


def logging_versions(facts: Facts) -> Iterator[Finding]:
    """They log with the same log4j."""
    yield from _agree(seen(facts.versions), "log4j", lambda found: ", ".join(found.loggers) or "missing", "warn")


def _agree(versions: Versions, what: str, of: Callable[[Installed], str], worst: State = "fail") -> Iterator[Finding]:
    ours = of(versions.client)
    same = []
    for name, found in _servers(versions).items():
        if isinstance(found, Unseen):
            yield Finding("unknown", f"{what} of {name}: {found.why}")
        elif of(found) != ours:
            yield Finding(worst, f"{what} of {name} is {of(found)}, and here it is {ours}")
        else:
            same.append(name)
    if same:
        yield Finding("ok", f"{what} is {ours} here and at {', '.join(same)}")


def worker_versions(facts: Facts) -> Iterator[Finding]:
    """Python workers say what they run on; a job's were made for the client's."""
    ours = dict(seen(facts.versions).packages)
    jobs = [job for job in seen(facts.jobs).values() if job is not None]
    if not jobs:
        yield Finding("ok", "no job runs")
    for job in jobs:
        if facts.pipeline.pathway_of(job.name.partition(".")[2]) is not None:
            continue  # a relay has no Python
        if not job.workers:
            yield Finding("unknown", f"{job.name}: its workers have not told yet; they do once they had records")
            continue
        others = {name: version for name, version in sorted(job.workers) if version != plain(ours.get(name, ""))}
        if others:
            theirs = ", ".join(
                f"{name} {version} ({plain(ours.get(name, ''))} here)" for name, version in others.items()
            )
            yield Finding("fail", f"{job.name}: its workers have {theirs}")
        else:
            yield Finding(
                "ok", f"{job.name}: its workers have {', '.join(f'{n} {ours[n]}' for n in PACKAGES)}, as here"
            )


def plain(version: str) -> str:
    """A version as it can stand in a metric's name."""
    return version.replace(".", "_")


def run_versions(facts: Facts) -> Iterator[Finding]:
    """A job runs the code that it was submitted with."""
    jobs, runs = seen(facts.jobs), seen(facts.runs)
    told = False
    for name, job in jobs.items():
        run = next((run for run in runs.get(name, ()) if job is not None and run.job_id == job.id), None)
        if job is None:
            continue
        told = True
        if run is None:
            yield Finding("warn", f"{job.name} runs, and the ledger does not know job {job.id}")
        elif (was := run.versions.get("surecount")) != __version__:
            yield Finding("warn", f"{job.name} was submitted by surecount {was}, and this is {__version__}")
        else:
            yield Finding("ok", f"{job.name} was submitted by surecount {__version__}")
    if not told:
        yield Finding("ok", "no job runs")


def broker_versions(facts: Facts) -> Iterator[Finding]:
    """What the brokers have agreed on; they do not tell the version of their software."""
    for called, kafka in facts.clusters.items():
        features = kafka if isinstance(kafka, Unseen) else kafka.features
        if isinstance(features, Unseen):
            yield Finding("unknown", f"{called}: {features.why}")
            continue
        levels = ", ".join(f"{name} {level}" for name, level in sorted(features.items()))
        yield Finding("ok", f"{called} has the feature levels {levels or 'of none'}")
        if (level := features.get(TRANSACTIONS, 0)) < SAFE_TRANSACTIONS:
            yield Finding(
                "warn",
                f"{called} has {TRANSACTIONS} {level}: before {SAFE_TRANSACTIONS} a delayed message of a producer may "
                "act on its next transaction, which may be lost, torn, or hang (KIP-890; Jepsen, KAFKA-17754)",
                f"with brokers of Kafka 4.0 or later: kafka-features.sh --bootstrap-server {_address(kafka)} upgrade "
                f"--feature {TRANSACTIONS}={SAFE_TRANSACTIONS}",
            )


def _address(kafka: KafkaFacts | Unseen) -> str:
    return kafka.address if isinstance(kafka, KafkaFacts) else "ADDRESS"
