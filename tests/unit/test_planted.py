"""Each planted fault finds its one place in the code that is shipped, and changes it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from benchmarks.planted import PLANTED, Planted, code
from surecount.ops.code import PROJECT


@pytest.mark.parametrize("planted", [planted for planted in PLANTED.values() if planted], ids=lambda p: p.what)
def test_it_is_there(planted: Planted) -> None:
    shipped = code(planted, Path("planted.toml"))
    assert shipped is not None
    archive = zipfile.ZipFile(io.BytesIO(shipped))
    changed = [name for name in archive.namelist() if archive.read(name) != (PROJECT / name).read_bytes()]
    assert changed == [planted.file]
    compile(archive.read(planted.file), planted.file, "exec")
