"""The snapshots of a job: savepoints, and the checkpoints that Flink retains."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from subprocess import PIPE
from tempfile import TemporaryFile
from typing import Any

from surecount.errors import SurecountError
from surecount.ops.flink import Flink
from surecount.ops.ledger import Run, begun
from surecount.ops.storage import Folder, uri_of

Place = tuple[str, int]
"""A topic and a partition."""

Committable = tuple[str, int, int]
"""A transactional id, a producer id and its epoch."""

READY = "ready\n"
"""What the reader of snapshots prints when it is up."""

_COMMITTED = -3
"""The connector's marker of a partition that is to be read on where its group has committed."""

# A busy machine may take longer to read all than a job to make the next.
_LOOKS = 10

_CHECKPOINT = re.compile(r"chk-(\d+)")


@dataclass(frozen=True)
class Snapshot:
    """What a snapshot holds. ``run`` is the one that made it; ``offsets`` are those that it reads next;
    ``max_parallelism`` is 0 where there is no keyed state; ``committables`` are the transactions that whoever goes on
    from it is to commit, if they are not yet; ``moved`` tells that ``offsets`` are not those in its files, but of
    topics that were brought back from a backup, and ``generation`` is that of a run that goes on from it."""

    path: str
    run: Run
    id: int
    at_ms: int
    savepoint: bool
    drained: bool
    max_parallelism: int
    offsets: Mapping[Place, int]
    committables: tuple[Committable, ...] = ()
    moved: bool = False
    generation: int = 0


@dataclass(frozen=True)
class Folders:
    """Where a cluster keeps its snapshots."""

    savepoints: Folder
    checkpoints: Folder

    @classmethod
    def of(cls, flink: Flink) -> Folders:
        """Those of a cluster's configuration. Raises SurecountError where it has none."""
        settings = flink.settings()
        names = ("execution.checkpointing.savepoint-dir", "execution.checkpointing.dir")
        for name in names:
            if not settings.get(name):
                raise SurecountError(
                    f"the Flink at {flink.url} has no {name}: nothing could be restored after a failure",
                    f"set {name} in its config.yaml to a folder that outlives its machines",
                )
        return cls(*(Folder(uri_of(settings[name])) for name in names))

    def begun(self, runs: Sequence[Run]) -> Sequence[Run]:
        """The runs up to the last one that Flink took: without those that it refused. One of which there are snapshots
        was taken all the same, from another command."""
        while runs and runs[-1].refused and not self.paths(runs[-1:]):
            runs = runs[:-1]
        return runs

    def paths(self, runs: Iterable[Run]) -> dict[str, Run]:
        """The paths of all whole snapshots of runs, each with the run that made it."""
        savepoints = self.savepoints.folders()
        found = {}
        for run in runs:
            checkpoints = self.checkpoints.folder(run.job_id).folders()
            made = [folder for folder in savepoints if folder.name.startswith(savepoint_name(run.job_id))]
            made += [folder for folder in checkpoints if _CHECKPOINT.fullmatch(folder.name)]
            found.update({folder.uri: run for folder in made if _is_whole(folder)})
        return found


def maker(path: str, runs: Iterable[Run]) -> Run:
    """The run that made the snapshot at a path, by the name of its folder. Raises SurecountError."""
    parts = path.rstrip("/").split("/")
    for run in runs:
        if parts[-1].startswith(savepoint_name(run.job_id)) or parts[-2:-1] == [run.job_id]:
            return run
    raise SurecountError(
        f"{path}: the ledger knows no run of this job that made it",
        "`surecount snapshots PIPELINE` lists those that there are; paths are URIs, such as file:///…",
        exit_code=1,
    )


def lineage(runs: Sequence[Run]) -> list[Run]:
    """The last run that Flink took and those that it goes on from, the oldest first."""
    found = begun(runs)[-1:]
    while found and (began := found[0].snapshot) is not None:
        found.insert(0, maker(began, runs))
    return found


def savepoint_name(job_id: str) -> str:
    """How the names of a job's savepoints begin."""
    return f"savepoint-{job_id[:6]}-"


def read(find_paths: Callable[[], Mapping[str, Run]], environment: Mapping[str, str]) -> list[Snapshot]:
    """What the snapshots at the paths that ``find_paths`` returns hold, the oldest first.

    ``environment`` is that of Flink's command line. A running job removes its older checkpoints: where one has gone
    meanwhile, there is a newer one, so they are asked for again, and those that are new are read. One that is not there
    is left out. One that cannot be read raises SurecountError, since to go on from an older one would write again what
    came after it; so does a job that always removes them first.
    """
    known: dict[str, Snapshot] = {}
    missing: set[str] = set()
    with _reader(environment) as ask:
        for _ in range(_LOOKS):
            paths = find_paths()
            new = [path for path in paths if path not in known and path not in missing]
            snapshots, gone = _sorted_out(paths, ask(new))
            known |= {snapshot.path: snapshot for snapshot in snapshots}
            if not gone:
                return sorted((known[path] for path in paths if path in known), key=lambda s: (s.run.number, s.id))
            missing.update(gone)
    raise SurecountError(
        f"{gone[-1]} and those before it were removed before they could be read",
        "a job keeps a few checkpoints only: make checkpoint.interval longer, execution.checkpointing.num-retained "
        "higher, or this machine less busy",
        exit_code=1,
    )


def _sorted_out(paths: Mapping[str, Run], answers: list[dict[str, Any]]) -> tuple[list[Snapshot], list[str]]:
    """The snapshots, and the paths of those that have gone."""
    snapshots, gone = [], []
    for content in answers:
        if error := content.pop("error", None):
            if _is_whole(Folder(content["path"])):
                raise SurecountError(f"{content['path']} cannot be read: {error}", "restore its files, or name another")
            gone.append(content["path"])
            continue
        run = paths[content["path"]]
        offsets = standing(content.pop("offsets"), run)
        committables = tuple(map(tuple, content.pop("committables")))
        snapshots.append(
            Snapshot(
                **content,
                run=run,
                offsets=offsets,
                committables=committables,
                generation=run.generation,
            )
        )
    return snapshots, gone


@contextmanager
def _reader(environment: Mapping[str, str]) -> Iterator[Callable[[list[str]], list[dict[str, Any]]]]:
    """What asks a JVM, once it is up, what snapshots hold. It takes seconds to start, and to read its first ones; when
    it is warm it is quicker than any job makes the next."""
    command = [sys.executable, "-m", "surecount.ops.snapshot_metadata"]
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(command, env=dict(environment), text=True, stdin=PIPE, stdout=PIPE, stderr=errors) as reader,
    ):
        to, back = reader.stdin, reader.stdout
        assert to is not None
        assert back is not None

        def line() -> str:
            if found := back.readline():
                return found
            reader.wait()
            errors.seek(0)
            raise SurecountError(f"Flink's classes cannot read snapshots:\n{errors.read()[-2000:]}")

        def ask(paths: list[str]) -> list[dict[str, Any]]:
            with suppress(BrokenPipeError):  # then there is no answer either
                to.write(json.dumps(paths) + "\n")
                to.flush()
            answers: list[dict[str, Any]] = json.loads(line())
            return answers

        while line() != READY:  # a JVM may have something to say before
            pass
        yield ask


def standing(offsets: Iterable[tuple[str, int, int]], run: Run) -> dict[Place, int]:
    """What a run reads next: a partition of which it has read nothing yet stands where its group was put for it, and
    Flink keeps a marker. Below 0 are then those for the earliest records."""
    began = {(topic, partition): offset for topic, partition, offset in run.offsets}
    found = {(topic, partition): offset for topic, partition, offset in offsets}
    return {place: began.get(place, offset) if offset == _COMMITTED else offset for place, offset in found.items()}


def as_moved(snapshot: Snapshot, runs: Sequence[Run]) -> Snapshot:
    """The snapshot with the offsets of the topics as they are: those that the ledger has for one that was brought here
    from a backup. Raises SurecountError for others of before that.
    """
    run = snapshot.run
    if run.moved is None and run.generation == runs[-1].generation:
        return snapshot
    if run.moved is None or run.moved.savepoint != Folder(snapshot.path).name:
        raise SurecountError(
            f"{snapshot.path} was made before the topics were brought back from a backup",
            "its offsets are those of topics that are gone; start from a later one",
            exit_code=1,
        )
    offsets = {(topic, partition): offset for topic, partition, offset in run.moved.offsets}
    # What was to be committed is in the outputs that were brought back, or gone with the others.
    return replace(snapshot, offsets=offsets, committables=(), moved=True, generation=run.generation + 1)


def _is_whole(folder: Folder) -> bool:
    # Written last: without it, Flink had not come to the end, or is removing it.
    return "_metadata" in folder.files()


def latest(runs: Sequence[Run], snapshots: Iterable[Snapshot]) -> Snapshot | None:
    """The snapshot to go on from: the newest of the last run, or where that made none, the one that it began from.

    None where it began from nothing and made none, or where that one is not among the ``snapshots``.
    """
    if not runs:
        return None
    last, known = runs[-1], list(snapshots)
    made = [snapshot for snapshot in known if snapshot.run.job_id == last.job_id]
    if made:
        return max(made, key=lambda snapshot: snapshot.id)
    return next((snapshot for snapshot in known if snapshot.path == last.snapshot), None)
