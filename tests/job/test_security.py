"""[kafka.security] in Kafka's Java client: the classes of the jar read secrets as Python does."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

from surecount.config import Kafka, Security
from surecount.errors import SurecountError
from surecount.kafka.security import for_java, for_librdkafka
from surecount.local import flink
from surecount.local.prerequisites import find_java

PROGRAM = Path(__file__).parent / "security" / "Credentials.java"
ODD = [
    "",
    "\n",
    "\r\n",
    "\n\n",
    "\r",
    "a\nb",
    "\ufeffa",
    "a\0",
    '"',
    "\\",
    "'",
    "${a:b:c}",
    "${x}",
    "; ",
    "=,",
    "é€😀",
    " ",
]


def java_makes(clusters: Sequence[Kafka], **environment: str) -> list[list[str]]:
    """Of each cluster: made, the name and the password; or refused, and why."""
    lines = ["\t".join(part.encode().hex() for pair in for_java(k).items() for part in pair) for k in clusters]
    command = [str(find_java()), "-cp", os.pathsep.join(map(str, flink.jars())), str(PROGRAM)]
    # A machine without a locale, as containers are.
    given = {"PATH": os.environ["PATH"], "LC_ALL": "C", **environment}
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False, env=given)
    assert done.returncode == 0, done.stderr
    found = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(found) == len(lines), done.stdout
    return [[verdict, *(bytes.fromhex(part).decode() for part in parts)] for verdict, *parts in found]


def login(**where: str) -> Kafka:
    given = {"mechanism": "SCRAM-SHA-512", "username": 'ada "b', **where}
    return Kafka(bootstrap_servers="localhost:1", security=Security.model_validate({"protocol": "SASL_SSL", **given}))


def test_both_clients_read_the_same_password_or_refuse_it(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    contents = [text.encode() for text in ODD] + [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"a\xe2\x82"]
    contents += ["".join(chance.choices([*ODD, *"abc"], k=chance.randint(1, 6))).encode() for _ in range(300)]
    clusters = []
    for number, content in enumerate(contents):
        (tmp_path / f"{number}").write_bytes(content)
        clusters.append(login(password_file=f"{tmp_path}/{number}"))
    found = java_makes(clusters)
    for content, cluster, (verdict, *parts) in zip(contents, clusters, found, strict=True):
        try:
            expected = for_librdkafka(cluster)
        except SurecountError:
            assert verdict == "refused", content
            assert "security.password_file" in parts[0]
        else:
            assert (verdict, *parts) == ("made", expected["sasl.username"], expected["sasl.password"]), content
    assert 50 < sum(verdict == "made" for verdict, *_ in found) < 300, "of both kinds"


def test_secrets_are_where_variables_say(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file\n")
    clusters = [
        login(password_file="${SECRETS}/password"),
        login(password_env="KAFKA_PASSWORD"),
        login(password_file="${NONE}/password"),
        login(password_env="NONE"),
        login(password_file=f"{tmp_path}/none"),
    ]
    found = java_makes(clusters, SECRETS=str(tmp_path), KAFKA_PASSWORD="a \"b\\c${d}';")
    assert [parts[-1] for parts in found[:2]] == ["from a file", "a \"b\\c${d}';"]
    assert [parts[1] for parts in found[2:]] == [
        "security.password_file: ${NONE}/password: the environment variable NONE is not set",
        "security.password_env: the environment variable NONE is not set",
        f"security.password_file: {tmp_path}/none cannot be read on this machine: NoSuchFileException",
    ]


def test_the_java_client_takes_the_certificates_and_keys_that_check_lets_through(pem: Path) -> None:
    def tls(**files: str) -> Kafka:
        paths = {name: f"{pem}/{file}" for name, file in files.items()}
        return Kafka(bootstrap_servers="localhost:1", security=Security.model_validate({"protocol": "SSL", **paths}))

    taken = [
        tls(ca_file="one.pem"),
        tls(cert_file="one.pem", key_file="one.key"),
        tls(ca_file="two.pem", cert_file="ec.pem", key_file="ec.key"),
    ]
    refused = ["pkcs1.key", "sec1.key", "encrypted.key", "old-encrypted.key", "ed25519.key", "both.key", "broken.key"]
    not_taken = [tls(cert_file="one.pem", key_file=name) for name in refused] + [tls(ca_file="empty")]
    found = java_makes([*taken, *not_taken])
    assert [verdict for verdict, *_ in found] == ["made"] * len(taken) + ["refused"] * len(not_taken)
    for cluster in taken:
        for_librdkafka(cluster)
