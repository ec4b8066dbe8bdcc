"""What is submitted with, where the machine has a Flink of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from surecount import config
from surecount.errors import SurecountError
from surecount.local.layout import PROJECT
from surecount.ops.launch import settings_for
from surecount.ops.submit import client_environment, moved


def test_a_flink_of_its_own_is_used_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home, jars = tmp_path / "flink", tmp_path / "jars"
    monkeypatch.setenv("FLINK_HOME", str(home))
    monkeypatch.delenv("FLINK_LIB_DIR", raising=False)
    for lib in (home / "lib", jars):
        lib.mkdir(parents=True)
        (lib / "flink-python-2.3.0.jar").touch()
    found = client_environment()
    assert (found["FLINK_BIN_DIR"], found["FLINK_LIB_DIR"]) == (str(home / "bin"), str(home / "lib"))
    monkeypatch.setenv("FLINK_LIB_DIR", str(jars))
    assert client_environment()["FLINK_LIB_DIR"] == str(jars)


def test_a_client_without_flinks_jar_for_python_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLINK_HOME", "/flink")
    monkeypatch.setenv("FLINK_LIB_DIR", str(tmp_path))
    (tmp_path / "flink-dist-2.3.0.jar").touch()
    with pytest.raises(SurecountError, match=f"{tmp_path}.* has no flink-python"):
        client_environment()


def test_without_one_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLINK_HOME", raising=False)
    with pytest.raises(SurecountError, match="FLINK_HOME"):
        client_environment()


@pytest.mark.parametrize("file", ["shop.toml", "pathways.toml"])
def test_a_job_is_told_the_whole_pipeline_but_no_setting_that_earlier_code_need_not_know(file: str) -> None:
    pipeline = config.load(PROJECT / "examples" / file)
    told = json.loads(settings_for(pipeline))
    assert config.parse(told, file) == pipeline
    assert not {"sink", "performance", "state"} & told.keys()


def test_only_offsets_that_topics_do_not_hold_are_moved() -> None:
    held = {("in", 0): (5, 50), ("in", 1): (0, 50), ("in", 2): (50, 50)}
    offsets = [("in", 0, 4), ("in", 0, 5), ("in", 1, 0), ("in", 1, 50), ("in", 1, 51), ("gone", 0, 9)]
    assert moved(offsets, held) == ["in:0:4:5", "in:1:51:0"]
    # Of these nothing was read yet.
    assert moved([("in", 1, -2), ("in", 2, -2), ("in", 2, -3)], held) == ["in:2:-2:50"]
