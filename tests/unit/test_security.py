"""[kafka.security]: what is refused, and what each of Kafka's two clients is given."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import connectors
from surecount import config, topics
from surecount.audit import reader
from surecount.config import Kafka, Pipeline
from surecount.errors import SurecountError
from surecount.kafka import security as translation

SECRET = "hunter2"
LOGIN = {"mechanism": "SCRAM-SHA-512", "username": "ada"}


def pipeline(security: Any, **source: Any) -> Pipeline:
    content = {"name": "shop", "aggregate": [{"name": "a", "key": ["k"], "window": "1 min"}]}
    kafka = {"bootstrap_servers": "broker:9093", "security": security}
    return config.parse({**content, "kafka": kafka, "source": source or {"topics": ["in"]}}, "shop.toml")


def refused(security: Any) -> str:
    with pytest.raises(SurecountError) as caught:
        pipeline(security)
    return caught.value.message


def sasl(**more: Any) -> dict[str, Any]:
    return {"protocol": "SASL_SSL", **LOGIN, "password_file": "/run/secrets/kafka", **more}


@pytest.mark.parametrize(
    ("security", "said"),
    [
        ({}, "shop.toml: kafka.security.protocol is missing"),
        ({"protocol": "TLS"}, "kafka.security.protocol: Input should be 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT'"),
        ({"protocol": "SASL_SSL"}, "kafka.security: protocol SASL_SSL needs mechanism and username"),
        ({"protocol": "SASL_SSL", "username": "ada"}, "protocol SASL_SSL needs mechanism"),
        ({"protocol": "SASL_SSL", **LOGIN}, "needs password_file or password_env; neither is given"),
        (sasl(password_env="PASSWORD"), "needs password_file or password_env; both are given"),
        (sasl(protocol="SSL"), "mechanism and username and password_file: only with protocol SASL_SSL"),
        ({"protocol": "SSL", "password_env": "PASSWORD"}, "password_env: only with protocol SASL_SSL"),
        ({"protocol": "PLAINTEXT", "ca_file": "/ca"}, "ca_file: only with protocol SSL or SASL_SSL"),
        (sasl(protocol="SASL_PLAINTEXT", ca_file="/ca"), "ca_file: only with protocol SSL or SASL_SSL"),
        ({"protocol": "SSL", "cert_file": "/c"}, "cert_file is given without key_file"),
        ({"protocol": "SSL", "key_file": "/k"}, "key_file is given without cert_file"),
        (sasl(mechanism="OAUTHBEARER"), "mechanism OAUTHBEARER is not supported: it needs a token server"),
        (sasl(mechanism="GSSAPI"), "mechanism GSSAPI is not supported: it needs Kerberos"),
        (sasl(mechanism="SCRAM"), "kafka.security.mechanism: Input should be 'PLAIN', 'SCRAM-SHA-256' or"),
        (sasl(username="a\nb"), "kafka.security.username: must be one line, not empty"),
        (sasl(username=""), "kafka.security.username: must be one line, not empty"),
        (sasl(password_file="secret"), "kafka.security.password_file: must be an absolute path in ASCII"),
        (sasl(password_file="${HOME"), "kafka.security.password_file: must be an absolute path in ASCII"),
        (sasl(ca_file="/schlüssel"), "kafka.security.ca_file: must be an absolute path in ASCII"),
        (sasl(password_file=None, password_env="a b"), "password_env: must be the name of an environment variable"),
    ],
)
def test_what_contradicts_itself_is_refused(security: Any, said: str) -> None:
    assert said in refused(security)


@pytest.mark.parametrize(
    "security",
    [
        SECRET,
        [SECRET],
        sasl(password=SECRET),
        {"protocol": SECRET},
        sasl(mechanism=SECRET),
        sasl(password_file=SECRET),
        sasl(password_file=12345678),
        sasl(password_file=[SECRET]),
        sasl(password_file=None, password_env=SECRET),
        sasl(secret=SECRET),
    ],
)
def test_no_error_shows_what_may_be_a_password(security: Any) -> None:
    assert SECRET not in (said := refused(security))
    assert "12345678" not in said
    assert "kafka.security" in said


@pytest.mark.parametrize(
    "name",
    ["sasl.password", "sasl.jaas.config", "security.protocol", "ssl.ca.location", "ssl.keystore.key", "sasl.username",
     "enable.ssl.certificate.verification", "config.providers"],
)  # fmt: skip
@pytest.mark.parametrize("where", ["kafka", "source.pathway[0]"])
def test_properties_of_either_client_that_are_about_security_are_refused(name: str, where: str) -> None:
    far = {"name": "far", "topics": ["in"], "bootstrap_servers": "far:1"}
    clients = {"properties": {"client.id": "x", name: SECRET}}
    content = {
        "name": "shop",
        "kafka": clients if where == "kafka" else {},
        "source": {"pathway": [far | (clients if where != "kafka" else {})]},
        "aggregate": [{"name": "a", "key": ["k"], "window": "1 min"}],
    }
    with pytest.raises(SurecountError) as caught:
        config.parse(content, "shop.toml")
    assert f"{where}: properties: {name!r} is a security setting" in caught.value.message
    assert SECRET not in caught.value.message


def test_a_pathway_has_security_of_its_own_only_on_a_cluster_of_its_own() -> None:
    own = {"protocol": "SSL", "ca_file": "/own.pem"}
    far = {"name": "far", "topics": ["in"], "bootstrap_servers": "far:1", "security": own}
    shop = pipeline(sasl(), pathway=[far, {"name": "near", "topics": ["in2"]}])
    far_away, near = (shop.kafka_of(pathway).security for pathway in shop.pathways)
    assert far_away is not None
    assert (far_away.protocol, far_away.ca_file) == ("SSL", "/own.pem")
    assert near == shop.kafka.security
    with pytest.raises(SurecountError, match="pathway 'far' has security, but no cluster of its own"):
        pipeline(sasl(), pathway=[far | {"bootstrap_servers": None}])


def test_the_java_client_is_told_where_secrets_are_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(SECRET)
    files = {"ca_file": "/ca", "cert_file": "${CREDENTIALS}/cert", "key_file": "/key"}
    kafka = pipeline(sasl(password_file=str(tmp_path / "password"), **files)).kafka
    scram = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security.scram.ScramLoginModule"
    expected = {
        "bootstrap.servers": "broker:9093",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.jaas.config": f"{scram} required;",
        "sasl.client.callback.handler.class": "surecount.SaslCredentials",
        "ssl.engine.factory.class": "surecount.PemFiles",
        "surecount.security.username": "ada",
        "surecount.security.password_file": str(tmp_path / "password"),
        **{f"surecount.security.{name}": path for name, path in files.items()},
    }
    assert translation.for_java(kafka) == expected
    secured, arguments = pipeline(kafka.security), Namespace(bounded=False, generation=0, moved=[])
    for properties in (
        connectors.consumer_properties(secured, secured.kafka, "aggregate", arguments),
        connectors.producer_properties(secured),
    ):
        assert expected.items() <= properties.items()


def test_librdkafka_is_given_the_password_and_the_files(
    tmp_path: Path, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text(SECRET + "\n")
    monkeypatch.setenv("CREDENTIALS", str(pem))
    files = {"ca_file": "${CREDENTIALS}/two.pem", "cert_file": f"{pem}/one.pem", "key_file": f"{pem}/one.key"}
    kafka = pipeline(sasl(password_file=str(tmp_path / "password"), **files)).kafka
    expected = {
        "bootstrap.servers": "broker:9093",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "ada",
        "sasl.password": SECRET,
        "ssl.ca.location": f"{pem}/two.pem",
        "ssl.certificate.location": f"{pem}/one.pem",
        "ssl.key.location": f"{pem}/one.key",
    }
    # Both make clients of it, so librdkafka knows every name.
    assert topics.client_config(kafka) == expected
    assert reader.client_config(kafka) == {"log_level": 2, **expected}
    reader.open_consumer(kafka).close()


@pytest.mark.parametrize("cert", ["one", "ec"])
def test_certificates_with_keys_that_both_clients_take(pem: Path, cert: str) -> None:
    files = {"cert_file": f"{pem}/{cert}.pem", "key_file": f"{pem}/{cert}.key"}
    assert topics.client_config(pipeline({"protocol": "SSL", **files}).kafka)["ssl.key.location"] == f"{pem}/{cert}.key"


@pytest.mark.parametrize(
    ("files", "said", "mend"),
    [
        ({"key_file": "pkcs1.key"}, "pkcs1.key is a RSA PRIVATE KEY (PKCS#1", "openssl pkcs8 -topk8 -nocrypt -in "),
        ({"key_file": "sec1.key"}, "sec1.key is a EC PRIVATE KEY (PKCS#1 or SEC 1)", "openssl pkcs8 -topk8 -nocrypt"),
        ({"key_file": "encrypted.key"}, "encrypted.key is encrypted", "openssl pkcs8 -topk8 -nocrypt"),
        ({"key_file": "old-encrypted.key"}, "encrypted.key is encrypted", "openssl pkcs8 -topk8 -nocrypt"),
        ({"key_file": "ed25519.key", "cert_file": "ed25519.pem"}, "is neither an RSA nor an EC key", "no other"),
        ({"key_file": "both.key"}, "both.key holds 2 private keys", "one"),
        ({"key_file": "one.pem"}, "one.pem holds 0 private keys", "one"),
        ({"key_file": "broken.key"}, "broken.key is not valid PEM", "openssl"),
        ({"key_file": "two.key"}, "belong to different keys", "certificate first"),
        ({"cert_file": "empty"}, "do not load", "certificate first"),
        ({"ca_file": "empty"}, "empty holds no certificates in PEM", "openssl x509"),
        ({"ca_file": "one.key"}, "one.key holds no certificates in PEM", "openssl x509"),
        ({"ca_file": "none"}, "none cannot be read here: No such file", "every client reads it"),
        ({"cert_file": "none"}, "none cannot be read here: No such file", "every client reads it"),
        ({"key_file": "none"}, "none cannot be read here: No such file", "every client reads it"),
        ({"ca_file": ""}, "cannot be read here: Is a directory", "every client reads it"),
    ],
)
def test_files_that_one_of_the_clients_could_not_use_are_refused(
    pem: Path, files: dict[str, str], said: str, mend: str
) -> None:
    given = {"cert_file": "one.pem", "key_file": "one.key", **files}
    shop = pipeline({"protocol": "SSL", **{name: f"{pem}/{file}" for name, file in given.items()}})
    with pytest.raises(SurecountError) as caught:
        topics.client_config(shop.kafka)
    assert said in caught.value.message
    assert mend in caught.value.hint


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\r\n", "is empty"),
        (SECRET.encode() + b"\n\n", "holds more than one line"),
        (b"user\n" + SECRET.encode(), "holds more than one line"),
        (SECRET.encode() + b"\r", "holds more than one line"),
        (SECRET.encode() + b"\0", "holds more than one line"),
        (SECRET.encode() + b"\xff", "is not UTF-8"),
        (b"\xef\xbb\xbf" + SECRET.encode(), "begins with a byte order mark"),
        (None, "cannot be read here: No such file"),
    ],
)
def test_password_files_that_hold_no_password_are_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SurecountError) as caught:
        topics.client_config(pipeline(sasl(password_file=str(file))).kafka)
    assert f"security.password_file {file} {said}" in caught.value.message
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in repr(error)
        assert SECRET not in str(error)
        error = error.__cause__ or error.__context__


@given(
    text=st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8"), min_size=1),
    end=st.sampled_from(["", "\n", "\r\n"]),
)
def test_any_other_line_is_a_password(tmp_path_factory: pytest.TempPathFactory, text: str, end: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes((text + end).encode())
    kafka = pipeline(sasl(password_file=str(file))).kafka
    if text.startswith("\ufeff"):
        with pytest.raises(SurecountError, match="byte order mark"):
            topics.client_config(kafka)
    else:
        assert topics.client_config(kafka)["sasl.password"] == text
    assert text not in translation.for_java(kafka).values()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "is not set"),
        ("", "is not set"),
        ("a\nb", "more than one line"),
        ("geheim€", "more than one line of ASCII"),
    ],
)
def test_a_variable_that_holds_no_password_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str | None, said: str
) -> None:
    if value is not None:
        monkeypatch.setenv("SHOP_PASSWORD", value)
    with pytest.raises(SurecountError, match=said):
        topics.client_config(pipeline(sasl(password_file=None, password_env="SHOP_PASSWORD")).kafka)


def test_a_password_comes_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "a \"b\\c${d}';")
    kafka = pipeline(sasl(password_file=None, password_env="SHOP_PASSWORD")).kafka
    assert topics.client_config(kafka)["sasl.password"] == "a \"b\\c${d}';"
    assert translation.for_java(kafka)["surecount.security.password_env"] == "SHOP_PASSWORD"


def test_a_path_may_begin_with_a_variable_that_has_to_be_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kafka = pipeline(sasl(password_file="${SHOP_SECRETS}/password")).kafka
    with pytest.raises(SurecountError, match="the environment variable SHOP_SECRETS is not set"):
        topics.client_config(kafka)
    monkeypatch.setenv("SHOP_SECRETS", str(tmp_path))
    (tmp_path / "password").write_text(SECRET)
    assert topics.client_config(kafka)["sasl.password"] == SECRET
    assert translation.for_java(kafka)["surecount.security.password_file"] == "${SHOP_SECRETS}/password"


def test_what_is_unwise_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(SECRET)
    file.chmod(0o604)
    [readable, unencrypted] = translation.check(
        pipeline(sasl(protocol="SASL_PLAINTEXT", mechanism="PLAIN", password_file=str(file)))
    )
    assert f"security.password_file {file} can be read by every user of this machine; chmod o=" in readable
    assert "sends the password over the network unencrypted" in unencrypted
    file.chmod(0o640)
    assert translation.check(pipeline(sasl(password_file=str(file)))) == []
    assert translation.check(pipeline(None)) == []


def test_without_security_clients_have_only_the_properties() -> None:
    kafka = Kafka(bootstrap_servers="one:1", properties={"client.id": "me"})
    expected = {"bootstrap.servers": "one:1", "client.id": "me"}
    assert translation.for_java(kafka) == translation.for_librdkafka(kafka) == expected
