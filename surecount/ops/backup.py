"""A backup of a pipeline: all that its jobs need to go on elsewhere, of one moment, but for the records themselves.

A folder holds it:

- ``backup.json``, written last: topics and their own settings, where each job reads on and ends to write, and how
  far consumer groups had come, as marks that are found again where offsets are others.
- ``pipeline/``, the pipeline file and the user's code beside it.
- ``savepoints/``, the savepoints of the jobs, and the run ledger.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from surecount import __version__, topics, transactions
from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops.code import beside
from surecount.ops.flink import Flink, Job
from surecount.ops.ledger import LEDGER, now_ms
from surecount.ops.life import Life
from surecount.ops.marks import Mark, take
from surecount.ops.snapshots import Folders, Place, maker, read
from surecount.ops.steps import OnStep, unheard
from surecount.ops.storage import Folder
from surecount.ops.submit import job_name
from surecount.ops.upgrade import Upgrade
from surecount.topic_rules import Topic, output_names

VERSION = 1
CONTENTS = "backup.json"
PIPELINE, SAVEPOINTS = "pipeline", "savepoints"


@dataclass(frozen=True)
class JobBackup:
    """A job: the name of its savepoint's folder, where it ``reads`` on, and where what it ``writes`` ended."""

    savepoint: str
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
    topics: tuple[Topic, ...]
    jobs: Mapping[str, JobBackup]
    groups: Mapping[str, tuple[Mark, ...]] = field(default_factory=dict)
    sendings: tuple[Sending, ...] = ()
    version: int = VERSION


_CONTENT = TypeAdapter(Backup)


def place(folder: Folder, name: str) -> Folder:
    """Where in a backup one of its ``files`` is."""
    for part in Path(PIPELINE, name).parts[:-1]:
        folder = folder.folder(part)
    return folder


def load(folder: Folder) -> Backup:
    """What a backup holds. Raises SurecountError where there is none, or one of another version."""
    if CONTENTS not in folder.files():
        raise SurecountError(f"{folder.uri}: there is no {CONTENTS}: no backup, or one that did not come to its end")
    content = folder.read(CONTENTS)
    try:
        if (version := json.loads(content).get("version")) != VERSION:
            raise SurecountError(f"{folder.uri}/{CONTENTS} is of version {version}, and {VERSION} is known here")
        found = _CONTENT.validate_json(content)
    except (ValidationError, ValueError, AttributeError) as error:
        raise SurecountError(f"{folder.uri}/{CONTENTS}: not a backup: {error}") from error
    _check_names(folder, found)
    return found


def _check_names(folder: Folder, backup: Backup) -> None:
    """Raise SurecountError where a name would lead out of the folder that it is a name in: ours never do."""
    inside = all(_is_inside(name) for name in backup.files)
    if not backup.files or not inside or not all(_SAVEPOINT.fullmatch(one.savepoint) for one in backup.jobs.values()):
        raise SurecountError(
            f"{folder.uri}/{CONTENTS}: not a backup that surecount made: it names files outside its own folder",
            "use another backup; nothing was written",
        )


_SAVEPOINT = re.compile(r"savepoint-[0-9a-f]{6}-[0-9a-f]+")


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts and "\\" not in name and "\0" not in name


@dataclass(frozen=True)
class Work:
    """A backup of a pipeline's jobs on a cluster into the folder ``target``. ``on_step`` hears what is being done."""

    pipeline: Pipeline
    file: Path
    flink: Flink
    environment: dict[str, str]
    target: Folder
    on_step: OnStep = unheard

    def run(self) -> Backup:
        """Stop the jobs that run, the last of the flow first, look where everything stands, and start them again.

        Raises SurecountError, before anything is stopped where that can be seen; and where a job could not be started
        again, with its name.
        """
        if CONTENTS in self.target.files():
            raise SurecountError(f"{self.target.uri} holds a backup", "name another folder")
        life = Life(self.pipeline, self.file, self.flink, self.environment, self.on_step)
        running = life.running(self.pipeline.jobs)
        savepoints = self._stopped_with(life, running)
        self._check(life, running)
        groups = topics.Admin(self.pipeline.kafka).groups()
        try:
            for job in reversed(self.pipeline.jobs):
                if job in running:
                    savepoints |= life.stop([job])
            self.on_step("looking where topics and groups stand")
            at_ms = now_ms()
            ends = {job: self._ends(self.pipeline.writes(job)) for job in self.pipeline.jobs}
            known = topics.offsets(self.pipeline.kafka, self._topics())
            others = filter(self._is_others, groups)
            committed = {group: topics.committed(self.pipeline.kafka, group, known) for group in others}
            sendings = self._sendings(groups)
            # As it is now: the run that begins next goes on from here as well.
            self._copy_ledgers()
        except BaseException as error:
            self._start_again(life, list(running), f"after {error}" if isinstance(error, SurecountError) else "")
            raise
        self._start_again(life, list(running))
        return self._keep(life, savepoints, at_ms, ends, committed, sendings)

    def _stopped_with(self, life: Life, running: Collection[str]) -> dict[str, str]:
        """The savepoints of the jobs that don't run."""
        found = {}
        for job in self.pipeline.jobs:
            if job in running:
                continue
            runs, name = life.ledger(job).runs(), job_name(self.pipeline, job)
            if not runs or runs[-1].stopped_with is None:
                raise SurecountError(
                    f"{name} does not run, and was not stopped with a savepoint",
                    "`surecount start` it first: a checkpoint cannot be taken elsewhere",
                    exit_code=1,
                )
            path = found[job] = runs[-1].stopped_with
            if "_metadata" not in Folder(path).files():
                raise SurecountError(f"{name} was stopped with {path}, which is not there", exit_code=1)
        return found

    def _check(self, life: Life, running: Mapping[str, Job]) -> None:
        """Raise where a job that is stopped could not be started as it was."""
        for job, one in running.items():
            run = next((run for run in life.ledger(job).runs() if run.job_id == one.id), None)
            if run is not None and run.bounded:
                raise SurecountError(f"{one.name} ends by itself, where its input ends", "back it up then", exit_code=1)
            topics.offsets(*self.pipeline.reads(job))
        if running:
            plans = Upgrade(self.pipeline, self.file, self.flink, self.environment).plans(list(running))
            if changed := [job_name(self.pipeline, plan.job) for plan in plans if plan.changes]:
                raise SurecountError(
                    f"the pipeline file or the code has changed since {', '.join(changed)} was started",
                    "`surecount upgrade` first, or back up with the file and the code that run",
                    exit_code=1,
                )

    def _start_again(self, life: Life, jobs: Sequence[str], why: str = "") -> None:
        failed = []
        for job in jobs:
            try:
                life.start([job])
            except SurecountError as error:
                failed.append(f"{job_name(self.pipeline, job)}: {error.message}")
        if failed:
            raise SurecountError(
                "\n".join(["stopped for the backup, and not started again:", *failed, *filter(None, [why])]),
                "`surecount start` starts what does not run",
                exit_code=1,
            )

    def _is_others(self, group: str) -> bool:
        """Whether a group is of others than our jobs and sendings, and than other pipelines."""
        if not group.startswith("surecount."):
            return True
        jobs = [self.pipeline.group_id(job) for job in self.pipeline.jobs]
        ours = group.startswith(self.pipeline.group_id("")) and not group.startswith(self.pipeline.group_id("send."))
        return ours and group not in jobs

    def _copy_ledgers(self) -> None:
        ledgers = Folders.of(self.flink).savepoints.folder(LEDGER)
        for job in self.pipeline.jobs:
            name = job_name(self.pipeline, job)
            ledgers.folder(name).copy(self.target.folder(SAVEPOINTS).folder(LEDGER).folder(name), private=True)

    def _ends(self, names: Sequence[str]) -> dict[Place, int]:
        return {place: high for place, (_, high) in topics.offsets(self.pipeline.kafka, names).items()}

    def _sendings(self, groups: Iterable[str]) -> list[Sending]:
        """How far each `send` had come."""
        kafka, found = self.pipeline.kafka, []
        for group in groups:
            if group.startswith(self.pipeline.group_id("send.")):
                sent = {topic: transactions.committed(kafka, topic, group) for topic in self._raw()}
                found += [Sending(group, topic, at.byte, at.metadata) for topic, at in sent.items() if at]
        return found

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
        """Write it all, while the jobs run on."""
        pipeline = self.pipeline
        self.on_step("looking at the records that come before")
        runs = {job: life.ledger(job).runs() for job in pipeline.jobs}
        made = {path: maker(path, runs[job]) for job, path in savepoints.items()}
        snapshots = {snapshot.path: snapshot for snapshot in read(lambda: made, self.environment)}
        jobs = {}
        for job, path in savepoints.items():
            kafka, names = pipeline.reads(job)
            held = topics.offsets(kafka, names)
            # Below 0 is the marker of the earliest one: nothing was read yet.
            wanted = {
                place: offset if offset >= 0 else held[place][0] for place, offset in snapshots[path].offsets.items()
            }
            jobs[job] = JobBackup(
                savepoint=Folder(path).name,
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
            topics=tuple(cluster.topics.values()),
            jobs=jobs,
            groups={group: tuple(take(pipeline.kafka, places).values()) for group, places in groups.items()},
            sendings=tuple(sendings),
        )
        self.on_step("copying savepoints")
        for job, path in savepoints.items():
            Folder(path).copy(self.target.folder(SAVEPOINTS).folder(jobs[job].savepoint), private=True)
        for name, content in files.items():
            place(self.target, name).write(Path(name).name, content)
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
