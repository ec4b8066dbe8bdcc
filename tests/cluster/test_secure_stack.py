"""A secured stack: the main path as a user with the least rights, and what is said where one is missing."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, UserScramCredentialUpsertion, ScramCredentialInfo, ScramMechanism
from typer.testing import CliRunner

from surecount import config
from surecount.cli import app
from surecount.config import Kafka, Pipeline
from surecount.doctor import health
from surecount.errors import SurecountError
from surecount.kafka.grants import bindings
from surecount.kafka.refusals import RefusedError
from surecount.kafka.rights import Right, needed
from surecount.kafka.security import for_librdkafka
from surecount.local import secure
from surecount.local.stack import Stack
from surecount.ops.flink import Flink
from surecount.waiting import wait_until
from tests.conftest import started

PIPELINE = """
name = "shop"

[source]
event_id = "id"
event_time = { field = "ts", unit = "ms" }
out_of_orderness = "1 s"
idle_after = "2 s"

[[source.pathway]]
name = "east"
topics = ["shop.orders"]

[[aggregate]]
name = "per_customer"
key = ["customer"]
sum = ["amount"]
window = "2 s"

[checkpoint]
interval = "1 s"

"""
WHO = "User:surecount"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Secured: one broker, a JobManager, and a TaskManager with four slots."""
    running = Stack(tmp_path_factory.mktemp("secured"))
    with started(running, request, slots=4, secure=True):
        yield running


@pytest.fixture(scope="module")
def file(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pipeline") / "shop.toml"
    made.write_text(PIPELINE + stack.client_file.read_text())
    return made


@pytest.fixture(scope="module")
def surecount(stack: Stack, file: Path) -> Callable[..., str]:
    """Run a command on the pipeline and the stack; what it prints, or the SurecountError that it ends with."""

    def run(command: str, *arguments: str, on: Path = file) -> str:
        placed = ["--dir", str(stack.directory)] if command not in ("generate", "rejects", "send") else []
        sub = command.split()
        done = CliRunner().invoke(app, [*sub, *arguments[: 1 if command == "rejects" else 0], str(on), *placed,
                                        *arguments[1 if command == "rejects" else 0:]])  # fmt: skip
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def _pipeline(file: Path) -> Pipeline:
    return config.load(file)


def _admin(kafka: Kafka) -> AdminClient:
    settings: dict[str, Any] = for_librdkafka(kafka)
    return AdminClient(settings)


def test_the_main_path_runs_under_the_rights_that_acls_lists(
    stack: Stack, file: Path, surecount: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(RefusedError, match="lacks Describe on topic shop.orders"):
        surecount("generate", "--events", "10")
    surecount("acls", "--grant")

    surecount("generate", "--events", "2000", "--keys", "10", "--bad", "0.01", "--duplicates", "0.01")
    surecount("submit")
    rows = {row["check"]: row for row in json.loads(surecount("doctor", "--json"))}
    assert rows["rights"]["state"] == "ok", rows["rights"]
    assert {row["state"] for row in rows.values()} <= {"ok", "warn", "unknown"}

    os.kill(stack.taskmanagers()["taskmanager-1"], signal.SIGKILL)
    events = [{"id": f"x{i}", "ts": int(time.time() * 1000), "customer": "bob", "amount": 1} for i in range(5)]
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    surecount("send", str(tmp_path / "more.jsonl"), "--key", "customer", "--id", "more")
    flink = Flink(stack.flink_url)
    names = {"shop.ingest", "shop.aggregate"}
    wait_until(lambda: {j.name for j in flink.jobs() if j.state == "RUNNING"} == names, 90, "jobs after the kill")

    surecount("stop")
    surecount("start")
    assert "invalid_utf8" in surecount("rejects", "count")
    assert "replayed" in surecount("rejects", "replay")
    assert "books balance" in surecount("audit")
    assert "shop.ingest" in surecount("watch", "--for", "1")
