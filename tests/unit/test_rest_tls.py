"""Which files a client shows to Flink's REST API, and what is refused before it is tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from surecount.cli import app
from surecount.errors import SurecountError
from surecount.ops.launch import rest_address
from surecount.ops.submit import check_client_tls
from surecount.rest_tls import CA, CERT, KEY, RestTls

URL = "https://flink:8081"


@pytest.fixture
def pem(tmp_path: Path) -> str:
    (tmp_path / "a.pem").write_text("-----BEGIN PRIVATE KEY-----")
    return str(tmp_path / "a.pem")


def test_requests_gets_what_is_named(pem: str) -> None:
    assert RestTls.from_environment({}).of_requests() == {"verify": True, "cert": None}
    assert RestTls.from_environment({CA: pem, CERT: ""}).of_requests() == {"verify": pem, "cert": None}
    assert RestTls.from_environment({CERT: pem}).of_requests() == {"verify": True, "cert": pem}
    assert RestTls.from_environment({CERT: pem, KEY: pem}).of_requests() == {"verify": True, "cert": (pem, pem)}


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({CA: "/none"}, "--ca /none: there is no such file"),
        ({KEY: "PEM"}, "--key goes with a certificate"),
        ({CERT: "LOCKED"}, "the key has a passphrase"),
        ({CERT: "PEM", KEY: "LOCKED"}, "the key has a passphrase"),
    ],
)
def test_what_could_not_work_is_refused(named: dict[str, str], message: str, pem: str, tmp_path: Path) -> None:
    locked = tmp_path / "locked.pem"
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    files = {"PEM": pem, "LOCKED": str(locked)}
    with pytest.raises(SurecountError, match=message):
        RestTls.from_environment({name: files.get(value, value) for name, value in named.items()})


def test_every_command_that_asks_a_cluster_takes_the_files() -> None:
    known: Any = typer.main.get_command(app)
    options = {name: {o for p in command.params for o in p.opts} for name, command in known.commands.items()}
    assert {"submit", "start", "status"} & {name for name, found in options.items() if "--flink" in found}
    for name, found in options.items():
        assert ({"--ca", "--cert", "--key"} <= found) == ("--flink" in found), name


def test_a_client_without_keys_does_not_submit_over_tls(tmp_path: Path) -> None:
    environment = {"FLINK_BIN_DIR": str(tmp_path / "bin")}
    check_client_tls("http://flink:8081", environment)
    with pytest.raises(SurecountError, match=r"conf/config\.yaml, and that has none"):
        check_client_tls(URL, environment)
    (tmp_path / "config.yaml").write_text("rest.port: 8081")
    with pytest.raises(SurecountError, match="has none"):
        check_client_tls(URL, environment | {"FLINK_CONF_DIR": str(tmp_path)})
    (tmp_path / "config.yaml").write_text("security.ssl.rest.enabled: true")
    check_client_tls(URL, environment | {"FLINK_CONF_DIR": str(tmp_path)})


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://flink:8443", "https://flink:8443"),
        ("https://flink", "https://flink:443"),
        ("http://127.0.0.1:8081", "127.0.0.1:8081"),
        ("http://127.0.0.1", "127.0.0.1:80"),
    ],
)
def test_flinks_command_line_gets_a_port_and_is_told_of_tls(url: str, address: str) -> None:
    assert rest_address(url) == address
