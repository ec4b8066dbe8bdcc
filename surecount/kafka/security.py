"""What Kafka's two clients need to connect to a cluster, from one description: its address, properties and security.

Secrets are read where a client runs. So the Java client's properties, which Flink keeps in job graphs and shows in
logs, only say where they are; classes in the jar (``java/src/main/java/surecount``) read them, by the rules that are
here in Python for librdkafka.
"""

from __future__ import annotations

import os
import re
import ssl
import stat
from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from surecount.config import Kafka, Pipeline, Security
from surecount.errors import SurecountError

_SHADED = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security"
_LOGIN_MODULES = {
    "PLAIN": f"{_SHADED}.plain.PlainLoginModule",
    "SCRAM-SHA-256": f"{_SHADED}.scram.ScramLoginModule",
    "SCRAM-SHA-512": f"{_SHADED}.scram.ScramLoginModule",
}
_LINE = "it holds one line in UTF-8, the password"
_CONVERT = "the Java client takes PKCS#8 without a passphrase: openssl pkcs8 -topk8 -nocrypt -in {} -out NEW_FILE"
# Of PKCS#8: RSA, EC, DSA. Kafka's Java client knows no others.
_KEY_TYPES = (
    bytes.fromhex("06092a864886f70d010101"),
    bytes.fromhex("06072a8648ce3d0201"),
    bytes.fromhex("06072a8648ce380401"),
)


def for_java(kafka: Kafka) -> dict[str, str]:
    """Properties of the Java client in Flink's Kafka connector. They hold no secret of ``kafka.security``."""
    found = {"bootstrap.servers": kafka.bootstrap_servers, **kafka.properties}
    security = kafka.security
    if security is None:
        return found
    found["security.protocol"] = security.protocol
    if security.uses_sasl:
        mechanism = security.mechanism or ""
        found |= {
            "sasl.mechanism": mechanism,
            "sasl.jaas.config": f"{_LOGIN_MODULES[mechanism]} required;",
            "sasl.client.callback.handler.class": "surecount.SaslCredentials",
        }
    if security.ca_file or security.cert_file:
        found["ssl.engine.factory.class"] = "surecount.PemFiles"
    references = security.model_dump(exclude={"protocol", "mechanism"}, exclude_none=True)
    return found | {f"surecount.security.{name}": value for name, value in references.items()}


def for_librdkafka(kafka: Kafka) -> dict[str, str]:
    """Properties of a confluent-kafka client in this process; they hold secrets, so give them to nothing else.

    Raises SurecountError where a file or variable is missing, unreadable, or nothing that both clients can use.
    """
    found = {"bootstrap.servers": kafka.bootstrap_servers, **kafka.properties}
    security = kafka.security
    if security is None:
        return found
    found["security.protocol"] = security.protocol
    if security.uses_sasl:
        found["sasl.mechanism"] = security.mechanism or ""
        found["sasl.username"] = security.username or ""
        found["sasl.password"] = password(security)
    if security.ca_file is not None:
        found["ssl.ca.location"] = str(_authorities(security.ca_file))
    if security.cert_file is not None and security.key_file is not None:
        certificate, key = _certificate(security.cert_file, security.key_file)
        found |= {"ssl.certificate.location": str(certificate), "ssl.key.location": str(key)}
    return found


def password(security: Security) -> str:
    """The password, without the end of its line. Raises SurecountError that does not show it."""
    if security.password_env is not None:
        return _from_variable(security.password_env)
    name = security.password_file or ""
    where = f"security.password_file {name}"
    text = None
    with suppress(UnicodeDecodeError):
        text = _read(name, "password_file").decode()
    if text is None:  # not raised from the exception, which holds the file's content
        raise SurecountError(f"{where} is not UTF-8", _LINE)
    if text.endswith("\n"):
        text = text[:-1].removesuffix("\r")
    if not text:
        raise SurecountError(f"{where} is empty", _LINE)
    if {"\n", "\r", "\0"} & set(text):
        raise SurecountError(f"{where} holds more than one line", _LINE)
    if text.startswith("\ufeff"):
        raise SurecountError(f"{where} begins with a byte order mark, which would be part of the password", _LINE)
    return text


def _from_variable(name: str) -> str:
    where = f"security.password_env: the environment variable {name}"
    text = os.environ.get(name, "")
    if not text:
        raise SurecountError(f"{where} is not set", "set it here and for Flink's processes, or use password_file")
    if not text.isascii() or {"\n", "\r"} & set(text):
        # A JVM reads a variable as the machine's locale says.
        raise SurecountError(f"{where} holds more than one line of ASCII", "use password_file")
    return text


def check(pipeline: Pipeline) -> list[str]:
    """What is allowed and unwise about the security of a pipeline's clusters, in sentences.

    Raises SurecountError where clients could not be made of it here.
    """
    clusters = [pipeline.kafka, *(pipeline.kafka_of(p) for p in pipeline.pathways if pipeline.is_relayed(p))]
    for kafka in clusters:
        for_librdkafka(kafka)
    return [warning for kafka in clusters if kafka.security for warning in _warnings(kafka.security)]


def _warnings(security: Security) -> Iterator[str]:
    for setting in ("password_file", "key_file"):
        name = getattr(security, setting)
        if name is not None and stat.S_IMODE(_path(name, setting).stat().st_mode) & stat.S_IROTH:
            yield f"security.{setting} {name} can be read by every user of this machine; chmod o= takes that away"
    if security.protocol == "SASL_PLAINTEXT":
        what = "the password" if security.mechanism == "PLAIN" else "every record"
        yield f"security.protocol SASL_PLAINTEXT sends {what} over the network unencrypted; SASL_SSL does not"


def _authorities(name: str) -> Path:
    path = _path(name, "ca_file")
    _read(name, "ca_file")
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise SurecountError(
            f"security.ca_file {name} holds no certificates in PEM: {error.reason or error}",
            "openssl x509 -inform der -in FILE -out NEW_FILE converts a certificate",
        ) from error
    return path


def _certificate(cert_name: str, key_name: str) -> tuple[Path, Path]:
    certificate, key = _path(cert_name, "cert_file"), _path(key_name, "key_file")
    _read(cert_name, "cert_file")
    _check_key(key_name, _read(key_name, "key_file"))
    try:
        # A passphrase is never asked for: the key has none.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        what = "belong to different keys" if error.reason == "KEY_VALUES_MISMATCH" else f"do not load: {error.reason}"
        raise SurecountError(
            f"security.cert_file {cert_name} and key_file {key_name} {what}",
            "cert_file holds the client's certificate first, then those that signed it, in PEM",
        ) from error
    return certificate, key


def _check_key(name: str, content: bytes) -> None:
    """What librdkafka would take and the Java client would not."""
    where = f"security.key_file {name}"
    kinds = re.findall(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----", content)
    if len(kinds) != 1:
        raise SurecountError(f"{where} holds {len(kinds)} private keys in PEM", "it must hold one")
    if kinds[0] == b"ENCRYPTED PRIVATE KEY" or b"Proc-Type: 4,ENCRYPTED" in content:
        raise SurecountError(f"{where} is encrypted", _CONVERT.format(name))
    if kinds[0] != b"PRIVATE KEY":
        raise SurecountError(f"{where} is a {kinds[0].decode()} (PKCS#1 or SEC 1)", _CONVERT.format(name))
    body = content.decode("ascii", "replace").partition("-----BEGIN PRIVATE KEY-----")[2].partition("-----END")[0]
    try:
        der = b64decode("".join(body.split()), validate=True)
    except ValueError as error:
        raise SurecountError(f"{where} is not valid PEM: {error}", _CONVERT.format(name)) from error
    if not any(kind in der[:40] for kind in _KEY_TYPES):
        raise SurecountError(f"{where} is neither an RSA nor an EC key", "the Java client takes no other")


def _read(name: str, setting: str) -> bytes:
    try:
        return _path(name, setting).read_bytes()
    except OSError as error:
        raise SurecountError(
            f"security.{setting} {name} cannot be read here: {error.strerror}",
            "every client reads it: here, and on the machines of Flink's JobManager and TaskManagers",
        ) from error


def _path(name: str, setting: str) -> Path:
    if not name.startswith("${"):
        return Path(name)
    variable, _, rest = name[2:].partition("}")
    if not (start := os.environ.get(variable)):
        raise SurecountError(
            f"security.{setting} {name}: the environment variable {variable} is not set",
            "set it here and for Flink's processes",
        )
    return Path(start + rest)
