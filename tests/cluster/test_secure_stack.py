"""A secured stack: the main path as a user with the least rights, and what is said where something is missing."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBindingFilter,
    AclPermissionType,
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from surecount import config, topics
from surecount.config import Pipeline
from surecount.doctor import health
from surecount.doctor.ask_rights import lacking, transactional_ids
from surecount.doctor.facts import Unseen
from surecount.kafka.grants import bindings, grant
from surecount.kafka.rights import Right, needed
from surecount.kafka.security import for_librdkafka, password
from surecount.local import secure
from surecount.local.stack import Stack
from surecount.ops.flink import Flink
from surecount.ops.transactions import ask
from surecount.waiting import wait_until
from tests.conftest import started
from tests.typed import typed

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
JOBS = {"shop.ingest", "shop.aggregate"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Secured: one broker, a JobManager, and a TaskManager with four slots. Commands take it for theirs."""
    running = Stack(tmp_path_factory.mktemp("secured"), is_owned=True)
    with started(running, request, slots=4, secure=True), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SURECOUNT_DIR", str(running.directory))
        yield running


@pytest.fixture(scope="module")
def folder(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pipeline file is, as its user writes it."""
    made = tmp_path_factory.mktemp("pipeline")
    (made / "shop.toml").write_text(PIPELINE + stack.client_file.read_text())
    return made


def _admin(stack: Stack) -> AdminClient:
    settings: dict[str, Any] = for_librdkafka(stack.kafka_as_admin)
    return AdminClient(settings)


def _take(stack: Stack, right: Right, who: str) -> None:
    filters = [
        AclBindingFilter(
            one.restype, one.name, one.resource_pattern_type, who, None, one.operation, AclPermissionType.ALLOW
        )
        for one in bindings(right, who)
    ]
    admin = _admin(stack)
    for taken in admin.delete_acls(filters).values():
        assert len(taken.result(10)) == 1


def _set_password(stack: Stack, user: str, secret: str) -> None:
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    admin = _admin(stack)
    changed = admin.alter_user_scram_credentials([UserScramCredentialUpsertion(user, scram, secret.encode())])
    changed[user].result(10)


def _running(stack: Stack) -> set[str]:
    return {job.name for job in Flink(stack.flink_url).jobs() if job.state == "RUNNING"}


def _restarted(stack: Stack) -> set[str]:
    """The jobs that run again; just after a kill Flink does not know of it yet."""
    flink = Flink(stack.flink_url)
    running = [job for job in flink.jobs() if job.state == "RUNNING"]
    return {job.name for job in running if flink.job_metric(job.id, "numRestarts")}


def test_the_main_path_under_the_rights_that_acls_lists(stack: Stack, folder: Path) -> None:
    surecount = partial(typed, folder)
    refused = surecount("generate", "shop.toml", "--events", "10", expect=2)
    assert f"{WHO} lacks Describe on topic shop.orders" in refused
    assert f"--allow-principal {WHO} --operation Describe --topic shop.orders" in refused
    surecount("acls", "shop.toml", "--grant")

    surecount("generate", "shop.toml", "--events", "2000", "--keys", "10", "--bad", "0.01", "--duplicates", "0.01")
    surecount("submit", "shop.toml")
    found = {row["id"]: row for row in json.loads(surecount("doctor", "shop.toml", "--json"))}
    assert found["rights"]["state"] == "ok", found["rights"]

    os.kill(stack.taskmanagers()["taskmanager-1"], signal.SIGKILL)
    events = [{"id": f"x{i}", "ts": int(time.time() * 1000), "customer": "bob", "amount": 1} for i in range(5)]
    (folder / "more.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    surecount("send", "shop.toml", "more.jsonl", "--key", "customer")
    wait_until(lambda: _restarted(stack) == JOBS, 90, "both jobs after the kill")

    surecount("stop", "shop.toml")
    surecount("start", "shop.toml")
    assert "invalid_utf8" in surecount("rejects", "count", "shop.toml")
    assert "replayed" in surecount("rejects", "replay", "shop.toml")
    assert "aggregate: books balance" in surecount("audit", "shop.toml")
    assert "windows that closed" in surecount("watch", "shop.toml", "--for", "1")


def test_a_password_that_is_changed_and_a_right_that_is_taken_under_running_jobs(stack: Stack, folder: Path) -> None:
    """After the main path, whose jobs run."""
    surecount = partial(typed, folder)
    pipeline = config.load(folder / "shop.toml")
    assert pipeline.kafka.security is not None
    ids = Right("transactional-id", pipeline.transactional_id_prefix("ingest", "clean"), ("Write",), prefixed=True)
    _take(stack, ids, WHO)
    _set_password(stack, "surecount", "another")
    os.kill(stack.taskmanagers()["taskmanager-1"], signal.SIGKILL)

    def problems() -> str:
        """What status says of the jobs."""
        return " ".join(" ".join((*job.problems, *job.notes)) for job in health.of_jobs(Flink(stack.flink_url)))

    def told(*whys: str) -> bool:
        said = problems()
        return all(why in said for why in whys)

    in_vain = ("SaslAuthenticationException", "mend kafka.security")
    wait_until(lambda: told(*in_vain), 90, "status to say why jobs cannot go on", poll_s=1, seen=problems)
    _set_password(stack, "surecount", password(pipeline.kafka.security))
    refused = ("TransactionalIdAuthorizationException", "surecount acls")
    wait_until(lambda: told(*refused), 90, "status to say what is missing", poll_s=1, seen=problems)
    assert "shop.ingest" in surecount("status", expect=1)
    surecount("acls", "shop.toml", "--grant")
    wait_until(lambda: _running(stack) == JOBS, 90, "both jobs, by themselves")
    assert "aggregate: books balance" in surecount("audit", "shop.toml")


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("password_file", "wrong.password", f"does not let {WHO} in: SASL authentication error"),
        ("ca_file", "other/ca.pem", "is not trusted: unable to get local issuer certificate"),
    ],
)
def test_every_command_says_at_once_why_it_is_not_let_in(
    stack: Stack, folder: Path, setting: str, value: str, said: str
) -> None:
    security = stack.kafka.security
    assert security is not None
    if setting == "ca_file":
        (folder / "other").mkdir()
        secure.make_authority(folder / "other")
    else:
        (folder / value).write_text("wrong")
    text = (folder / "shop.toml").read_text()
    (folder / "wrong.toml").write_text(text.replace(getattr(security, setting), str(folder / value)))
    (folder / "one.jsonl").write_text("{}\n")
    commands = [
        ("generate", "wrong.toml", "--events", "10"),
        ("submit", "wrong.toml"),
        ("start", "wrong.toml"),
        ("doctor", "wrong.toml"),
        ("audit", "wrong.toml"),
        ("watch", "wrong.toml", "--for", "1"),
        ("rejects", "count", "wrong.toml"),
        ("rejects", "replay", "wrong.toml"),
        ("send", "wrong.toml", "one.jsonl"),
        ("backup", "wrong.toml", "backup"),
    ]
    began = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        outcomes = [(command, pool.submit(typed, folder, *command, expect=2)) for command in commands]
    for command, outcome in outcomes:
        assert said in outcome.result().replace("\n", " "), command
    assert time.monotonic() - began < 60


@pytest.fixture(scope="module")
def worker(stack: Stack, folder: Path) -> Pipeline:
    """The pipeline as a user comes who has the rights of jobs, and no others."""
    (folder / "worker.password").write_text("worker's")
    _set_password(stack, "worker", "worker's")
    pipeline = config.load(folder / "shop.toml")
    assert pipeline.kafka.security is not None
    file = str(folder / "worker.password")
    security = pipeline.kafka.security.model_copy(update={"username": "worker", "password_file": file})
    kafka = pipeline.kafka.model_copy(update={"security": security})
    topics.ensure_source(pipeline.model_copy(update={"kafka": stack.kafka_as_admin}), 1)
    grant(stack.kafka_as_admin, [one.right for one in needed(pipeline, ["jobs"])], "User:worker")
    return pipeline.model_copy(update={"kafka": kafka})


def _lacking(pipeline: Pipeline) -> set[Right]:
    found = lacking(pipeline)
    assert found is not None
    assert not isinstance(found, Unseen), found
    return {one.needed.right for one in found if one.needed.role == "jobs"}


def test_each_right_that_is_taken_away_is_named(stack: Stack, worker: Pipeline) -> None:
    wait_until(lambda: not _lacking(worker), 20, "the worker to have the rights of jobs")
    rights = [one for one in needed(worker, ["jobs"]) if one.right.kind != "transactional-id"]  # those are below
    # A look waits for each group that is hidden, so the operator's are shown until groups are what is looked at.
    shown = [one.right for one in needed(worker, ["operator"]) if one.right.kind == "group"]
    grant(stack.kafka_as_admin, shown, "User:worker")
    for one in sorted(rights, key=lambda one: one.right.kind == "group"):
        if one.right.kind == "group":
            while shown:
                _take(stack, shown.pop(), "User:worker")
        _take(stack, one.right, "User:worker")
        seen = wait_until(partial(_lacking, worker), 20, f"{one.right} to be missed")
        assert seen == {one.right}
        grant(stack.kafka_as_admin, [one.right], "User:worker")
        wait_until(lambda: not _lacking(worker), 20, "the right to be back")


def test_transactional_ids_that_are_hidden_are_named(stack: Stack, worker: Pipeline) -> None:
    (taken, *_) = [one.right for one in needed(worker, ["jobs"]) if one.right.kind == "transactional-id"]
    _take(stack, taken, "User:worker")
    ids = transactional_ids(worker, worker.kafka)
    # The operator's, which this user does not have, and the one that was taken.
    told = wait_until(
        lambda: (found := ask(worker.kafka, stack.flink_env(), about=ids).hidden) and taken.name in found and found,
        30, "the transactional id to be hidden",
    )  # fmt: skip
    assert set(told) == {taken.name, worker.group_id(""), worker.group_id("replay")}
    missed = lacking(worker, told)
    assert missed is not None
    assert not isinstance(missed, Unseen)
    assert taken in {one.needed.right for one in missed}
