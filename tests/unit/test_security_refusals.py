"""What keeps a client out, told apart: certificates by real handshakes, the rest by what librdkafka reports."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from surecount.config import Kafka, Security
from surecount.errors import SurecountError
from surecount.kafka.refusals import RefusedError, lacks_right, mend_of, not_let_in, unauthorized
from surecount.kafka.rights import Right, principal
from surecount.local import secure
from surecount.topics import Admin

USER = Kafka(
    bootstrap_servers="a:1",
    security=Security(
        protocol="SASL_PLAINTEXT", mechanism="PLAIN", username="shop", password_file="/run/secrets/kafka"
    ),
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority")
    secure.make_authority(folder)
    secure.issue(folder, "right")
    secure.issue(folder, "other-host", hosts=("DNS:kafka.example",))
    secure.issue(folder, "expired", days=-1)
    return folder


@contextmanager
def _server(authority: Path, name: str) -> Iterator[str]:
    """Something that makes TLS connections with a certificate, and hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / f"{name}.pem", authority / f"{name}.key")

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@pytest.mark.parametrize(
    ("certificate", "trusted", "said"),
    [
        ("expired", "ca.pem", "certificate has expired"),
        ("other-host", "ca.pem", "not valid for '127.0.0.1'"),
        ("right", "kafka.pem", "unable to get local issuer certificate"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_found_out(
    authority: Path, tmp_path: Path, certificate: str, trusted: str, said: str
) -> None:
    if trusted != "ca.pem":
        secure.make_authority(tmp_path)
        (tmp_path / "ca.pem").rename(authority / trusted)
    with _server(authority, certificate) as address:
        refused = not_let_in(*_of_tls(authority / trusted, address))
    assert refused is not None
    assert f"{address} is not trusted" in refused.message
    assert said in refused.message
    assert "kafka.security.ca_file" in refused.hint


def _of_tls(trusted: Path, address: str) -> tuple[Kafka, list[KafkaError]]:
    """A client, and what librdkafka reports of it whatever is wrong."""
    kafka = Kafka(bootstrap_servers=address, security=Security(protocol="SSL", ca_file=str(trusted)))
    return kafka, [
        KafkaError(KafkaError._SSL, f"ssl://{address}/bootstrap: SSL handshake failed: verify ssl.ca.location")
    ]


def test_a_command_says_it_at_once(authority: Path) -> None:
    with _server(authority, "expired") as address:
        began = time.monotonic()
        with pytest.raises(RefusedError, match="certificate has expired"):
            Admin(_of_tls(authority / "ca.pem", address)[0]).metadata()
    assert time.monotonic() - began < 8  # within the first patience, not the second


def test_a_broker_that_hangs_up_or_is_gone_is_no_matter_of_trust(authority: Path) -> None:
    """It may be dying: a client tries again."""
    with _server(authority, "right") as address:
        assert not_let_in(*_of_tls(authority / "ca.pem", address)) is None
    assert not_let_in(*_of_tls(authority / "ca.pem", address)) is None


def test_a_refused_login_names_the_user_and_where_the_password_is() -> None:
    error = KafkaError(
        KafkaError._AUTHENTICATION,
        "sasl_plaintext://b:2/bootstrap: SASL authentication error: Authentication failed (after 3ms in state X)",
    )
    refused = not_let_in(USER, [KafkaError(KafkaError._TRANSPORT, "x"), error])
    assert refused is not None
    assert refused.message == (
        "Kafka at b:2 does not let User:shop in: SASL authentication error: Authentication failed"
    )
    assert "/run/secrets/kafka" in refused.hint


def test_no_broker_is_no_refusal() -> None:
    assert not_let_in(USER, [KafkaError(KafkaError._TRANSPORT, "x"), KafkaError(KafkaError._SSL, "x")]) is None


@pytest.mark.parametrize("kind", ["TOPIC", "GROUP", "CLUSTER", "TRANSACTIONAL_ID"])
def test_a_right_that_is_missing_is_named_with_what_gives_it(kind: str) -> None:
    assert lacks_right(KafkaError(getattr(KafkaError, f"{kind}_AUTHORIZATION_FAILED")))
    right = Right("topic", "shop.results", ("Create",))
    error: SurecountError = unauthorized(USER, right, "topic 'shop.results' can't be created")
    assert error.message == (
        "topic 'shop.results' can't be created: User:shop lacks Create on topic shop.results at a:1"
    )
    assert error.hint.startswith(right.acl(USER, "User:shop"))


@pytest.mark.parametrize(
    ("kafka", "who"),
    [
        (lambda _: Kafka(), "User:ANONYMOUS"),
        (lambda _: USER, "User:shop"),
        (
            lambda of: Kafka(security=Security(protocol="SSL", cert_file=f"{of}/c.pem", key_file=f"{of}/c.key")),
            "User:(the subject of /etc/c.pem)",
        ),
    ],
)
def test_whom_the_authorizer_takes_a_client_for(kafka: Callable[[str], Kafka], who: str) -> None:
    assert principal(kafka("/etc")) == who


@pytest.mark.parametrize(
    ("cause", "mend"),
    [
        ("org.apache.kafka.common.errors.TransactionalIdAuthorizationException: refused", "surecount acls PIPELINE"),
        ("org.apache.kafka.common.errors.SaslAuthenticationException: Authentication failed", "mend kafka.security"),
        ("java.lang.IllegalStateException: x", ""),
    ],
)
def test_what_mends_a_job_that_kafka_refuses(cause: str, mend: str) -> None:
    assert mend in mend_of(cause)
    assert bool(mend_of(cause)) == bool(mend)
