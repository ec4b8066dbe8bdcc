"""A backup of a pipeline: all that its jobs need to go on elsewhere, of one moment, but for the records themselves.

A folder holds it:

- ``backup.json``, written last: topics and their own settings, where each job reads on and ends to write, and how
  far consumer groups had come, as marks that are found again where offsets are others.
- ``pipeline/``, the pipeline file and the user's code beside it.
- ``savepoints/``, the savepoints of the jobs, and the run ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from surecount import __version__, topics, transactions
from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops.code import beside
from surecount.ops.flink import Flink
from surecount.ops.ledger import LEDGER, now_ms
from surecount.ops.life import Life, OnStep
from surecount.ops.marks import Mark, take
from surecount.ops.snapshots import Folders, Place, maker, read
from surecount.ops.storage import Folder
from surecount.ops.submit import job_name
from surecount.topic_rules import Topic, output_names

VERSION = 1
CONTENTS = "backup.json"
PIPELINE, SAVEPOINTS = "pipeline", "savepoints"


@dataclass(frozen=True)
class JobBackup:
    """A job: the name of its savepoint's folder, where it ``reads`` on, and where what it ``writes`` ended."""

    savepoint: str
    parallelism: int
    reads: tuple[Mark, ...]
    writes: tuple[Mark, ...]


@dataclass(frozen=True)
class Sending:
    """How far a ``surecount send`` had come: its position is in bytes of a file, and no offset."""

    group: str
    topic: str
    byte: int
    metadata: str


@dataclass(frozen=True)
class Backup:
    """What ``backup.json`` says; ``at_ms`` since 1970; ``files`` are the pipeline file and the user's code, by their
    paths beside it; ``groups`` are those of others than the jobs."""

    name: str
    files: tuple[str, ...]
    at_ms: int
    surecount: str
    brokers: int
    topics: tuple[Topic, ...]
    jobs: Mapping[str, JobBackup]
    groups: Mapping[str, tuple[Mark, ...]] = field(default_factory=dict)
    sendings: tuple[Sending, ...] = ()
    version: int = VERSION


_CONTENT = TypeAdapter(Backup)


def load(folder: Folder) -> Backup:
    """What a backup holds. Raises SurecountError where there is none, or one of another version."""
    if CONTENTS not in folder.files():
        raise SurecountError(f"{folder.uri}: there is no {CONTENTS}: no backup, or one that did not come to its end")
    content = folder.read(CONTENTS)
    try:
        backup = _CONTENT.validate_json(content)
    except ValidationError as error:
        raise SurecountError(f"{folder.uri}/{CONTENTS}: not a backup that this version knows: {error}") from error
    if backup.version != VERSION:
        raise SurecountError(f"{folder.uri}/{CONTENTS}: written by another version of surecount, {backup.surecount}")
    return backup


@dataclass(frozen=True)
class Work:
    """A backup of a pipeline's jobs on a cluster into the folder ``target``. ``on_step`` hears what is being done."""

    pipeline: Pipeline
    file: Path
    flink: Flink
    environment: dict[str, str]
    target: Folder
    on_step: OnStep = lambda _: None

    def run(self) -> Backup:
        """Stop the jobs that run, the last of the flow first, look where everything stands, and start them again.

        Raises SurecountError, then with the jobs started again, where something cannot be had.
        """
        if self.target.files() or self.target.folders():
            raise SurecountError(f"{self.target.uri} is not empty", "name a folder that does not exist yet")
        life = Life(self.pipeline, self.file, self.flink, self.environment, self.on_step)
        savepoints = self._stopped_with(life)
        running, stopped = life.running(self.pipeline.jobs), []
        try:
            for job in reversed(self.pipeline.jobs):
                if job in running:
                    savepoints |= life.stop([job])
                    stopped.append(job)
            self.on_step("looking where topics and groups stand")
            at_ms = now_ms()
            ends = {job: self._ends(self.pipeline.writes(job)) for job in self.pipeline.jobs}
            groups, sendings = self._groups()
            # As it is now: the run that begins next goes on from here as well.
            self._copy_ledgers()
        finally:
            for job in reversed(stopped):
                life.start([job], snapshot=savepoints[job])
        return self._keep(life, savepoints, at_ms, ends, groups, sendings)

    def _stopped_with(self, life: Life) -> dict[str, str]:
        """The savepoints of the jobs that don't run."""
        running, found = life.running(self.pipeline.jobs), {}
        for job in self.pipeline.jobs:
            if job in running:
                continue
            runs = life.ledger(job).runs()
            if not runs or runs[-1].stopped_with is None:
                raise SurecountError(
                    f"{job_name(self.pipeline, job)} does not run, and was not stopped with a savepoint",
                    "`surecount start` it first: a checkpoint cannot be taken elsewhere",
                    exit_code=1,
                )
            found[job] = runs[-1].stopped_with
        return found

    def _copy_ledgers(self) -> None:
        ledgers = Folders.of(self.flink).savepoints.folder(LEDGER)
        for job in self.pipeline.jobs:
            name = job_name(self.pipeline, job)
            ledgers.folder(name).copy(self.target.folder(SAVEPOINTS).folder(LEDGER).folder(name))

    def _ends(self, names: Sequence[str]) -> dict[Place, int]:
        return {place: high for place, (_, high) in topics.offsets(self.pipeline.kafka, names).items()}

    def _groups(self) -> tuple[dict[str, dict[Place, int]], list[Sending]]:
        """The offsets of all groups but the jobs' own, and what `send` had sent."""
        kafka, known = self.pipeline.kafka, topics.offsets(self.pipeline.kafka, self._topics())
        own = {self.pipeline.group_id(job) for job in self.pipeline.jobs}
        groups, sendings = {}, []
        for group in topics.groups(kafka):
            if group in own:
                continue
            if group.startswith(self.pipeline.group_id("send.")):
                sent = {topic: transactions.committed(kafka, topic, group) for topic in self._raw()}
                sendings += [Sending(group, topic, at.byte, at.metadata) for topic, at in sent.items() if at]
            elif found := topics.committed(kafka, group, known):
                groups[group] = found
        return groups, sendings

    def _raw(self) -> list[str]:
        """The raw topics on the pipeline's own cluster."""
        own = (pathway for pathway in self.pipeline.pathways if not self.pipeline.is_relayed(pathway))
        return [name for pathway in own for name in pathway.topics]

    def _topics(self) -> list[str]:
        """The pipeline's topics on its own cluster that exist."""
        names = [*self._raw(), *output_names(self.pipeline)]
        known = topics.Admin(self.pipeline.kafka).metadata().topics
        return [name for name in dict.fromkeys(names) if name in known]

    def _keep(
        self,
        life: Life,
        savepoints: Mapping[str, str],
        at_ms: int,
        ends: Mapping[str, Mapping[Place, int]],
        groups: Mapping[str, Mapping[Place, int]],
        sendings: Iterable[Sending],
    ) -> Backup:
        """Write it all; nothing of it changes while the jobs run on."""
        pipeline = self.pipeline
        self.on_step("looking at the records that come before")
        runs = {job: life.ledger(job).runs() for job in pipeline.jobs}
        made = {path: maker(path, runs[job]) for job, path in savepoints.items()}
        snapshots = {snapshot.path: snapshot for snapshot in read(lambda: made, self.environment)}
        jobs = {}
        for job, path in savepoints.items():
            kafka, _ = pipeline.reads(job)
            # An offset below 0 stands for the earliest one: nothing was read yet.
            wanted = {place: max(0, offset) for place, offset in snapshots[path].offsets.items()}
            jobs[job] = JobBackup(
                savepoint=Folder(path).name,
                parallelism=made[path].parallelism,
                reads=tuple(take(kafka, wanted).values()),
                writes=tuple(take(pipeline.kafka, ends[job]).values()),
            )
        files = self._own_files()
        cluster = topics.describe(topics.Admin(pipeline.kafka), self._topics(), only_own=True)
        backup = Backup(
            name=pipeline.name,
            files=tuple(files),
            at_ms=at_ms,
            surecount=__version__,
            brokers=cluster.brokers,
            topics=tuple(cluster.topics.values()),
            jobs=jobs,
            groups={group: tuple(take(pipeline.kafka, places).values()) for group, places in groups.items()},
            sendings=tuple(sendings),
        )
        self.on_step("copying savepoints")
        for job, path in savepoints.items():
            Folder(path).copy(self.target.folder(SAVEPOINTS).folder(jobs[job].savepoint))
        for name, content in files.items():
            self.target.folder(PIPELINE).folder(str(Path(name).parent)).write(Path(name).name, content)
        self.target.write(CONTENTS, _CONTENT.dump_json(backup, indent=2) + b"\n")
        return backup

    def _own_files(self) -> dict[str, bytes]:
        files = {self.file.name: self.file}
        if self.pipeline.source.decode is not None:
            files |= beside(self.file.resolve().parent, self.pipeline.source.decode)
        return {name: path.read_bytes() for name, path in files.items()}


def to_dict(backup: Backup, folder: Folder) -> dict[str, Any]:
    """A backup in short, as JSON."""
    return {
        "folder": folder.uri,
        "at_ms": backup.at_ms,
        "topics": [topic.name for topic in backup.topics],
        "groups": sorted([*backup.groups, *{sending.group for sending in backup.sendings}]),
        "jobs": {job: asdict(one) for job, one in backup.jobs.items()},
    }
