"""The run ledger: what is written is read again, and what cannot be understood is an error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from surecount import config
from surecount.errors import SurecountError
from surecount.ops.ledger import LEDGER, Ledger, Moved, Run, config_of, hash_of
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
    assert ledger(tmp_path).runs() == [
        runs[0],
        replace(runs[1], stopped_with="file:///s/savepoint-bbbbbb-1"),
        runs[2],
    ]
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
