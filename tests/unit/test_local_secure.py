"""What secures a local stack: certificates by openssl, private files, and what a broker is told."""

from __future__ import annotations

import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

from surecount.errors import SurecountError
from surecount.local import kafka, secure
from surecount.local.layout import Layout
from surecount.local.prepare import Wanted, prepare
from surecount.local.spec import StackSpec

NODES = [kafka.Node(number, 9090 + number, 19090 + number, broker_port=29090 + number) for number in (1, 2, 3)]
STACK = StackSpec("id", 2, (9091, 9092, 9093), (), secure=True)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path)
    secure.prepare(made, STACK, [node.name for node in NODES])
    return made


def _properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_certificates_are_of_the_authority_and_for_this_machine_only(layout: Layout) -> None:
    def checked(*host: str) -> int:
        command = ["openssl", "verify", "-CAfile", "ca.pem", *host, "kafka-1.pem"]
        return subprocess.run(command, cwd=layout.secure, check=False, capture_output=True).returncode

    assert checked("-verify_ip", "127.0.0.1") == checked("-verify_hostname", "localhost") == 0
    assert checked("-verify_hostname", "kafka.example") != 0
    assert "BEGIN PRIVATE KEY" in (layout.secure / "kafka-1.key").read_text()  # PKCS#8


def test_only_the_owner_reads_what_is_secret(layout: Layout) -> None:
    kafka.write_config(layout, NODES[0], NODES, secure.broker_settings(layout, NODES[0], NODES))
    secret = [*layout.secure.glob("*.key"), *layout.secure.glob("*.password")]
    secret.append(layout.broker(1) / "server.properties")
    assert len(secret) == 4 + 2 + 1
    assert {stat.S_IMODE(file.stat().st_mode) for file in secret} == {0o600}
    assert stat.S_IMODE(layout.secure.stat().st_mode) == 0o700


def test_a_new_start_keeps_the_authority_and_the_passwords_and_renews_certificates(layout: Layout) -> None:
    kept = [secure.ca_file(layout.secure), *layout.secure.glob("*.password")]
    before = [file.read_text() for file in kept]
    certificate = (layout.secure / "kafka-1.pem").read_text()
    secure.prepare(layout, STACK, ["kafka-1"])
    assert [file.read_text() for file in kept] == before
    assert (layout.secure / "kafka-1.pem").read_text() != certificate


def test_no_listener_of_a_secured_broker_is_plain(layout: Layout) -> None:
    own = secure.broker_settings(layout, NODES[1], NODES)
    found = _properties(kafka.server_properties(NODES[1], NODES, Path("data"), own))
    assert found["listener.security.protocol.map"] == "CLIENTS:SASL_SSL,BROKERS:SSL,CONTROLLER:SSL"
    assert found["listeners"] == "CLIENTS://127.0.0.1:9092,BROKERS://127.0.0.1:29092,CONTROLLER://127.0.0.1:19092"
    assert found["inter.broker.listener.name"] == "BROKERS"
    assert found["listener.name.brokers.ssl.client.auth"] == "required"
    assert found["listener.name.controller.ssl.client.auth"] == "required"
    assert found["allow.everyone.if.no.acl.found"] == "false"
    assert found["super.users"] == "User:admin;User:CN=kafka-1;User:CN=kafka-2;User:CN=kafka-3"


def test_passwords_are_long_differ_and_are_in_no_file_for_clients(layout: Layout) -> None:
    passwords = {secure.password(layout.secure, user) for user in secure.USERS}
    assert len(passwords) == 2
    assert all(len(password) >= 32 for password in passwords)
    text = secure.client_file(layout).read_text()
    assert not [password for password in passwords if password in text]
    security = tomllib.loads(text)["kafka"]["security"]
    assert Path(security["password_file"]).read_text() == secure.password(layout.secure, "surecount")
    assert Path(security["ca_file"]).exists()


def test_without_openssl_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SurecountError, match="--secure needs openssl"):
        secure.check(tmp_path)


@pytest.mark.parametrize("now", [True, False])
def test_data_with_users_are_not_served_without_and_the_other_way_round(tmp_path: Path, *, now: bool) -> None:
    layout = Layout(tmp_path)
    if not now:
        layout.secure.mkdir()
    layout.broker(1).mkdir()
    layout.formatted(1).write_text("id")
    wanted = Wanted(1, 0, 0, 1, 0, 0, {}, {}, secure=now)
    with pytest.raises(SurecountError, match="users and rights") as caught:
        prepare(Path("java"), layout, wanted)
    assert ("without --secure" if now else "with --secure") in caught.value.hint
