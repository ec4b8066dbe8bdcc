"""Bringing a pipeline back from a backup on an empty stack, where its records were restored or mirrored."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from surecount import topics
from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops.backup import PIPELINE, SAVEPOINTS, Backup
from surecount.ops.flink import Flink
from surecount.ops.ledger import LEDGER, Ledger
from surecount.ops.life import Life, OnStep
from surecount.ops.marks import Found, Mark, find
from surecount.ops.recover_plan import Plan, plan
from surecount.ops.restore_rules import ACCEPTABLE
from surecount.ops.snapshots import Folders
from surecount.ops.storage import Folder
from surecount.ops.submit import job_name


def bring_file(folder: Folder, backup: Backup, to: Path) -> bool:
    """Write the pipeline file of a backup, and the user's code beside it, unless there is one; whether it did.

    Raises SurecountError where another file than that is in the way of the code.
    """
    if to.exists():
        return False
    pipeline, *code = backup.files
    wanted = {to: pipeline, **{to.parent / name: name for name in code}}
    contents = {}
    for path, name in wanted.items():
        contents[path] = folder.folder(PIPELINE).folder(str(Path(name).parent)).read(Path(name).name)
        if path.exists() and path.read_bytes() != contents[path]:
            raise SurecountError(f"{path} is not the one of the backup", "name a pipeline file in another folder")
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return True


@dataclass(frozen=True)
class Recovery:
    """A recovery from ``folder``, which holds ``backup``, to a cluster. ``on_step`` hears what is being done."""

    folder: Folder
    backup: Backup
    pipeline: Pipeline
    file: Path
    flink: Flink
    environment: dict[str, str]
    on_step: OnStep = lambda _: None

    def prepare(self) -> tuple[Plan, list[str]]:
        """Make the topics that are missing, and find the marks: the plan, and the names of topics that were made.

        Raises SurecountError where the stack is not empty of this pipeline.
        """
        if self.pipeline.name != self.backup.name:
            raise SurecountError(f"the backup is of {self.backup.name}, and the file of {self.pipeline.name}")
        if missing := set(self.backup.jobs) ^ set(self.pipeline.jobs):
            raise SurecountError(f"the backup and the file do not have the same jobs: {', '.join(sorted(missing))}")
        self._check_empty()
        self.on_step("making topics")
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

    def run(self, made: Plan, accepted: Collection[str] = ()) -> dict[str, str]:
        """Bring the ledger, savepoints and groups back, and start the jobs; ids by job.

        Raises SurecountError with every refusal that is not among the ``accepted`` codes, before anything is done.
        """
        if unknown := sorted(set(accepted) - set(ACCEPTABLE)):
            raise SurecountError(f"--accept {unknown[0]}: no such code", f"one of {', '.join(ACCEPTABLE)}")
        if left := [refusal for refusal in made.refusals if refusal.code not in accepted]:
            lines = "\n".join(dict.fromkeys(map(str, left)))
            raise SurecountError(f"{self.pipeline.name} cannot go on exactly from the backup:\n{lines}", exit_code=1)
        self.on_step("copying savepoints and the run ledger")
        savepoints = Folders.of(self.flink).savepoints
        self.folder.folder(SAVEPOINTS).copy(savepoints)
        for group, offsets in made.groups.items():
            if offsets:
                topics.commit(self.pipeline.kafka, group, offsets)
        for sending in self.backup.sendings:
            place = (sending.topic, 0)
            topics.commit(self.pipeline.kafka, sending.group, {place: sending.byte}, sending.metadata)
        life = Life(self.pipeline, self.file, self.flink, self.environment, self.on_step)
        ids: dict[str, str] = {}
        for job in self.pipeline.jobs:
            one = self.backup.jobs[job]
            ids |= life.start(
                [job],
                snapshot=savepoints.folder(one.savepoint).uri,
                parallelism=one.parallelism,
                accepted=accepted,
                moved=made.moved[job],
            )
        return ids

    def _check_empty(self) -> None:
        """An attempt that did not come to its end may be made again; what went on from a backup may not."""
        here, there = Folders.of(self.flink).savepoints, self.folder.folder(SAVEPOINTS)
        for job in self.pipeline.jobs:
            name = job_name(self.pipeline, job)
            kept = {run.job_id for run in Ledger(there, self.pipeline, job).runs()}
            if any(run.job_id not in kept for run in Ledger(here, self.pipeline, job).runs()):
                raise SurecountError(
                    f"{here.uri}/{LEDGER} knows runs of {name} that the backup does not",
                    "`surecount start` goes on from their newest snapshot; a recovery needs an empty stack",
                    exit_code=1,
                )

    def _found(self) -> dict[Mark, Found]:
        """Where all marks stand."""
        found: dict[Mark, Found] = {}
        for job, one in self.backup.jobs.items():
            self.on_step(f"looking where {job_name(self.pipeline, job)} reads on")
            found |= find(self.pipeline.reads(job)[0], one.reads, count_after=False)
            found |= find(self.pipeline.kafka, one.writes, count_after=True)
        for group, marks in self.backup.groups.items():
            self.on_step(f"looking where group {group} had come to")
            new = [mark for mark in marks if mark not in found]
            found |= find(self.pipeline.kafka, new, count_after=False)
        return found
