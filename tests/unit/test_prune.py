"""Which snapshots may go: never one that a restore, or a job that fails before its first checkpoint, would need."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surecount.errors import SurecountError
from surecount.ops.ledger import Run
from surecount.ops.life import Listed
from surecount.ops.prune import Surplus, surplus
from surecount.ops.snapshots import Folders, Snapshot, latest
from surecount.ops.storage import Folder


class Disk:
    """A savepoint and a checkpoint folder on disk, and the runs whose snapshots are in them."""

    def __init__(self, path: Path) -> None:
        self.folders = Folders(Folder(f"file://{path}/savepoints"), Folder(f"file://{path}/checkpoints"))
        self.runs: list[Run] = []
        self.snapshots: list[Snapshot] = []

    def run(self, *, began: bool = True, job_id: str | None = None) -> Run:
        number = len(self.runs) + 1
        newest = latest(self.runs, self.snapshots)
        run = Run(
            number=number, job_id=job_id or f"{number:06x}".ljust(32, "0"), started_ms=number,
            snapshot=newest.path if began and newest else None, parallelism=1, bounded=False, config={},
            config_hash="", code_hash="", versions={}, transactional_id_prefix="",
        )  # fmt: skip
        self.runs.append(run)
        return run

    def savepoint(self, digits: str = "aaaaaaaaaaaa") -> Folder:
        return self._made(self.folders.savepoints.folder(f"savepoint-{self.runs[-1].job_id[:6]}-{digits}"), True)

    def checkpoint(self, number: int) -> Folder:
        job = self.folders.checkpoints.folder(self.runs[-1].job_id)
        job.folder("shared").write("state", b"1234")
        return self._made(job.folder(f"chk-{number}"), False)

    def _made(self, folder: Folder, savepoint: bool) -> Folder:
        folder.write("_metadata", b"12345678")
        number = 1 + sum(s.run == self.runs[-1] for s in self.snapshots)
        self.snapshots.append(Snapshot(folder.uri, self.runs[-1], number, number, savepoint, False, 128, {}))
        return folder

    def surplus(self, keep: int = 1, alive: tuple[str, ...] = (), others: tuple[str, ...] = ()) -> list[Surplus]:
        listed = Listed("aggregate", self.runs, self.snapshots, latest(self.runs, self.snapshots))
        return surplus(listed, self.folders, alive, others, keep)

    def gone(self, **options: object) -> list[Folder]:
        return [one.folder for one in self.surplus(**options)]  # type: ignore[arg-type]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_nothing_is_surplus_where_nothing_is(disk: Disk) -> None:
    assert disk.surplus() == []
    disk.run()
    assert disk.surplus() == []


def test_what_the_last_run_began_from_stays_until_it_has_one_of_its_own(disk: Disk) -> None:
    disk.run()
    old = disk.savepoint("0")
    began = disk.savepoint("1")
    disk.run()
    assert disk.gone() == [old]
    disk.checkpoint(1)
    assert disk.gone() == [old, began]


def test_a_checkpoint_that_is_needed_keeps_its_runs_files(disk: Disk) -> None:
    disk.run()
    disk.checkpoint(1)
    newest = disk.checkpoint(2)
    disk.run()
    assert disk.runs[-1].snapshot == newest.uri
    assert disk.gone() == []
    disk.savepoint()
    [one] = disk.surplus()
    assert (one.run, one.what) == (1, "checkpoints")
    assert one.folder.size() == 4 + 2 * 8
    one.folder.remove()
    assert disk.folders.checkpoints.folders() == []


def test_the_last_runs_checkpoints_are_flinks(disk: Disk) -> None:
    disk.run()
    disk.checkpoint(1)
    disk.checkpoint(2)
    disk.savepoint()
    assert disk.gone() == []


def test_so_many_stay(disk: Disk) -> None:
    disk.run()
    made = [disk.savepoint(str(number)) for number in range(5)]
    assert disk.gone(keep=3) == made[:2]
    assert disk.gone(keep=9) == []


def test_what_did_not_come_to_its_end_goes_when_its_run_is_over(disk: Disk) -> None:
    disk.run()
    part = disk.folders.savepoints.folder(f"savepoint-{disk.runs[0].job_id[:6]}-broken")
    part.write("state", b"12")
    disk.savepoint()
    assert disk.gone() == []
    disk.run()
    assert disk.gone(alive=(disk.runs[0].job_id,)) == []
    assert [(one.folder, one.what) for one in disk.surplus()] == [(part, "part of a savepoint")]


def test_a_job_that_runs_beside_the_last_one_keeps_its_checkpoints(disk: Disk) -> None:
    first = disk.run()
    disk.checkpoint(1)
    disk.savepoint()
    disk.run()
    disk.checkpoint(1)
    assert disk.folders.checkpoints.folder(first.job_id) not in disk.gone(alive=(first.job_id,))


def test_another_pipelines_savepoints_are_not_touched(disk: Disk) -> None:
    disk.run()
    disk.savepoint("0")
    disk.savepoint("1")
    disk.folders.savepoints.folder("savepoint-bbbbbb-000000000000").write("_metadata", b"")
    same_digits = disk.runs[0].job_id[:6] + "f" * 26
    assert len(disk.gone()) == 1
    assert disk.gone(others=(same_digits,)) == []


def test_nothing_goes_where_the_newest_is_missing(disk: Disk) -> None:
    disk.run()
    disk.savepoint("0")
    newest = disk.savepoint("1")
    disk.run()
    newest.remove()
    disk.snapshots.pop()
    with pytest.raises(SurecountError, match="nothing is removed"):
        disk.surplus()


def test_what_is_gone_already_can_be_removed(disk: Disk) -> None:
    disk.run()
    folder = disk.savepoint()
    folder.remove()
    folder.remove()
    assert disk.folders.savepoints.folders() == []


@given(st.lists(st.sampled_from(["run", "savepoint", "checkpoint"]), max_size=12), st.integers(1, 4))
def test_the_newest_snapshot_is_never_surplus(
    tmp_path_factory: pytest.TempPathFactory, did: list[str], keep: int
) -> None:
    disk = Disk(tmp_path_factory.mktemp("disk"))
    disk.run()
    for number, one in enumerate(did):
        match one:
            case "run":
                disk.run()
            case "savepoint":
                disk.savepoint(str(number))
            case "checkpoint":
                disk.checkpoint(number)
    newest = latest(disk.runs, disk.snapshots)
    gone = [folder.uri for folder in disk.gone(keep=keep)]
    if newest is not None:
        assert not any(newest.path == path or newest.path.startswith(f"{path}/") for path in gone)
    kept = [s for s in disk.snapshots if not any(s.path == path or s.path.startswith(f"{path}/") for path in gone)]
    assert len(kept) >= min(keep, len(disk.snapshots))
