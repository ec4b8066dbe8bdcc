"""Finding the snapshot that a job is to go on from, and making sure that it can."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from surecount import topics
from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops.ledger import Run
from surecount.ops.restore_rules import ACCEPTABLE, check_restore
from surecount.ops.snapshots import Folders, Place, Snapshot, as_moved, latest, maker, read
from surecount.ops.storage import uri_of
from surecount.ops.transactions import transactions

LATEST = "latest"

T = TypeVar("T")


def check_accepted(accepted: Collection[str]) -> None:
    """Raise SurecountError where a code that is to be accepted is none."""
    if unknown := sorted(set(accepted) - set(ACCEPTABLE)):
        raise SurecountError(f"--accept {unknown[0]}: no such code", f"one of {', '.join(ACCEPTABLE)}")


def find(
    pipeline: Pipeline,
    job: str,
    folders: Folders,
    runs: Sequence[Run],
    wanted: str,
    environment: Mapping[str, str],
    parallelism: int,
    accepted: Collection[str] = (),
    *,
    bounded: bool = False,
) -> Snapshot | None:
    """The snapshot at the path ``wanted``, or the newest for ``LATEST``, checked for the job as it is now.

    None where no run has come as far as a checkpoint. Raises SurecountError with all that stands against it.
    """
    runs = folders.begun(runs)
    path = None if wanted == LATEST else uri_of(wanted)
    if path is None and not runs:
        return None

    def paths() -> dict[str, Run]:
        named = {} if path is None else {path: maker(path, runs)}
        return {**_candidates(folders, runs), **named}

    snapshots = read(paths, environment)
    newest = latest(runs, snapshots)
    if newest is None and runs and runs[-1].snapshot:
        raise _gone(runs[-1].snapshot, f"run {runs[-1].number} began from it, and came to no checkpoint of its own")
    if path is None:
        chosen = newest
    elif (chosen := next((snapshot for snapshot in snapshots if snapshot.path == path), None)) is None:
        raise _gone(path, "or it was never complete")
    if chosen is None:
        return None
    held = _held(pipeline, job)
    chosen = as_moved(chosen, runs)
    if chosen.moved and held is not None:
        # Partitions that no one had read when the backup was made.
        chosen = replace(chosen, offsets={**{place: low for place, (low, _) in held.items()}, **chosen.offsets})
    told = []
    if chosen.committables and chosen.run.stopped_with != chosen.path:
        told = transactions(pipeline.kafka, environment, [pipeline.transactional_id_prefix(job, "")])
    ids = None if chosen.moved else ids_of_topics(pipeline, job)
    committed = None if held is None else topics.committed(pipeline.reads(job)[0], pipeline.group_id(job), held)
    check_restore(
        pipeline, job, chosen, newest, held, parallelism, accepted, runs, told, ids, committed, bounded=bounded
    )
    return chosen


def _gone(path: str, more: str) -> SurecountError:
    hint = "`surecount snapshots PIPELINE` lists those that there are; restore its files, or name another with --from"
    return SurecountError(f"there is no snapshot at {path}: {more}", hint, exit_code=1)


def ids_of_topics(pipeline: Pipeline, job: str) -> dict[str, str] | None:
    """The brokers' id of each topic that a job reads; None where another cluster than ours is away."""
    kafka, names = pipeline.reads(job)
    return _if_there(pipeline, job, lambda: topics.Admin(kafka).ids(names))


def first_offsets(pipeline: Pipeline, job: str) -> tuple[tuple[str, int, int], ...]:
    """The first offset of each partition that a job reads; none where another cluster than ours is away."""
    held = _held(pipeline, job) or {}
    return tuple((*place, low) for place, (low, _) in sorted(held.items()))


def _held(pipeline: Pipeline, job: str) -> dict[Place, tuple[int, int]] | None:
    """First and next offset of each partition that a job reads; None where another cluster than ours is away."""
    return _if_there(pipeline, job, lambda: topics.offsets(*pipeline.reads(job)))


def _if_there(pipeline: Pipeline, job: str, ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except SurecountError:
        if pipeline.pathway_of(job) is None:
            raise
        return None


def _candidates(folders: Folders, runs: Sequence[Run]) -> dict[str, Run]:
    """The snapshots that could be the newest: those of the last run, or else the one that it began from."""
    paths = folders.paths(runs[-1:])
    if not paths and runs and (began := runs[-1].snapshot):
        paths[began] = maker(began, runs)
    return paths
