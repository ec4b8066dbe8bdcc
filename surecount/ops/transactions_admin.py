"""What only Kafka's Java admin client can ask: the one that the connector's jar carries.

Run as a process, ``python -m surecount.ops.transactions_admin``, with the environment of Flink's command line: takes
one line with JSON, the client's properties, prefixes of transactional ids and such ids, and answers with one.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pyflink.java_gateway import get_gateway

from surecount.ops.transactions import ENDED

_TIMEOUTS = {"request.timeout.ms": "10000", "default.api.timeout.ms": "20000"}


def main() -> None:
    """Answer one question."""
    question = json.loads(sys.stdin.readline())
    jvm = get_gateway().jvm
    properties = jvm.java.util.Properties()
    for name, value in {**_TIMEOUTS, **question["properties"]}.items():
        properties.setProperty(name, value)
    try:
        admin = jvm.org.apache.flink.kafka.shaded.org.apache.kafka.clients.admin.AdminClient.create(properties)
        try:
            answer = {
                "transactions": _transactions(admin, question["prefixes"]),
                "features": _features(admin),
                "hidden": _hidden(admin, question["about"]),
            }
        finally:
            admin.close()
    except Exception as error:  # noqa: BLE001  # whatever Java throws, the caller names the cluster
        answer = {"error": _cause(error)}
    sys.stdout.write(json.dumps(answer) + "\n")


def _transactions(admin: Any, prefixes: list[str]) -> list[dict[str, Any]]:
    listed = admin.listTransactions().all().get().toArray()
    wanted = [
        listing.transactionalId()
        for listing in listed
        if listing.state().toString() not in ENDED or listing.transactionalId().startswith(tuple(prefixes))
    ]
    told = admin.describeTransactions(wanted)
    found = [_described(told, transactional_id) for transactional_id in sorted(wanted)]
    return [row for row in found if row is not None]


def _described(told: Any, transactional_id: str) -> dict[str, Any] | None:
    try:
        description = told.description(transactional_id).get()
    except Exception as error:
        if "TransactionalIdNotFound" in str(getattr(error, "java_exception", error)):
            return None  # it expired since it was listed
        raise
    started = description.transactionStartTimeMs()
    return {
        "id": transactional_id,
        "state": description.state().toString(),
        "producer_id": description.producerId(),
        "epoch": description.producerEpoch(),
        "started_ms": started.getAsLong() if started.isPresent() else None,
        "timeout_ms": description.transactionTimeoutMs(),
        "places": sorted((place.topic(), place.partition()) for place in description.topicPartitions().toArray()),
    }


def _hidden(admin: Any, ids: list[str]) -> list[str]:
    """Those of the ids, whether there are such or not, that this user may not see."""
    told = admin.describeTransactions(ids)
    return [one for one in ids if "TransactionalIdAuthorization" in _failure(told.description(one))]


def _failure(future: Any) -> str:
    try:
        future.get()
    except Exception as error:  # noqa: BLE001  # whatever Java throws
        return str(getattr(error, "java_exception", error))
    return ""


def _features(admin: Any) -> dict[str, int]:
    finalized = admin.describeFeatures().featureMetadata().get().finalizedFeatures()
    return {str(entry.getKey()): entry.getValue().maxVersionLevel() for entry in finalized.entrySet().toArray()}


def _cause(error: Exception) -> str:
    """The innermost cause, in Java's words."""
    cause = getattr(error, "java_exception", None)
    if cause is None:
        return f"{type(error).__name__}: {error}"
    while cause.getCause() is not None:
        cause = cause.getCause()
    return str(cause.toString())


if __name__ == "__main__":
    main()
