"""What is submitted with, where the machine has a Flink of its own."""

from __future__ import annotations

import pytest

from surecount.errors import SurecountError
from surecount.ops.submit import client_environment


def test_a_flink_of_its_own_is_used_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLINK_HOME", "/flink")
    monkeypatch.delenv("FLINK_LIB_DIR", raising=False)
    found = client_environment()
    assert (found["FLINK_BIN_DIR"], found["FLINK_LIB_DIR"]) == ("/flink/bin", "/flink/lib")
    monkeypatch.setenv("FLINK_LIB_DIR", "/jars")
    assert client_environment()["FLINK_LIB_DIR"] == "/jars"


def test_without_one_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLINK_HOME", raising=False)
    with pytest.raises(SurecountError, match="FLINK_HOME"):
        client_environment()
