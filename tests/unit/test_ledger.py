"""The run ledger: what is written is read again, and what cannot be understood is an error."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from surecount import config
from surecount.errors import SurecountError
from surecount.ops.ledger import LEDGER, Ledger, Lost, Moved, Run, TakenError, begun, config_of, hash_of, newest
from surecount.ops.storage import Folder, uri_of

PIPELINE = config.parse(
    {
        "name": "shop",
        "kafka": {"bootstrap_servers": "localhost:9092", "properties": {"client.id": "secret"}},
        "source": {"topics": ["in"], "event_time": "kafka"},
        "aggregate": [{"name": "a", "key": ["k"], "window": "1 min"}],
    },
    "shop.toml",
)


def a_run(number: int = 1, job_id: str = "a" * 32, snapshot: str | None = None) -> Run:
    content = config_of(PIPELINE)
    return Run(
        number=number, job_id=job_id, started_ms=number, snapshot=snapshot, parallelism=1, bounded=False,
        config=content, config_hash=hash_of(content), code_hash="c", versions={"surecount": "1"},
        transactional_id_prefix="p", offsets=(("in", 0, 5),), accepted=("drained",), topic_ids={"in": "A"},
    )  # fmt: skip


def ledger(tmp_path: Path, job: str = "aggregate") -> Ledger:
    return Ledger(Folder(tmp_path.as_uri()), PIPELINE, job)


def test_runs_are_read_as_they_were_written(tmp_path: Path) -> None:
    runs = [a_run(1), a_run(2, "b" * 32, "file:///s/chk-3"), a_run(10, "c" * 32)]
    for run in reversed(runs):
        ledger(tmp_path).add(run)
    ledger(tmp_path).stopped(runs[1], "file:///s/savepoint-bbbbbb-1")
    read = ledger(tmp_path).runs()
    assert read[1].stopped_ms is not None
    stopped = replace(runs[1], stopped_with="file:///s/savepoint-bbbbbb-1", stopped_ms=read[1].stopped_ms)
    assert read == [runs[0], stopped, runs[2]]
    # Known before its run is, which a recovery that is interrupted between the two leaves behind.
    moved = Moved("savepoint-dddddd-1", (("in", 0, 9),))
    later = replace(a_run(11, "d" * 32), generation=1)
    ledger(tmp_path).moved(later, moved)
    assert len(ledger(tmp_path).runs()) == 3
    ledger(tmp_path).add(later)
    assert ledger(tmp_path).runs()[-1] == replace(later, moved=moved)
    assert ledger(tmp_path, "ingest").runs() == []


def test_no_secret_is_written(tmp_path: Path) -> None:
    ledger(tmp_path).add(a_run())
    written = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert len(written) == 1
    assert "secret" not in written[0]


@pytest.mark.parametrize("content", ["{", "{}", json.dumps({"version": 2}), json.dumps({"version": 1})])
def test_a_file_that_is_not_understood_is_an_error(tmp_path: Path, content: str) -> None:
    ledger(tmp_path).add(a_run())
    (tmp_path / LEDGER / "shop.aggregate" / f"000002-run-{'b' * 32}.json").write_text(content)
    with pytest.raises(SurecountError, match=r"shop\.aggregate"):
        ledger(tmp_path).runs()


def test_a_folder_that_cannot_be_reached_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SurecountError, match="cannot be reached from here"):
        Ledger(Folder((tmp_path / "file").as_uri()), PIPELINE, "aggregate").add(a_run())


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/data/s", "file:///data/s"),
        ("file:/data/s/", "file:///data/s"),
        ("file:///data/s", "file:///data/s"),
        ("s3://bucket/s/", "s3://bucket/s"),
    ],
)
def test_paths_have_one_form(path: str, uri: str) -> None:
    assert uri_of(path) == uri


def test_of_many_who_write_the_same_run_down_one_is_first(tmp_path: Path) -> None:
    def add(parallelism: int) -> int | None:
        mine = ledger(tmp_path)
        run = replace(a_run(job_id=mine.job_id(1)), parallelism=parallelism)
        try:
            mine.add(run)
        except TakenError:
            return None
        return parallelism

    with ThreadPoolExecutor(16) as pool:
        first = [done for done in pool.map(add, range(1, 65)) if done is not None]
    assert len(first) == 1
    assert [run.parallelism for run in ledger(tmp_path).runs()] == first
    assert [path.name for path in tmp_path.rglob(".*")] == []  # no draft stays


def test_job_ids_are_the_same_for_all_who_ask_and_others_in_another_ledger(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: ledger(tmp_path / "a").job_id(1), range(16)))
    assert len(ids) == 1
    others = [ledger(tmp_path / "a").job_id(2), ledger(tmp_path / "a", "ingest").job_id(1), ledger(tmp_path).job_id(1)]
    assert len({*ids, *others}) == 4
    assert all(len(job_id) == 32 and int(job_id, 16) for job_id in ids)


def test_a_number_is_taken_whatever_its_job_id(tmp_path: Path) -> None:
    ledger(tmp_path).add(a_run(1, "a" * 32))  # as earlier versions chose ids
    with pytest.raises(TakenError, match="another command is starting run 1"):
        ledger(tmp_path).add(a_run(1, ledger(tmp_path).job_id(1)))


def test_two_runs_of_the_highest_number_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / LEDGER / "shop.aggregate"
    for number, job_id in ((1, "a" * 32), (1, "b" * 32)):
        ledger(tmp_path / job_id[0]).add(a_run(number, job_id))
        folder.mkdir(parents=True, exist_ok=True)
        name = f"00000{number}-run-{job_id}.json"
        (folder / name).write_bytes((tmp_path / job_id[0] / LEDGER / "shop.aggregate" / name).read_bytes())
    runs = ledger(tmp_path).runs()
    assert [run.job_id for run in runs] == ["a" * 32, "b" * 32]
    with pytest.raises(SurecountError, match="two runs of number 1") as refused:
        newest(runs)
    assert "take the other one's 000001-run-ID.json" in str(refused.value)
    ledger(tmp_path).add(a_run(2, "c" * 32))
    last = newest(ledger(tmp_path).runs())
    assert last is not None
    assert last.number == 2


def test_a_run_that_flink_refused_is_none_to_go_on_from(tmp_path: Path) -> None:
    ledger(tmp_path).add(a_run(1))
    ledger(tmp_path).add(a_run(2, "b" * 32))
    ledger(tmp_path).refused(a_run(2, "b" * 32), "no slots")
    runs = ledger(tmp_path).runs()
    assert runs[1].refused == "no slots"
    assert begun(runs) == runs[:1]


def test_a_run_is_stopped_once(tmp_path: Path) -> None:
    ledger(tmp_path).add(a_run())
    ledger(tmp_path).stopped(a_run(), "file:///s/savepoint-1")
    ledger(tmp_path).stopped(a_run(), "file:///s/savepoint-1")
    with pytest.raises(TakenError, match="was stopped by another command"):
        ledger(tmp_path).stopped(a_run(), "file:///s/savepoint-2")
    assert ledger(tmp_path).runs()[0].stopped_with == "file:///s/savepoint-1"


def test_nobody_goes_on_from_half_a_recovery_and_the_same_one_goes_on(tmp_path: Path) -> None:
    kept, here = ledger(tmp_path / "backup"), ledger(tmp_path)
    kept.add(a_run(1))
    kept.job_id(1)
    with pytest.raises(KeyboardInterrupt), here.recovering("file:///backup"):
        kept.copy_events(here)
        raise KeyboardInterrupt
    with pytest.raises(SurecountError, match="has not brought all files yet") as refused:
        here.runs()
    assert "surecount recover file:///backup PIPELINE" in str(refused.value)
    assert here.known() == {"a" * 32}
    with pytest.raises(TakenError, match="from another backup"), here.recovering("file:///other"):
        pass
    with here.recovering("file:///backup"):
        kept.copy_events(here)
    assert here.runs() == kept.runs()
    assert here.job_id(2) != kept.job_id(2)  # the other stack may go on too


def test_failed_commits_are_remembered_until_they_are_accepted(tmp_path: Path) -> None:
    first, second = a_run(1), a_run(2, "b" * 32)
    of_job = ledger(tmp_path)
    of_job.add(first)
    of_job.add(second)
    assert of_job.lost() == []
    of_job.note_lost(first, 0, {"results": 0, "rejects": 0})
    assert of_job.lost() == []
    for seen in ({"results": 1}, {"results": 1}, {"results": 3}, {"results": 2}):
        of_job.note_lost(first, 0, seen)
    of_job.note_lost(first, 1, {"results": 1, "rejects": 4})  # Flink counts anew
    of_job.note_lost(second, 0, {"rejects": 1})

    # Whoever looks next, also where only the job's name is known.
    again = Ledger.named(Folder(tmp_path.as_uri()), "shop.aggregate")
    known = [(lost.number, lost.restarts, lost.commits) for lost in again.lost()]
    assert known == [(1, 0, {"results": 3}), (1, 1, {"results": 1, "rejects": 4}), (2, 0, {"rejects": 1})]
    assert len(again.runs()) == 2

    again.settle()
    assert of_job.lost() == []
    of_job.note_lost(second, 0, {"rejects": 1})
    assert of_job.lost() == []
    of_job.note_lost(second, 0, {"rejects": 2})
    (lost,) = of_job.lost()
    assert lost == Lost(2, second.job_id, 0, {"rejects": 2}, lost.at_ms)
