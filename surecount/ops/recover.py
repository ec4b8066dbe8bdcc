"""Bringing a pipeline back from a backup on an empty stack, where its records were restored or mirrored."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from surecount import topics
from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops.backup import SAVEPOINTS, Backup, place
from surecount.ops.flink import Flink
from surecount.ops.ledger import LEDGER, Ledger, Moved
from surecount.ops.marks import find
from surecount.ops.recover_plan import Places, Plan, plan
from surecount.ops.restore import check_accepted
from surecount.ops.snapshots import Folders
from surecount.ops.steps import OnStep, Step, unheard
from surecount.ops.storage import Folder, uri_of
from surecount.ops.submit import job_name


def bring_files(folder: Folder, backup: Backup, to: Path) -> list[Path]:
    """Write the pipeline file of a backup as ``to``, unless there is one, and the user's code beside it where that is
    missing; what was written. Raises SurecountError where another file is in the way of the code, or where a link leads
    out of the folder that ``to`` is in.
    """
    pipeline, *code = backup.files
    wanted = {to.parent / name: name for name in code}
    if outside := [path for path in wanted if not path.resolve().is_relative_to(to.parent.resolve())]:
        raise SurecountError(
            f"{outside[0]} leads to {outside[0].resolve()}, outside {to.parent}",
            "name a pipeline file in another folder",
        )
    if not to.exists():
        wanted[to] = pipeline
    contents = {path: place(folder, name).read(Path(name).name) for path, name in wanted.items()}
    for path, content in contents.items():
        if path.exists() and path.read_bytes() != content:
            raise SurecountError(f"{path} is not the one of the backup", "name a pipeline file in another folder")
    written = [path for path in contents if not path.exists()]
    for path in written:
        Folder(uri_of(str(path.parent.resolve()))).write(path.name, contents[path])
    return written


@dataclass(frozen=True)
class Recovery:
    """A recovery from ``folder``, which holds ``backup``, to a cluster. ``on_step`` hears what is being done."""

    folder: Folder
    backup: Backup
    pipeline: Pipeline
    flink: Flink
    on_step: OnStep = unheard

    def prepare(self) -> tuple[Plan, list[str]]:
        """Make the topics that are missing, and find the marks: the plan, and the names of topics that were made.

        Raises SurecountError where the stack is not empty of this pipeline.
        """
        if self.pipeline.name != self.backup.name:
            raise SurecountError(f"the backup is of {self.backup.name}, and the file of {self.pipeline.name}")
        if missing := set(self.backup.jobs) ^ set(self.pipeline.jobs):
            raise SurecountError(f"the backup and the file do not have the same jobs: {', '.join(sorted(missing))}")
        self._check_empty()
        self.on_step(Step.TOPICS.of(self.pipeline.name))
        kafka = self.pipeline.kafka
        admin = topics.Admin(kafka)
        names = [topic.name for topic in self.backup.topics]
        cluster = topics.describe(admin, names, only_own=True)
        created = admin.create(
            [
                replace(topic, replicas=min(topic.replicas, cluster.brokers))
                for topic in self.backup.topics
                if topic.name not in cluster.topics
            ]
        )
        there = topics.describe(admin, names, only_own=True).topics
        return plan(self.pipeline, self.backup, there, self._found()), created

    def bring(self, made: Plan, accepted: Collection[str] = ()) -> None:
        """Bring savepoints, the ledger and groups back; then the jobs can be started as any others.

        Raises SurecountError with every refusal that is not among the ``accepted`` codes, before anything is done.
        """
        check_accepted(accepted)
        if left := [refusal for refusal in made.refusals if refusal.code not in accepted]:
            lines = "\n".join(dict.fromkeys(map(str, left)))
            raise SurecountError(f"{self.pipeline.name} cannot go on exactly from the backup:\n{lines}", exit_code=1)
        name, here, there = self.pipeline.name, self.folder.folder(SAVEPOINTS), Folders.of(self.flink).savepoints
        with ExitStack() as bringing:
            # Before anything else: nobody goes on from half a recovery, or from two at once.
            for job in self.backup.jobs:
                bringing.enter_context(Ledger(there, self.pipeline, job).recovering(self.folder.uri))
            self.on_step(Step.GROUPS.of(name))
            for group, offsets in made.groups.items():
                topics.commit(self.pipeline.kafka, group, offsets)
            for sending in self.backup.sendings:
                topics.commit(self.pipeline.kafka, sending.group, {(sending.topic, 0): sending.byte}, sending.metadata)
            self.on_step(Step.COPYING.of(name))
            for one in self.backup.jobs.values():
                here.folder(one.savepoint).copy(there.folder(one.savepoint))
            for job, one in self.backup.jobs.items():
                self.on_step(Step.LEDGER.of(job_name(self.pipeline, job)))
                kept, ledger = Ledger(here, self.pipeline, job), Ledger(there, self.pipeline, job)
                moved = tuple((*at, offset) for at, offset in made.moved[job].items())
                ledger.moved(kept.runs()[-1], Moved(one.savepoint, moved))
                kept.copy_events(ledger)

    def _check_empty(self) -> None:
        """An attempt that did not come to its end may be made again; what went on from a backup may not."""
        here, there = Folders.of(self.flink).savepoints, self.folder.folder(SAVEPOINTS)
        for job in self.pipeline.jobs:
            name = job_name(self.pipeline, job)
            more = Ledger(here, self.pipeline, job).known() - Ledger(there, self.pipeline, job).known()
            if self.flink.running(name) or more:
                raise SurecountError(
                    f"{name} runs, or {here.uri}/{LEDGER} knows runs of it that the backup does not",
                    "`surecount start` goes on from their newest snapshots; a recovery needs an empty stack",
                    exit_code=1,
                )

    def _found(self) -> Places:
        """Where all marks stand."""
        reads, writes, groups = {}, {}, {}
        for job, one in self.backup.jobs.items():
            self.on_step(Step.MARKS.of(job_name(self.pipeline, job)))
            reads[job] = find(self.pipeline.reads(job)[0], one.reads, count_after=False)
            writes[job] = find(self.pipeline.kafka, one.writes, count_after=True)
        for group, marks in self.backup.groups.items():
            self.on_step(Step.MARKS.of(f"group {group}"))
            groups[group] = find(self.pipeline.kafka, marks, count_after=False)
        return Places(reads, writes, groups)
