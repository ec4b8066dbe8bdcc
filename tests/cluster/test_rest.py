"""Flink's REST API: what web pages may not do, and TLS with client certificates."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from surecount.container import health
from surecount.errors import SurecountError
from surecount.local import ports
from surecount.local.layout import PROJECT
from surecount.local.ports import HOST
from surecount.local.stack import Stack
from surecount.ops.flink import Flink
from surecount.rest_tls import CA, CERT, KEY
from surecount.waiting import wait_until
from tests.conftest import PIPELINE, Running

ENTRYPOINT = str(PROJECT / "deploy" / "entrypoint.sh")
PASSWORD = "of-this-test-only"


def test_a_web_page_can_upload_no_jar_and_read_no_answer(stack: Stack) -> None:
    page = {"Origin": "http://elsewhere.example"}
    jar = {"jarfile": ("a.jar", b"PK\5\6" + bytes(18), "application/x-java-archive")}
    refused = requests.post(f"{stack.flink_url}/java/upload", files=jar, headers=page, timeout=10)
    assert refused.status_code == 400
    assert "POST request not allowed" in refused.text
    for path in ("/config", "/jobs/overview", "/jobmanager/config", "/no-such-path"):
        answer = requests.get(stack.flink_url + path, headers=page, timeout=10)
        # Flink sends the header with any answer of a handler; a browser compares it with the page's origin.
        assert answer.headers.get("Access-Control-Allow-Origin") in (None, "none"), path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PEM files and keystores of this test's authority: of Flink's server, of a client, and of Flink's own network."""
    folder = tmp_path_factory.mktemp("keys")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl(*new, "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    openssl(*new, "-subj", "/CN=stranger", "-keyout", "stranger.key", "-out", "stranger.pem")
    for name in ("server", "client", "internal"):
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", f"subjectAltName=IP:{HOST}")
        openssl(*new, "-subj", f"/CN={name}", *signed, "-keyout", f"{name}.key", "-out", f"{name}.pem")
        openssl(
            "pkcs12", "-export", "-in", f"{name}.pem", "-inkey", f"{name}.key", "-certfile", "ca.pem",
            "-passout", f"pass:{PASSWORD}", "-out", f"{name}.p12",
        )  # fmt: skip
    trust = ("-alias", "ca", "-file", "ca.pem", "-keystore", "trust.p12", "-storepass", PASSWORD)
    subprocess.run(["keytool", "-importcert", "-noprompt", *trust], cwd=folder, check=True, capture_output=True)
    return folder


def properties(keys: Path, who: str, **ports: int) -> str:
    """FLINK_PROPERTIES of a process with TLS everywhere."""
    settings = {
        "jobmanager.rpc.address": HOST,
        "jobmanager.rpc.port": ports["rpc"],
        "rest.address": HOST,
        "rest.port": ports["rest"],
        "rest.bind-port": ports["rest"],
        "taskmanager.numberOfTaskSlots": 1,
        "taskmanager.memory.process.size": "1500 mb",
        "execution.checkpointing.dir": (keys / "checkpoints").as_uri(),
        "execution.checkpointing.savepoint-dir": (keys / "savepoints").as_uri(),
        "security.ssl.rest.enabled": "true",
        "security.ssl.rest.authentication-enabled": "true",
        "security.ssl.internal.enabled": "true",
    }
    for kind, name in (("rest", who), ("internal", "internal")):
        for setting, value in (
            *(("keystore", keys / f"{name}.p12"), ("keystore-password", PASSWORD), ("key-password", PASSWORD)),
            *(("truststore", keys / "trust.p12"), ("truststore-password", PASSWORD)),
        ):
            settings[f"security.ssl.{kind}.{setting}"] = str(value)
    return "\n".join(f"{key}: {value}" for key, value in settings.items())


@contextmanager
def running(folder: Path, role: str, settings: str) -> Iterator[Callable[[], str]]:
    """A role of the image; yields what it has printed."""
    folder.mkdir()
    environ = {**os.environ, "SURECOUNT_ROLE_DIR": str(folder / "role"), "FLINK_PROPERTIES": settings}
    with (folder / "out").open("wb") as output:
        process = subprocess.Popen([ENTRYPOINT, role, HOST], env=environ, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield lambda: (folder / "out").read_text(encoding="utf-8", errors="replace")[-3000:]
        finally:
            process.terminate()
            process.wait(timeout=60)


def content_of(file: Path) -> bytes:
    """A file's content; Flink removes what a job no longer needs, also while it is read."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


def test_a_job_over_tls_with_client_certificates(
    make: Callable[..., Running], keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(PIPELINE, partitions=1)
    taken: set[int] = set()
    chosen = {"rest": ports.pick(taken), "rpc": ports.pick(taken)}
    url = f"https://{HOST}:{chosen['rest']}"
    shown = {CA: "ca.pem", CERT: "client.pem", KEY: "client.key"}
    for name, file in shown.items():
        monkeypatch.setenv(name, str(keys / file))
    server = properties(keys, "server", **chosen)
    with running(tmp_path / "jm", "jobmanager", server) as said, running(tmp_path / "tm", "taskmanager", server):
        wait_until(lambda: health.taskmanager(HOST, [url]), 90, "a TaskManager that is registered over TLS", seen=said)

        client = {
            "SURECOUNT_ROLE_DIR": str(tmp_path / "client"),
            "FLINK_PROPERTIES": properties(keys, "client", **chosen),
        }
        environ = {name: value for name, value in os.environ.items() if name not in shown} | client
        options = [part for option, file in zip(("--ca", "--cert", "--key"), shown.values(), strict=True)
                   for part in (option, str(keys / file))]  # fmt: skip
        command = [ENTRYPOINT, "surecount", "submit", str(run.file), "--flink", url, *options, "--bounded"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
        (job,) = Flink(url).jobs()
        assert job.state == "FINISHED"
        for path in ("/jobmanager/config", "/jobmanager/environment", f"/jobs/{job.id}/config"):
            assert PASSWORD not in str(Flink(url).get(path)), path
        words = (word for process in psutil.process_iter(["cmdline"]) for word in process.info["cmdline"] or ())
        assert not [word for word in words if PASSWORD in word]
        folders = (tmp_path, keys / "checkpoints", keys / "savepoints")
        written = [
            file for folder in folders for file in folder.rglob("*") if file.is_file() and file.name != "config.yaml"
        ]
        assert not [file for file in written if PASSWORD.encode() in content_of(file)]

        monkeypatch.delenv(KEY)
        monkeypatch.delenv(CERT)
        with pytest.raises(SurecountError, match=r"SSLError: .*certificate.*\n"):
            Flink(url).jobs()
        monkeypatch.setenv(CERT, str(keys / "stranger.pem"))
        monkeypatch.setenv(KEY, str(keys / "stranger.key"))
        with pytest.raises(SurecountError, match="no Flink answers"):
            Flink(url).jobs()
        monkeypatch.setenv(CA, str(keys / "stranger.pem"))
        with pytest.raises(SurecountError, match="certificate verify failed"):
            Flink(url).jobs()
        with pytest.raises(SurecountError, match="no Flink answers"):
            Flink(url.replace("https", "http")).jobs()
