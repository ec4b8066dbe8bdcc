"""How a stack is secured: an own certificate authority, a certificate for each broker, and users with passwords.

Clients come over TLS and authenticate with SCRAM; brokers and controllers authenticate to one another with
certificates. Kafka's StandardAuthorizer refuses whatever no ACL allows. All of it is in ``DIR/secure``, for the owner
only; certificates are issued again at every start, the authority and the passwords stay.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path

from surecount.config import Kafka, Security
from surecount.config.security import Mechanism
from surecount.errors import SurecountError
from surecount.local.kafka import Node
from surecount.local.layout import Layout
from surecount.local.ports import HOST
from surecount.local.spec import StackSpec, write_private

MECHANISM: Mechanism = "SCRAM-SHA-512"
ADMIN = "admin"
"""May do anything; the stack itself asks as this user whether brokers are in service."""
USER = "surecount"
"""May do nothing but what ACLs allow: the user for pipelines."""
USERS = (ADMIN, USER)

_CLIENTS, _BROKERS, _CONTROLLERS = "CLIENTS", "BROKERS", "CONTROLLER"
_AUTHORITY_DAYS = 3650
# Until the next `up`, which issues them again.
_CERTIFICATE_DAYS = 365
_EXTENSIONS = """[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[node]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth,clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def check(folder: Path) -> None:
    """Raise SurecountError where a stack in ``folder`` cannot be secured."""
    if not str(folder).isascii():
        raise SurecountError(f"{folder} is not ASCII, and Kafka's clients could not name the files in it", "--dir")
    if shutil.which("openssl") is None:
        raise SurecountError(
            "--secure needs openssl, to make certificates, and it is not installed",
            "install it (Debian: apt install openssl), or start the stack without --secure",
        )


def prepare(layout: Layout, stack: StackSpec, names: Collection[str]) -> None:
    """Make the authority and the passwords that are missing, and a new certificate for each of the ``names``.

    Raises SurecountError with openssl's own words.
    """
    folder = layout.secure
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for user in USERS:
        if not (file := password_file(folder, user)).exists():
            write_private(file, secrets.token_urlsafe(24))
    if not ca_file(folder).exists():
        make_authority(folder)
    for name in names:
        issue(folder, name)
    client_file(layout).write_text(client_toml(as_user(layout, stack, USER)), encoding="utf-8")


def client_file(layout: Layout) -> Path:
    """What belongs into a pipeline file; there is no secret in it."""
    return layout.secure / "client.toml"


def client_toml(kafka: Kafka) -> str:
    """The part of a pipeline file with which it comes to a cluster."""
    security = kafka.model_dump(exclude_none=True)["security"]
    lines = ["[kafka]", f'bootstrap_servers = "{kafka.bootstrap_servers}"', "", "[kafka.security]"]
    return "\n".join([*lines, *(f'{name} = "{value}"' for name, value in security.items()), ""])


def as_user(layout: Layout, stack: StackSpec, user: str) -> Kafka:
    """The stack's Kafka, as a user comes to it."""
    security = Security(
        protocol="SASL_SSL",
        mechanism=MECHANISM,
        username=user,
        password_file=str(password_file(layout.secure, user)),
        ca_file=str(ca_file(layout.secure)),
    )
    servers = ",".join(f"{HOST}:{port}" for port in stack.kafka_ports)
    return Kafka(bootstrap_servers=servers, security=security if stack.secure else None)


def ca_file(folder: Path) -> Path:
    """The authority's certificate, which clients trust."""
    return folder / "ca.pem"


def password_file(folder: Path, user: str) -> Path:
    """The file with a user's password, and nothing else."""
    return folder / f"{user}.password"


def make_authority(folder: Path) -> None:
    """Make an authority: ``ca.pem`` and its key."""
    write_private(folder / "openssl.cnf", _EXTENSIONS)
    _openssl(
        folder, "req", "-x509", "-config", "openssl.cnf", "-extensions", "authority", "-nodes", *_NEW_KEY,
        "-keyout", "ca.key", "-out", "ca.pem", "-days", str(_AUTHORITY_DAYS), "-subj", "/CN=surecount local authority",
    )  # fmt: skip


def issue(
    folder: Path, name: str, hosts: Sequence[str] = ("DNS:localhost", f"IP:{HOST}"), days: int = _CERTIFICATE_DAYS
) -> None:
    """Issue a certificate to ``CN=name`` for ``hosts``: ``NAME.pem`` and, as PKCS#8, ``NAME.key``."""
    write_private(folder / f"{name}.cnf", f"{_EXTENSIONS}subjectAltName = {','.join(hosts)}\n")
    _openssl(
        folder, "req", "-new", "-config", f"{name}.cnf", "-nodes", *_NEW_KEY,
        "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
    )  # fmt: skip
    _openssl(
        folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
        "-set_serial", f"0x{secrets.token_hex(16)}", "-extfile", f"{name}.cnf", "-extensions", "node",
        "-days", str(days), "-sha256", "-out", f"{name}.pem",
    )  # fmt: skip


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")


def _openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False, umask=0o077)
    if done.returncode != 0:
        raise SurecountError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")


def broker_settings(layout: Layout, node: Node, nodes: Sequence[Node]) -> dict[str, str]:
    """What secures a broker: listeners, certificates and the authorizer. The private key is among them."""
    folder = layout.secure
    listeners = {
        _CLIENTS: f"{node.host}:{node.port}",
        _BROKERS: f"{node.host}:{node.broker_port}",
        _CONTROLLERS: f"{node.host}:{node.controller_port}",
    }
    protocols = {_CLIENTS: "SASL_SSL", _BROKERS: "SSL", _CONTROLLERS: "SSL"}
    inner = [f"listener.name.{name.lower()}" for name in (_BROKERS, _CONTROLLERS)]
    return {
        "listeners": ",".join(f"{name}://{address}" for name, address in listeners.items()),
        "advertised.listeners": ",".join(f"{name}://{listeners[name]}" for name in (_CLIENTS, _BROKERS)),
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
        "inter.broker.listener.name": _BROKERS,
        "sasl.enabled.mechanisms": MECHANISM,
        f"listener.name.{_CLIENTS.lower()}.{MECHANISM.lower()}.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "ssl.keystore.type": "PEM",
        # In the text, since Kafka takes a file with a key only where a password protects it.
        "ssl.keystore.key": _one_line(folder / f"{node.name}.key"),
        "ssl.keystore.certificate.chain": _one_line(folder / f"{node.name}.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(ca_file(folder)),
        **{f"{prefix}.ssl.client.auth": "required" for prefix in inner},
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": ";".join([f"User:{ADMIN}", *(f"User:CN={other.name}" for other in nodes)]),
    }


def _one_line(file: Path) -> str:
    """A PEM file as the value of a Java property."""
    return file.read_text(encoding="ascii").strip().replace("\n", "\\n")


def format_arguments(layout: Layout) -> list[str]:
    """What makes StorageTool add the users; their passwords are among it."""
    return [
        argument
        for user in USERS
        for argument in ("--add-scram", f"{MECHANISM}=[name={user},password={password(layout.secure, user)}]")
    ]


def password(folder: Path, user: str) -> str:
    """A user's password."""
    return password_file(folder, user).read_text(encoding="utf-8")
