"""What keeps a client out of a cluster that answers: its password, a certificate, a right it does not have.

librdkafka tries again without end, and calls all of it "no broker". Here it is told apart, by the errors that a client
reports on the way, and said with what mends it.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress

from confluent_kafka import KafkaError

from surecount.config import Kafka
from surecount.errors import SurecountError
from surecount.kafka.rights import Kind, Right, principal
from surecount.kafka.security import for_librdkafka

_UNAUTHORIZED = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)
_LOGIN_REFUSED = (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED)
_TIMEOUT_S = 3.0
_ALL_RIGHTS = "`surecount acls PIPELINE` prints all rights that a pipeline needs"


class RefusedError(SurecountError):
    """A cluster answers, and refuses this client; to try again is no use."""


def lacks_right(error: KafkaError | None) -> bool:
    """Whether the authorizer refused what was asked."""
    return error is not None and error.code() in _UNAUTHORIZED


_KINDS: dict[int, Kind] = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional-id",
}


def check_allowed(kafka: Kafka, error: KafkaError | None, failure: str, rights: Sequence[Right]) -> None:
    """Raise where the authorizer refused one of the ``rights`` that were used, of different kinds."""
    if error is not None and (kind := _KINDS.get(error.code())):
        for right in rights:
            if right.kind == kind:
                raise unauthorized(kafka, right, failure)


def unauthorized(kafka: Kafka, right: Right, failure: str) -> RefusedError:
    """What the authorizer refused, for want of a ``right``."""
    who = principal(kafka)
    return RefusedError(
        f"{failure}: {who} lacks {right} at {kafka.bootstrap_servers}",
        f"{right.acl(kafka, who)}\n  → {_ALL_RIGHTS}",
    )


def mend_of(cause: str) -> str:
    """What mends a job that failed for a ``cause``, in Java's words, of Kafka's security; nothing for others."""
    if "AuthorizationException" in cause:
        return f"`surecount doctor PIPELINE` says which right the jobs' user lacks; {_ALL_RIGHTS}"
    if any(name in cause for name in ("SaslAuthenticationException", "SslAuthenticationException", "SSLHandshake")):
        return "mend kafka.security, or the files that it names on the machines of Flink's processes"
    return ""


def not_let_in(kafka: Kafka, reported: Sequence[KafkaError]) -> RefusedError | None:
    """Why no connection came about, by what a client has ``reported``; None where that is no matter of security."""
    for error in reported:
        if error.code() in _LOGIN_REFUSED:
            return _no_login(kafka, error.str())
        if error.code() == KafkaError._SSL and (why := _tls_fault(kafka, error.str())):
            return RefusedError(
                f"the connection to Kafka at {why}",
                "kafka.security.ca_file has to be of the authority that issued the brokers' certificates, and these "
                "have to be valid and name the host of kafka.bootstrap_servers",
            )
    return None


def _no_login(kafka: Kafka, text: str) -> RefusedError:
    address, said = _address(text), re.sub(r"^\S+: | \(after .*\)$", "", text)
    security = kafka.security
    secret = (security and (security.password_file or security.password_env)) or ""
    return RefusedError(
        f"Kafka at {':'.join(map(str, address)) if address else kafka.bootstrap_servers} does not let "
        f"{principal(kafka)} in: {said}",
        f"mend kafka.security: its mechanism, its username, or the password in {secret}"
        if secret
        else "give kafka.security",
    )


def _tls_fault(kafka: Kafka, text: str) -> str | None:
    """What is wrong with a broker's certificate, with its address; None where nothing is, as where it just died.

    librdkafka blames the authority whatever it is, so a handshake of Python's own finds it out.
    """
    address = _address(text)
    if address is None:
        return None
    config = for_librdkafka(kafka)
    context = ssl.create_default_context(cafile=config.get("ssl.ca.location"))
    if "ssl.certificate.location" in config:
        context.load_cert_chain(config["ssl.certificate.location"], config["ssl.key.location"])
    try:
        with (
            socket.create_connection(address, _TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=address[0]),
        ):
            return None
    except ssl.SSLCertVerificationError as error:
        return f"{address[0]}:{address[1]} is not trusted: {error.verify_message.rstrip('.')}"
    except ssl.SSLError as error:
        return f"{address[0]}:{address[1]} cannot be encrypted: {error.reason or error}"
    except OSError:
        return None


def _address(text: str) -> tuple[str, int] | None:
    """The broker in an error such as ``sasl_ssl://127.0.0.1:9093/bootstrap: …``."""
    found = re.match(r"\w+://(\[?[^/\]]+]?):(\d+)/", text)
    with suppress(ValueError):
        return (found[1].strip("[]"), int(found[2])) if found else None
    return None
