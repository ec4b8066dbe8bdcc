"""A password with a mark in it, on a secured cluster: it is found in nothing that is written, shown or told.

Flink's processes read it from another folder than commands do, as on machines of their own, and log at DEBUG.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from surecount import topics
from surecount.config import Kafka, Security
from surecount.errors import SurecountError
from surecount.local import secure
from surecount.local.layout import Layout
from surecount.local.spec import load_stack
from surecount.local.stack import Stack
from surecount.ops.flink import Flink
from surecount.ops.transactions import ask
from surecount.waiting import wait_until
from tests.conftest import PIPELINE, started

MARK = f"mark{secrets.token_hex(8)}"
# What JAAS, SQL, JSON, shells or Kafka could take for something of their own.
PASSWORD = f"a\\\"'${{env:HOME}}${{surecount:x}} ,;=%ü€😀\t{MARK} "
USER = 'shop ",=b'


def _needles() -> list[bytes]:
    found = [MARK.encode(coding) for coding in ("utf-8", "utf-16-le", "utf-16-be")]
    for before in range(3):
        # Of each of the three ways in which its bytes fall into groups of three, the part that nothing else changes.
        whole = base64.b64encode(b"x" * before + MARK.encode())
        found.append(whole[4 if before else 0 : len(whole) // 4 * 4 - 4])
    return found


NEEDLES = _needles()


def shows(content: bytes) -> bool:
    """Whether the mark is in it, in an archive in it, or encoded."""
    if any(needle in content for needle in NEEDLES):
        return True
    if content.startswith(b"PK\x03\x04"):
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(BytesIO(content)) as archive:
            return any(shows(archive.read(name)) for name in archive.namelist())
    return False


LOOKED_AT = {
    r"^ha/.*submittedExecutionPlan": b"${SHOP_SECRETS}/password",
    r"^savepoints/surecount-ledger/.*-run-": b"${SHOP_SECRETS}/password",
    r"^savepoints/savepoint-.*_metadata": b"",
    r"^checkpoints/.*_metadata": b"",
    r"^zookeeper": b"",
    r"^logs/taskmanager-.*log": b"class = class surecount.SaslCredentials",
    r"^logs/jobmanager-.*log": b"DEBUG",
    r"^logs/.*client.*log": b"DEBUG",
    r"^logs/.*python.*log": b"class = class surecount.SaslCredentials",
}
"""Names of the stack's files, and what is in one of them that has to have been found."""


def files_of(folder: Path) -> Iterator[Path]:
    """All files of a folder that are there for as long as they are read; pipes and sockets are none."""
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file():
                yield path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where commands find the password, and where Flink does."""
    return {whose: tmp_path_factory.mktemp(whose) for whose in ("commands", "flink")}


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, folders: dict[str, Path]
) -> Iterator[Stack]:
    """Secured, with ZooKeeper, so that job graphs are kept; Flink logs at DEBUG."""
    stack = Stack(tmp_path_factory.mktemp("secrets"), is_owned=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_SECRETS", str(folders["flink"]))
        patch.setenv("ROOT_LOG_LEVEL", "DEBUG")
        with started(stack, request, ha=True, secure=True):
            yield stack


class Processes:
    """Looks at the arguments and environments of all processes, again and again."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.found: set[str] = set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        end = threading.Event()
        thread = threading.Thread(target=self._watch, args=[end])
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def _watch(self, end: threading.Event) -> None:
        while not end.wait(0.05):
            for process in psutil.process_iter():
                with suppress(psutil.Error):
                    arguments = " ".join(process.cmdline())
                    self.seen.add(arguments)
                    told = " ".join([arguments, *process.environ().values()])
                    if shows(told.encode(errors="surrogateescape")):
                        self.found.add(arguments)


class Commands:
    """Runs commands, and keeps what they print."""

    def __init__(self, file: Path, stack: Stack, folder: Path) -> None:
        self._file = file
        self._environment = {
            **os.environ, "SHOP_SECRETS": str(folder), "SURECOUNT_DIR": str(stack.directory),
            "ROOT_LOG_LEVEL": "DEBUG", "COLUMNS": "200",
        }  # fmt: skip
        self.printed: dict[str, bytes] = {}

    def run(self, line: str, expect: int = 0) -> str:
        """A command about the pipeline; all that it prints."""
        words = line.replace("PIPELINE", str(self._file)).split()
        done = subprocess.run(
            [sys.executable, "-m", "surecount.cli", *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, env=self._environment,
        )  # fmt: skip
        self.printed[f"{len(self.printed)}: {line}"] = done.stdout
        assert done.returncode == expect, f"{line}: exit {done.returncode}\n{done.stdout.decode()}"
        return done.stdout.decode()


def told_by_flink(url: str, job: str) -> dict[str, bytes]:
    """All that Flink's REST tells of itself and of a job, by path."""
    found: dict[str, bytes] = {}

    def get(path: str) -> Any:
        answer = requests.get(f"{url}/{path}", timeout=30)
        found[path] = answer.content
        return answer.json() if "json" in answer.headers.get("Content-Type", "") else None

    for path in (*_OF_FLINK, *(f"jobmanager/logs/{log['name']}" for log in get("jobmanager/logs")["logs"])):
        get(path)
    for worker in [f"taskmanagers/{worker['id']}" for worker in get("taskmanagers")["taskmanagers"]]:
        for path in (*_OF_A_TASKMANAGER, *(f"logs/{log['name']}" for log in get(f"{worker}/logs")["logs"])):
            get(f"{worker}/{path}")
    for vertex in get(f"jobs/{job}")["vertices"]:
        get(f"jobs/{job}/vertices/{vertex['id']}")
    for path in _OF_A_JOB:
        get(f"jobs/{job}/{path}")
    return found


_OF_FLINK = ("config", "overview", "jobs/overview", "jobmanager/config", "jobmanager/environment",
             "jobmanager/metrics", "jobmanager/log", "jobmanager/stdout", "jobmanager/thread-dump")  # fmt: skip
_OF_A_TASKMANAGER = ("metrics", "log", "stdout", "thread-dump")
_OF_A_JOB = ("plan", "config", "exceptions", "checkpoints", "checkpoints/config", "accumulators", "metrics",
             "jobmanager/config", "jobmanager/environment")  # fmt: skip


def allow_everything(stack: Stack) -> Kafka:
    """Make the user with that password, who may do anything; the cluster for it."""
    layout = Layout(stack.directory)
    spec = load_stack(layout.stack_file)
    assert spec is not None
    kafka = secure.as_user(layout, spec, secure.ADMIN)
    assert kafka.security is not None
    admin = AdminClient(topics.client_config(kafka))
    credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 8192)
    upsert = UserScramCredentialUpsertion(USER, credential, PASSWORD.encode())
    made = [*admin.alter_user_scram_credentials([upsert]).values()]
    resources = dict.fromkeys((ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID), "*")
    resources[ResourceType.BROKER] = "kafka-cluster"
    may = (ResourcePatternType.LITERAL, f"User:{USER}", "*", AclOperation.ALL, AclPermissionType.ALLOW)
    rules = [AclBinding(kind, name, *may) for kind, name in resources.items()]
    for future in (*made, *admin.create_acls(rules).values()):
        future.result(30)
    own = {"username": USER, "password_file": "${SHOP_SECRETS}/password"}
    return kafka.model_copy(update={"security": kafka.security.model_copy(update=own)})


def test_a_password_is_found_in_nothing_that_is_written_shown_or_told(
    stack: Stack, folders: dict[str, Path], tmp_path: Path
) -> None:
    kafka = allow_everything(stack).model_dump(mode="json")
    for folder in folders.values():
        (folder / "password").write_text(PASSWORD + "\n")
        (folder / "password").chmod(0o600)
    file = tmp_path / "shop.json"
    file.write_text(json.dumps({"name": "shop", "kafka": kafka, **tomllib.loads(PIPELINE.replace("NAME", "shop"))}))
    commands, processes = Commands(file, stack, folders["commands"]), Processes()
    flink = Flink(stack.flink_url)
    told: dict[str, bytes] = {}
    with processes.watched():
        for line in ("check PIPELINE", "generate PIPELINE --events 2000 --keys 10 --bad 0.02", "submit PIPELINE"):
            commands.run(line)
        [job] = [job.id for job in flink.jobs()]
        wait_until(lambda: flink.checkpoints(job)["counts"]["completed"] >= 2, 60, "two checkpoints")
        for line in ("doctor", "audit", "rejects count"):
            commands.run(f"{line} PIPELINE")
        told |= told_by_flink(flink.url, job)
        commands.run("stop PIPELINE")

        # A job that cannot log in, and says why.
        (folders["flink"] / "password").write_text(f"{PASSWORD}\n{PASSWORD}\n")
        commands.run("start PIPELINE", expect=1)
        [failed] = [other.id for other in flink.jobs() if other.id != job]
        wait_until(lambda: "security.password_file" in flink.cause(failed), 60, "its cause")
        told |= {f"failed/{path}": content for path, content in told_by_flink(flink.url, failed).items()}
        (folders["flink"] / "password").write_text(PASSWORD + "\r\n")
        wait_until(lambda: flink.state(failed) == "RUNNING", 60, "the job to run again")

        # Commands that cannot.
        (folders["commands"] / "password").write_text(f"{PASSWORD}\n{PASSWORD}\n")
        for line in ("check", "doctor", "audit", "submit"):
            commands.run(f"{line} PIPELINE", expect=2)

    written = {str(path.relative_to(stack.directory)): path.read_bytes() for path in files_of(stack.directory)}
    found = [name for all_of in (written, told, commands.printed) for name, content in all_of.items() if shows(content)]
    assert (found, processes.found) == ([], set())
    # Where a secret would be, was looked.
    for where, what in LOOKED_AT.items():
        assert any(re.search(where, name) and what in content for name, content in written.items()), where
    assert any("org.apache.flink.client" in arguments for arguments in processes.seen)
    assert b"security.password_file" in told[f"failed/jobs/{failed}/exceptions"]


def test_client_certificates_let_both_clients_in(stack: Stack) -> None:
    """At the listener where brokers meet: it asks for a certificate, and a broker may do anything."""
    layout = Layout(stack.directory)
    settings = (layout.broker(1) / "server.properties").read_text()
    address = re.search(r"BROKERS://([\d.]+:\d+)", settings)
    assert address is not None
    files = {"ca_file": "ca.pem", "cert_file": "kafka-1.pem", "key_file": "kafka-1.key"}
    paths = {name: str(layout.secure / file) for name, file in files.items()}
    known, unknown = (
        Kafka(bootstrap_servers=address[1], security=Security(protocol="SSL", **given))
        for given in (paths, {"ca_file": paths["ca_file"]})
    )
    assert len(topics.Admin(known).metadata().brokers) == 1
    assert ask(known, stack.flink_env()).features
    with pytest.raises(SurecountError):
        topics.Admin(unknown).metadata()
    with pytest.raises(SurecountError):
        ask(unknown, stack.flink_env())
