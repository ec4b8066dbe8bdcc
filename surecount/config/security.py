"""``[kafka.security]``: how clients prove who they are, and whom they trust.

It names files and environment variables. It never holds a secret, so it may be written down anywhere.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_serializer, model_validator

from surecount.config.base import Model

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


def _path(value: str) -> str:
    if re.fullmatch(r"(/|\$\{[A-Z_][A-Z0-9_]*\}/)[ -~]+", value) is None:
        # In ASCII: a JVM reads other characters of paths and variables as the machine's locale has them.
        raise ValueError(
            "must be an absolute path in ASCII; it may begin with a variable, like ${CREDENTIALS}/kafka, since every "
            "client reads it, here and on Flink's machines"
        )
    return value


def _variable(value: str) -> str:
    if re.fullmatch(r"[A-Z_][A-Z0-9_]*", value) is None:
        raise ValueError("must be the name of an environment variable, in capital letters")
    return value


def _username(value: str) -> str:
    if not value or {"\0", "\r", "\n"} & set(value):
        raise ValueError("must be one line, not empty")
    return value


FilePath = Annotated[str, AfterValidator(_path)]
Variable = Annotated[str, AfterValidator(_variable)]
Username = Annotated[str, AfterValidator(_username)]

_UNSUPPORTED = {
    "OAUTHBEARER": "it needs a token server, whose settings the two Kafka clients do not share",
    "GSSAPI": "it needs Kerberos on every machine, which the two Kafka clients set up differently",
}
_NOT_HERE = ("security.", "sasl.", "ssl.", "enable.ssl.", "enable.sasl.", "config.providers")


class Security(Model):
    """How clients of one cluster connect. Files are read where a client runs, and in PEM."""

    protocol: Protocol
    mechanism: Mechanism | None = None
    username: Username | None = None
    password_file: FilePath | None = None
    password_env: Variable | None = None
    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None

    @model_validator(mode="before")
    @classmethod
    def _understood(cls, data: Any) -> Any:
        """Say more than that a value is none of those allowed, and never show it: it may be a password."""
        if not isinstance(data, dict):
            return data
        if "password" in data:
            raise ValueError(
                "password is no setting: a pipeline file holds no secret; write it into a file and name that in "
                "password_file, or an environment variable in password_env"
            )
        mechanism = data.get("mechanism")
        if isinstance(mechanism, str) and mechanism in _UNSUPPORTED:
            raise ValueError(
                f"mechanism {mechanism} is not supported: {_UNSUPPORTED[mechanism]}; use SCRAM-SHA-512, PLAIN, or "
                "client certificates (cert_file and key_file)"
            )
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        sasl = {n: getattr(self, n) for n in ("mechanism", "username", "password_file", "password_env")}
        given = [name for name, value in sasl.items() if value is not None]
        if given and not self.uses_sasl:
            raise ValueError(f"{' and '.join(given)}: only with protocol SASL_SSL or SASL_PLAINTEXT")
        if self.uses_sasl:
            if missing := [name for name in ("mechanism", "username") if sasl[name] is None]:
                raise ValueError(f"protocol {self.protocol} needs {' and '.join(missing)}")
            if (self.password_file is None) == (self.password_env is None):
                both = "neither is" if self.password_file is None else "both are"
                raise ValueError(f"protocol {self.protocol} needs password_file or password_env; {both} given")
        tls = [name for name in ("ca_file", "cert_file", "key_file") if getattr(self, name) is not None]
        if tls and not self.uses_tls:
            raise ValueError(f"{' and '.join(tls)}: only with protocol SSL or SASL_SSL")
        if (self.cert_file is None) != (self.key_file is None):
            one, other = ("cert_file", "key_file") if self.key_file is None else ("key_file", "cert_file")
            raise ValueError(f"{one} is given without {other}; a client certificate needs both")
        return self

    @property
    def uses_sasl(self) -> bool:
        """Whether clients log in with a name and a password."""
        return self.protocol.startswith("SASL_")

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol.endswith("SSL")


class Clients(Model):
    """Settings of the clients of one cluster."""

    properties: dict[str, str] = Field(default_factory=dict)
    security: Security | None = None

    @model_validator(mode="after")
    def _security_has_a_table(self) -> Self:
        if name := next((name for name in self.properties if name.startswith(_NOT_HERE)), None):
            raise ValueError(
                f"properties: {name!r} is a security setting, which Kafka's two clients name differently; "
                "write it as `security`, in a table of its own (docs/security.md)"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, serialize: Any) -> dict[str, Any]:
        # Code of an earlier run, to which an upgrade may go back, knows no such table.
        content: dict[str, Any] = serialize(self)
        if self.security is None:
            content.pop("security", None)
        return content
