"""Transactions on a cluster's brokers. Only Kafka's Java client can ask for them, so a JVM does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from surecount.config import Kafka
from surecount.errors import SurecountError
from surecount.kafka.security import for_java
from surecount.ops.snapshots import Place

ENDED = ("Empty", "CompleteCommit", "CompleteAbort")
"""States in which a transactional id has no open transaction."""

_TIMEOUT_S = 60


@dataclass(frozen=True)
class Transaction:
    """A transactional id, and its transaction as its coordinator tells of it.

    ``state`` is Kafka's name for it, such as Ongoing; ``started_ms`` is in ms since 1970, None where none is open;
    ``timeout_ms`` is how long the broker lets one be open before it aborts it; ``places`` are the partitions that it
    wrote to.
    """

    id: str
    state: str
    producer_id: int
    epoch: int
    started_ms: int | None
    timeout_ms: int
    places: tuple[Place, ...]

    @property
    def open(self) -> bool:
        """Whether it holds readers of committed records back."""
        return self.state not in ENDED

    def age_ms(self, now_ms: int) -> int:
        """How long it has been open; 0 where it is not."""
        return 0 if self.started_ms is None else max(0, now_ms - self.started_ms)


@dataclass(frozen=True)
class Told:
    """What a cluster tells the Java client: transactions, its finalized feature levels by name, and which of the
    transactional ids that were asked about it hides from this user."""

    transactions: tuple[Transaction, ...]
    features: Mapping[str, int]
    hidden: tuple[str, ...] = ()


def transactions(kafka: Kafka, environment: Mapping[str, str], prefixes: Collection[str] = ()) -> list[Transaction]:
    """All open transactions of a cluster, and every transactional id, open or not, that begins with a prefix.

    ``environment`` is that of Flink's command line, which has the connector's jar in its lib folder. The JVM takes
    some seconds to start. Brokers forget an id that was not used for ``transactional.id.expiration.ms`` (7 days).
    Raises SurecountError with Kafka's own reason.
    """
    return list(ask(kafka, environment, prefixes).transactions)


def ask(
    kafka: Kafka, environment: Mapping[str, str], prefixes: Collection[str] = (), about: Collection[str] = ()
) -> Told:
    """The same, and what else the brokers tell only the Java client; ``about`` are ids that may be hidden."""
    command = [sys.executable, "-m", "surecount.ops.transactions_admin"]
    question = json.dumps({"properties": for_java(kafka), "prefixes": list(prefixes), "about": list(about)})
    try:
        done = subprocess.run(
            command, env=dict(environment), input=question, capture_output=True, text=True, check=False,
            timeout=_TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise SurecountError(f"{kafka.bootstrap_servers} told no transactions within {_TIMEOUT_S} s") from error
    if done.returncode != 0:
        raise SurecountError(f"Kafka's Java client cannot be run:\n{done.stderr[-2000:]}")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise SurecountError(f"transactions at {kafka.bootstrap_servers} cannot be listed: {answer['error']}")
    found = tuple(
        Transaction(**{**row, "places": tuple((topic, number) for topic, number in row["places"])})
        for row in answer["transactions"]
    )
    return Told(found, answer["features"], tuple(answer["hidden"]))
