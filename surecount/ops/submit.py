"""Bring a job onto a Flink cluster, after all that can be checked before has been."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Collection, Iterable, Mapping
from importlib import metadata
from pathlib import Path

from surecount import __version__, topics
from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops.code import check_decode, hash_of_code, pack, package, unpack
from surecount.ops.flink import RUNNING_STATES, Flink
from surecount.ops.launch import RefusedError, launch
from surecount.ops.ledger import Ledger, Run, TakenError, begun, config_of, hash_of, newest, now_ms
from surecount.ops.restore import LATEST, check_accepted, find, first_offsets, ids_of_topics
from surecount.ops.restore_rules import EARLIEST
from surecount.ops.snapshots import Folders
from surecount.ops.steps import OnStep, Step, unheard
from surecount.ops.storage import uri_of
from surecount.ops.unfinished import Fate, check_not_ended, check_same, fate_of


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
    on_step: OnStep = unheard,
) -> str:
    """Submit one job of a pipeline and return its id.

    ``environment`` is that of Flink's command line: where its conf and lib folders are. ``snapshot`` is the path
    of a savepoint or checkpoint to start from, or ``LATEST``, which may be none; it is checked, and the run is
    written into the ledger. ``accepted`` are codes of refusals to go against. ``code`` is what the ledger kept of an
    earlier run, to be run in place of that of now.

    Where the ledger's newest run never came to Flink, it is that one which is submitted, as it was written down.

    Raises SurecountError with what is refused, or Flink's own cause; TakenError where another command was first;
    UnsettledError where Flink's command line ended without an answer.
    """
    check_accepted(accepted)
    if code is None:
        check_decode(pipeline_file, pipeline)
    name = job_name(pipeline, job)
    on_step(Step.CHECKING.of(name))
    folders = Folders.of(flink)
    ledger = Ledger(folders.savepoints, pipeline, job)
    runs = ledger.runs()
    last, unfinished = newest(runs), False
    has_snapshots = last is not None and bool(folders.paths([last]))
    # Flink last, and once: what begins after this has the number of the run that this one would be, or its job id.
    jobs = flink.jobs()
    if running := next((one for one in jobs if one.name == name and one.state in RUNNING_STATES), None):
        raise TakenError(
            f"{name} runs already, as job {running.id}",
            "stop it first; `surecount start` starts only what does not run",
        )
    if last is not None:
        state = next((one.state for one in jobs if one.id == last.job_id), None)
        fate = fate_of(last, has_snapshots=has_snapshots, state=state)
        check_not_ended(last, name, fate)
        if unfinished := fate is Fate.UNFINISHED:
            if code is not None:
                raise SurecountError(
                    f"run {last.number} of {name} was written down and may be on its way to Flink",
                    "`surecount start` brings it there",
                    exit_code=1,
                )
            wanted = snapshot if snapshot in (None, LATEST) else uri_of(snapshot)
            check_same(last, name, wanted, parallelism, bounded=bounded)
            pipeline, code = last.pipeline(pipeline), ledger.code(last.code_hash)
            snapshot, accepted = last.snapshot, last.accepted
    origin = None
    if snapshot is not None:
        origin = find(pipeline, job, folders, runs, snapshot, environment, parallelism, accepted, bounded=bounded)
    if origin is None:
        if begun(runs) and snapshot is None and not unfinished:
            raise _known(pipeline, job, runs[-1])
        check_outputs_empty(pipeline, job)
    with tempfile.TemporaryDirectory(prefix="surecount-submit-") as folder:
        shipped = Path(folder) / "code"
        if code is None:
            package(shipped, pipeline_file, pipeline.source.decode)
        else:
            unpack(code, shipped)
        if last is not None and unfinished:
            run = last
        else:
            number = last.number + 1 if last else 1
            run = Run(
                number=number,
                job_id=ledger.job_id(number),
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
                output_ids=topics.ids_of(pipeline.kafka, pipeline.writes(job)),
                begins=first_offsets(pipeline, job),
                generation=origin.generation if origin else last.generation if last else 0,
            )
            ledger.keep_code(run.code_hash, pack(shipped))
            on_step(Step.RECORDING.of(name))
            # Before it begins: a run that the ledger does not know could not be gone on from.
            ledger.add(run)
        if run.generation:
            # The group tells the sources where to read on; in later runs, those of partitions without a record since.
            standing = {place: offset for place, offset in origin.offsets.items() if offset >= 0} if origin else {}
            topics.commit(pipeline.reads(job)[0], pipeline.group_id(job), standing)
        on_step(Step.SUBMITTING.of(name))
        try:
            launch(
                pipeline, flink, environment, job, run, Path(folder),
                moved=origin is not None and origin.moved, gone=gone_offsets(pipeline, job, run),
            )  # fmt: skip
        except RefusedError as refused:
            ledger.refused(run, refused.message)
            raise
    return run.job_id


def gone_offsets(pipeline: Pipeline, job: str, run: Run) -> list[str]:
    """The offsets to read on at that are not there any more, as TOPIC:PARTITION:OFFSET:TO, with the earliest one that
    is: a source would fail. It was accepted that records are missing, or they were markers of transactions only.
    """
    if not run.offsets or run.generation:
        return []
    try:
        held = topics.offsets(*pipeline.reads(job))
    except SurecountError:
        if "unchecked" in run.accepted:
            return []
        raise
    return moved(run.offsets, held)


def moved(offsets: Iterable[tuple[str, int, int]], held: Mapping[tuple[str, int], tuple[int, int]]) -> list[str]:
    """Those of the offsets that topics do not hold, as TOPIC:PARTITION:OFFSET:TO. ``held`` are the first offset and
    that after the last record."""
    found = []
    for topic, partition, offset in offsets:
        low, high = held.get((topic, partition), (0, offset))
        if (offset == EARLIEST and low > 0) or 0 <= offset < low or offset > high:
            found.append(f"{topic}:{partition}:{offset}:{low}")
    return found


def confirm(pipeline: Pipeline, job: str, flink: Flink, job_id: str, on_step: OnStep = unheard) -> None:
    """Make sure that a job which was just started is the ledger's newest run, and that no other one of its name runs;
    or else cancel it, and raise TakenError."""
    name = job_name(pipeline, job)
    on_step(Step.CONFIRMING.of(name))
    runs = Ledger(Folders.of(flink).savepoints, pipeline, job).runs()
    top = [run.job_id for run in runs if run.number == runs[-1].number]
    others = [other.id for other in flink.all_running(name) if other.id != job_id]
    if top == [job_id] and not others:
        return
    why = f"job {', '.join(others)} runs as well" if others else f"the ledger's newest run is job {' and '.join(top)}"
    done = "has ended"
    if flink.state(job_id) in RUNNING_STATES:
        flink.cancel(job_id)
        done = "was cancelled"
    raise TakenError(
        f"another command has started {name}: {why}; what was started here, job {job_id}, {done}",
        "`surecount jobs` lists what runs; cancel what is not the newest, and `surecount start` what does not run",
    )


def _known(pipeline: Pipeline, job: str, last: Run) -> SurecountError:
    return SurecountError(
        f"the ledger knows {last.number} run(s) of {job_name(pipeline, job)}: one from nothing would count again what "
        "is still there, and never what is deleted",
        "`surecount start` goes on from its newest snapshot, --from PATH from another one; or give the pipeline "
        "another name",
        exit_code=1,
    )


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
    environment = {"FLINK_LIB_DIR": str(Path(home) / "lib"), **os.environ, "FLINK_BIN_DIR": str(Path(home) / "bin")}
    lib = environment["FLINK_LIB_DIR"]
    # With the job it would come to where the cluster's own jars, of which ours is one, do not see it.
    if not [*Path(lib).glob("flink-python-*.jar")]:
        raise SurecountError(
            f"{lib}, the client's folder of jars, has no flink-python",
            "copy it there from the opt folder of Flink, and into the lib folders of the cluster",
        )
    return environment


def check_client_tls(url: str, environment: Mapping[str, str]) -> None:
    """Refuse to submit over TLS with Flink's command line where its configuration says nothing of TLS: it takes its
    keys from there only, and would try without."""
    folder = Path(environment.get("FLINK_CONF_DIR") or Path(environment["FLINK_BIN_DIR"]).with_name("conf"))
    file = folder / "config.yaml"
    if url.startswith("https:") and not (file.is_file() and "ssl" in file.read_text(encoding="utf-8")):
        raise SurecountError(
            f"--flink {url}: Flink's command line submits with the keys of {file}, and that has none",
            "set security.ssl.rest.enabled: true and the keystore there (docs/deploy.md), in a file that only you can "
            "read, and FLINK_CONF_DIR to its folder",
        )
