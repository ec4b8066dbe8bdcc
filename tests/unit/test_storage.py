"""Folders on file systems: what is written is whole, and what is created is created once."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pyarrow import fs

from surecount.ops import storage
from surecount.ops.storage import Folder


def test_a_file_is_created_once_on_file_systems_other_than_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    system = fs._MockFileSystem()  # Arrow's own, in memory
    monkeypatch.setattr(Folder, "_system", lambda _: (system, "ledger"))
    folder = Folder("s3://bucket/ledger")
    assert folder.create("a", b"1")
    assert not folder.create("a", b"2")
    assert folder.read("a") == b"1"
    folder.write("a", b"3")
    assert folder.read("a") == b"3"
    # What comes between the look and the move: the last one stays, and only its writer is told so.
    monkeypatch.setattr(storage, "_exists", lambda *_: False)
    assert folder.create("a", b"4")
    assert folder.read("a") == b"4"
    assert [entry.base_name for entry in folder._entries()] == ["a"]


def test_a_file_is_created_once_and_is_its_owners(tmp_path: Path) -> None:
    folder = Folder(tmp_path.as_uri()).folder("new")
    assert folder.create("a", b"1")
    assert not folder.create("a", b"2")
    assert folder.read("a") == b"1"
    assert stat.S_IMODE((tmp_path / "new" / "a").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"]
