"""surecount.local.prerequisites and surecount.local.ports"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from surecount.errors import SurecountError
from surecount.local import ports, prerequisites
from surecount.local.layout import NEEDED_JARS


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "17" 2021-09-14', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "21-ea" 2023-09-19', 21),
        ('NOTE: Picked up JDK_JAVA_OPTIONS: -Xmx1g\nopenjdk version "25.0.1" 2025-10-21', 25),
        ("command not found", None),
    ],
)
def test_the_major_version_of_java(printed: str, version: int | None) -> None:
    assert prerequisites.parse_java_version(printed) == version


def _fake_java(home: Path, version: str) -> Path:
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n", encoding="utf-8")
    java.chmod(0o755)
    return java


def test_java_home_comes_before_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = _fake_java(tmp_path, "17.0.1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert prerequisites.find_java() == java


def test_java_is_looked_up_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = _fake_java(tmp_path, "17.0.1")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{java.parent}:/bin:/usr/bin")
    assert prerequisites.find_java() == java


def test_another_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_java(tmp_path, "25.0.1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(SurecountError, match="is Java 25; Java 17 is needed"):
        prerequisites.find_java()


def test_a_java_home_without_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(SurecountError, match="no bin/java"):
        prerequisites.find_java()


def test_no_java_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SurecountError, match="Java is not installed"):
        prerequisites.find_java()


def test_missing_jars_point_to_setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "BROKER_JARS", tmp_path)
    with pytest.raises(SurecountError, match="make setup"):
        prerequisites.check_jars()


@pytest.mark.parametrize("gone", NEEDED_JARS)
def test_a_jar_that_flink_needs_is_named(gone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for jar in {*NEEDED_JARS} - {gone}:
        (tmp_path / f"{jar}-1.jar").touch()
    monkeypatch.setattr(prerequisites, "BROKER_JARS", tmp_path)
    (tmp_path / "kafka_1.jar").touch()
    monkeypatch.setattr(prerequisites, "FLINK_JARS", tmp_path)
    with pytest.raises(SurecountError, match=rf"{gone}-\*\.jar is not in"):
        prerequisites.check_jars()


def test_maven_is_asked_for_only_when_fetching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_java(tmp_path, "17.0.1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SurecountError, match="Maven"):
        prerequisites.check_prerequisites(fetching=True)


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "MIN_FREE_BYTES", 2**62)
    with pytest.raises(SurecountError, match="MiB are free"):
        prerequisites.check_disk(tmp_path)


def test_a_port_in_use_is_named_with_its_user_holder_and_option() -> None:
    with socket.socket() as server:
        server.bind((ports.HOST, 0))
        server.listen()
        port = server.getsockname()[1]
        expected = rf"port {port}, for broker kafka-1, is in use by process \d+ (?s:.*)--kafka-port"
        with pytest.raises(SurecountError, match=expected):
            ports.claim(port, "broker kafka-1", "--kafka-port", set())
        assert ports.answers(port)


def test_a_port_is_given_once() -> None:
    taken: set[int] = set()
    port = ports.claim(0, "a", "--a", taken)
    assert taken == {port}
    with pytest.raises(SurecountError, match=f"port {port}, for b, is in use"):
        ports.claim(port, "b", "--b", taken)


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(SurecountError, match="1–65535"):
        ports.claim(port, "a", "--a", set())
