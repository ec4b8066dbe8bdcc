"""A start from a snapshot whose transactions the brokers have aborted is refused, since what they held is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests
from confluent_kafka import Producer

from surecount import topics
from surecount.audit import audit
from surecount.errors import SurecountError
from surecount.ops.life import Life
from surecount.ops.transactions import transactions
from surecount.waiting import wait_until
from tests.conftest import Running
from tests.lives import read_up_to

# No checkpoint but those that are asked for; a broker looks for transactions that are too old every 10 s.
PIPELINE = """
[source]
topics = ["NAME.in"]
event_time = { field = "ts", unit = "ms" }

[[aggregate]]
name = "a"
key = ["who"]
window = "1 min"

[checkpoint]
interval = "1 h"

[sink]
transaction_timeout = "10 s"
"""
BAD = 5


def test_what_an_aborted_transaction_held_is_not_lost_without_a_word(make: Callable[..., Running]) -> None:
    run = make(PIPELINE, partitions=1)
    life = Life(run.pipeline, run.file, run.flink, run.stack.flink_env())
    job = life.start(["aggregate"])["aggregate"]
    producer = Producer(topics.client_config(run.pipeline.kafka))
    for _ in range(BAD):
        producer.produce(f"{run.pipeline.name}.in", b"no JSON", partition=0)
    producer.flush()

    def read() -> int:
        return max(life.snapshots("aggregate").newest.offsets.values(), default=0)

    wait_until(lambda: life.savepoint(["aggregate"]) and read() == BAD, 60, "a savepoint behind the records", seen=read)
    run.flink.cancel(job)
    wait_until(lambda: run.flink.state(job) == "CANCELED", 60, "the job to end")
    newest = life.snapshots("aggregate").newest
    assert newest is not None
    ids = {transactional_id for transactional_id, _, _ in newest.committables}
    assert ids

    def states() -> set[str]:
        prefix = run.pipeline.transactional_id_prefix("aggregate", "")
        told = transactions(run.pipeline.kafka, run.stack.flink_env(), [prefix])
        return {transaction.state for transaction in told if transaction.id in ids}

    wait_until(lambda: states() == {"CompleteAbort"}, 90, "the brokers to abort them", 1, seen=states)
    with pytest.raises(SurecountError, match=r"transactions that have outlived sink\.transaction_timeout"):
        life.start(["aggregate"])

    # What would have been lost without a word.
    job = life.start(["aggregate"], accepted=["transactions_gone"])["aggregate"]
    assert life.ledger("aggregate").runs()[-1].accepted == ("transactions_gone",)
    # A source commits its offsets with a checkpoint; with that of the stop it may end before Kafka has answered.
    url = f"{run.flink.url}/jobs/{job}/checkpoints"
    requests.post(url, json={"checkpointType": "CONFIGURED"}, timeout=10).raise_for_status()
    read_up_to(run, BAD)
    life.stop(["aggregate"])
    assert run.read(run.pipeline.topics.rejects) == []
    report = audit(run.pipeline)
    assert [difference.kind for difference in report.differences] == ["reject_missing"] * BAD
