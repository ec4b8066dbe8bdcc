"""Which snapshots of a job nothing needs any more, and their removal.

A restore needs the newest snapshot. Until the last run has made one of its own, that is the one which it began from,
and Flink itself goes back to it when the job fails. Checkpoints of one run share files, so they stay or go together;
those of the last run are Flink's to remove.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from surecount.errors import SurecountError
from surecount.ops.flink import RUNNING_STATES, Flink
from surecount.ops.ledger import Run, job_ids_of_others
from surecount.ops.life import Life, Listed
from surecount.ops.snapshots import Folders, Snapshot, maker, savepoint_name
from surecount.ops.storage import Folder


@dataclass(frozen=True)
class Surplus:
    """A folder that can go; ``run`` is the number of the run that made it, ``what`` says what it holds."""

    folder: Folder
    run: int
    what: str


def find(life: Life, flink: Flink, job: str, keep: int) -> list[Surplus]:
    """The folders that can go of a job's snapshots; :func:`surplus` says how many stay, and what is raised."""
    alive = {one.id for one in flink.jobs() if one.state in RUNNING_STATES}
    folders = Folders.of(flink)
    listed = life.snapshots(job)
    return surplus(listed, folders, alive, job_ids_of_others(folders.savepoints, life.ledger(job)), keep)


def surplus(
    listed: Listed, folders: Folders, alive: Collection[str], others: Collection[str], keep: int
) -> list[Surplus]:
    """The folders that can go of a job's snapshots, those of the oldest run first.

    ``keep`` is how many of the newest snapshots stay, 1 or more. ``alive`` are the ids of Flink's jobs that have not
    ended: what of theirs has no metadata may be in the making. ``others`` are the job ids of other ledgers, whose
    savepoints are in the same folder. Raises SurecountError where the newest snapshot itself is missing.
    """
    if listed.newest is None:
        if listed.runs and (began := listed.runs[-1].snapshot):
            raise SurecountError(
                f"nothing is removed: the newest snapshot of {listed.job} would be {began}, which is not there",
                "restore its files, or go on from another one with `surecount start --from`",
                exit_code=1,
            )
        return []
    kept = {snapshot.path for snapshot in needed(listed.snapshots, listed.newest, keep)}
    found = [
        *_savepoints(listed, folders, kept, alive, others),
        *_checkpoints(listed.runs, folders, kept, alive),
    ]
    return sorted(found, key=lambda one: (one.run, one.folder.uri))


def needed(snapshots: Sequence[Snapshot], newest: Snapshot, keep: int) -> list[Snapshot]:
    """The snapshot to go on from, and others of the newest, ``keep`` in all."""
    others = sorted((s for s in snapshots if s.path != newest.path), key=lambda s: (s.run.number, s.id))
    return [newest, *others[::-1][: keep - 1]]


def _savepoints(
    listed: Listed, folders: Folders, kept: Collection[str], alive: Collection[str], others: Collection[str]
) -> Iterator[Surplus]:
    whole = {snapshot.path for snapshot in listed.snapshots}
    # A folder's name has only the first digits of its job's id, so it may be another ledger's, too.
    shared = tuple(map(savepoint_name, others))
    for folder in folders.savepoints.folders():
        mine = [run for run in listed.runs if folder.name.startswith(savepoint_name(run.job_id))]
        if not mine or folder.uri in kept or folder.name.startswith(shared):
            continue
        run = maker(folder.uri, mine)
        if folder.uri in whole:
            yield Surplus(folder, run.number, "savepoint")
        elif run.job_id not in alive and run.job_id != listed.runs[-1].job_id:
            yield Surplus(folder, run.number, "part of a savepoint")


def _checkpoints(
    runs: Sequence[Run], folders: Folders, kept: Collection[str], alive: Collection[str]
) -> Iterator[Surplus]:
    there = {folder.name: folder for folder in folders.checkpoints.folders()}
    for run in runs[:-1]:
        folder = there.get(run.job_id)
        if folder is None or run.job_id in alive or any(path.startswith(f"{folder.uri}/") for path in kept):
            continue
        yield Surplus(folder, run.number, "checkpoints")
