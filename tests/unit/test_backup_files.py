"""A backup's folder comes from elsewhere: what it names is written inside the folders it belongs in, or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from surecount.errors import SurecountError
from surecount.ops.backup import CONTENTS, PIPELINE, load
from surecount.ops.recover import bring_files
from surecount.ops.storage import Folder

CONTENT: dict[str, Any] = {
    "name": "shop", "files": ["shop.toml"], "at_ms": 1, "surecount": "0.1.0", "topics": [], "version": 1,
    "jobs": {"aggregate": {"savepoint": "savepoint-aaaaaa-0123456789ab", "reads": [], "writes": []}},
}  # fmt: skip


def made(path: Path, **content: Any) -> Folder:
    folder = Folder(f"file://{path}/backup")
    folder.write(CONTENTS, json.dumps({**CONTENT, **content}).encode())
    folder.folder(PIPELINE).write("shop.toml", b"the pipeline")
    folder.folder(PIPELINE).folder("udfs").write("shop.py", b"the code")
    return folder


@pytest.mark.parametrize(
    "name", ["../evil.txt", "udfs/../../evil.txt", "/tmp/evil.txt", "..", "", "a\\..\\evil.txt", "evil\0.txt"]
)
def test_a_file_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SurecountError, match="outside its own folder"):
        load(made(tmp_path, files=["shop.toml", name]))


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp", "savepoint-aaaaaa-../x", "", "."])
def test_a_savepoint_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    job = {**CONTENT["jobs"]["aggregate"], "savepoint": name}
    with pytest.raises(SurecountError, match="outside its own folder"):
        load(made(tmp_path, jobs={"aggregate": job}))


def test_files_are_brought_beside_the_pipeline_file(tmp_path: Path) -> None:
    folder = made(tmp_path, files=["shop.toml", "udfs/shop.py"])
    to = tmp_path / "here" / "mine.toml"
    code = tmp_path / "here" / "udfs" / "shop.py"
    assert sorted(bring_files(folder, load(folder), to)) == [to, code]
    assert (to.read_bytes(), code.read_bytes()) == (b"the pipeline", b"the code")
    assert bring_files(folder, load(folder), to) == []


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    folder = made(tmp_path, files=["shop.toml", "udfs/shop.py"])
    (tmp_path / "here").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "here" / "udfs").symlink_to(tmp_path / "outside")
    with pytest.raises(SurecountError, match="outside"):
        bring_files(folder, load(folder), tmp_path / "here" / "mine.toml")
    assert [*(tmp_path / "outside").iterdir()] == []


def test_copies_of_a_backup_are_whole_and_for_this_user_only(tmp_path: Path) -> None:
    folder = made(tmp_path)
    folder.folder("savepoint-1").write("_metadata", b"12")
    (tmp_path / "backup" / "savepoint-1" / "_metadata").chmod(0o644)
    folder.copy(Folder(f"file://{tmp_path}/copy"), private=True)
    copied = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert sorted(str(path.relative_to(tmp_path / "copy")) for path in copied) == [
        "backup.json", "pipeline/shop.toml", "pipeline/udfs/shop.py", "savepoint-1/_metadata",
    ]  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in copied} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "backup").glob("*.json")} == {0o600}
    folder.copy(Folder(f"file://{tmp_path}/copy"), private=True)  # once more is no error


def test_a_copy_that_fails_leaves_no_file_that_looks_whole(tmp_path: Path) -> None:
    """Half of the file fits: a limit on the size of files stands in for a full disk."""
    folder = made(tmp_path)
    folder.write("state", b"x" * 100_000)
    program = (
        "import resource, signal, sys; from surecount.ops.storage import Folder\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        f"Folder('file://{tmp_path}/backup').copy(Folder('file://{tmp_path}/copy'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "cannot be reached" in done.stderr
    left = {path.name for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert left <= {"backup.json", "shop.toml", "shop.py"}
