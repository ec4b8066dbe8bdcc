"""Starts that are refused, each in the situation itself, and what goes wrong without a word where nothing refuses."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from surecount import topics
from surecount.errors import SurecountError
from surecount.local.stack import Stack
from surecount.ops import restore
from surecount.waiting import wait_until
from tests.conftest import Running
from tests.lives import JOBS, changed, drain, life_of, read_up_to, results, send, start_bounded

PIPELINE = """
[source]
topics = ["NAME.in", "NAME.more"]
event_time = { field = "ts", unit = "ms" }
# Flink drops the last watermark of a source that is idle when it is drained.
idle_after = "10 min"

[[aggregate]]
name = "same"
key = ["customer"]
window = "1 min"

[[aggregate]]
name = "other_sum"
key = ["customer"]
sum = ["amount"]
window = "1 min"

[[aggregate]]
name = "other_key"
key = ["customer"]
window = "1 min"

[[aggregate]]
name = "gone"
key = ["customer"]
window = "1 min"

[checkpoint]
interval = "1 s"
"""
CHANGES = (
    (', "NAME.more"', ""),
    ("[checkpoint]", '[topics]\nresults = "NAME.elsewhere"\n\n[state]\nbuckets = 8\n\n[checkpoint]'),
    ('sum = ["amount"]', 'sum = [{ field = "amount", type = "decimal", scale = 2 }]'),
    ('"other_key"\nkey = ["customer"]', '"other_key"\nkey = ["country"]'),
)


def test_state_that_was_made_otherwise(make: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(PIPELINE, partitions=1)
    whole, name = run.file.read_text(), run.pipeline.name
    now = int(time.time() * 1000) // 60_000 * 60_000
    life_of(run).start(JOBS)
    send(run, 10, now, keys=5)
    send(run, 10, now, keys=5, topic="more")
    read_up_to(run, 10)
    read_up_to(run, 10, topic="more")
    life_of(run).stop(JOBS)
    without = changed(run, whole.replace('[[aggregate]]\nname = "gone"\nkey = ["customer"]\nwindow = "1 min"\n', ""))
    life_of(without).start(JOBS)
    send(run, 10, now, keys=5)
    read_up_to(run, 20)
    life_of(without).stop(JOBS)
    send(run, 10, now, keys=5)
    send(run, 10, now, keys=5, topic="more")
    run = changed(
        run, reduce(lambda text, change: text.replace(*(p.replace("NAME", name) for p in change)), CHANGES, whole)
    )
    with pytest.raises(SurecountError) as refused:
        life_of(run).start(JOBS)
    for said in (
        f"it reads {name}.more, from offset 10 of partition 0 on",
        f"it wrote its results to {name}.results, and topics.results is {name}.elsewhere",
        "its state is in 16 buckets",
        "aggregate 'other_sum' had sum",
        "aggregate 'other_key' had key",
        "aggregate 'gone' was there in run 1, and has ended",
    ):
        assert said in refused.value.message

    # What Flink would have gone on from without a word, but for a topic that the pipeline does not name.
    monkeypatch.setattr(restore, "check_restore", lambda *_, **__: None)
    kept = reduce(lambda text, change: text.replace(*(p.replace("NAME", name) for p in change)), CHANGES[1:], whole)
    run = changed(run, kept)
    topics.ensure_outputs(run.pipeline)
    job = life_of(run).start(JOBS)["aggregate"]
    read_up_to(run, 30)
    read_up_to(run, 20, topic="more")
    drain(run, job)
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in results(run):
        found[result["aggregate"]].append(result)
    # Whoever reads the results as before gets nothing any more.
    assert run.read(f"{name}.results") == []
    assert sum(result["count"] for result in found["same"]) == 30 + 20
    # Keys move to other buckets, and what they had stays where it was: a second result of the window.
    assert max(Counter(result["key"]["customer"] for result in found["same"]).values()) == 2
    # What were amounts are taken for hundredths.
    assert sum(Decimal(result["sum"]["amount"]) for result in found["other_sum"]) == Decimal("20.30")
    # Customers are taken for countries.
    counts = {result["key"]["country"]: result["count"] for result in found["other_key"]}
    assert counts == {"x": 20} | dict.fromkeys(("c0", "c1", "c2", "c3", "c4"), 6)
    # What came while the aggregate was away is missing in a window that looks whole.
    assert sum(result["count"] for result in found["gone"]) == 20 + 20


def test_another_topic_of_the_same_name(make: Callable[..., Running]) -> None:
    run = make(PIPELINE, partitions=1)
    life, source = life_of(run), f"{run.pipeline.name}.in"
    now = int(time.time() * 1000) // 60_000 * 60_000
    life.start(JOBS)
    send(run, 10, now)
    read_up_to(run, 10)
    life.stop(JOBS)
    admin = AdminClient(topics.client_config(run.pipeline.kafka))
    admin.delete_topics([source])[source].result(timeout=10)
    wait_until(lambda: source not in topics.Admin(run.pipeline.kafka).metadata().topics, 30, "the topic to be gone")
    topics.ensure_source(run.pipeline, 1)
    send(run, 25, now)
    with pytest.raises(SurecountError, match="what is before offset 10 of partition 0 was never read"):
        life.start(JOBS)

    # What would have been lost without a word: the offset is there, and 10 records are before it.
    job = life.start(JOBS, accepted=["topic_made_anew"])["aggregate"]
    read_up_to(run, 25)
    drain(run, job)
    assert {result["count"] for result in results(run)} == {10 + 15}


INGEST = """
[source]
event_time = { field = "ts", unit = "ms" }
event_id = "customer"

[[source.pathway]]
name = "near"
topics = ["NAME.in"]

[[source.pathway]]
name = "far"
topics = ["NAME.far"]
bootstrap_servers = "FAR"

[[aggregate]]
name = "a"
key = ["country"]
window = "1 min"

[checkpoint]
interval = "1 s"
"""


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Stack]:
    """Another cluster, of Kafka only."""
    stack = Stack(tmp_path / "far", is_owned=True)
    stack.up(flink=False, kafka_port=0)
    try:
        yield stack
    finally:
        stack.down(purge=True)


@contextmanager
def away(stack: Stack) -> Iterator[None]:
    """Its broker answers nobody."""
    broker = stack.processes()["kafka-1"]
    os.kill(broker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker, signal.SIGCONT)


def test_ids_of_other_fields_other_ends_and_a_pathway_that_is_away(
    make: Callable[..., Running], far: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(INGEST.replace("FAR", far.bootstrap_servers), partitions=1)
    whole, name = run.file.read_text(), run.pipeline.name
    now = int(time.time() * 1000)
    elsewhere = run.pipeline.kafka_of(run.pipeline.pathways[1])
    jobs = ("relay.far", "ingest")
    life_of(run).start(jobs)
    send(run, 5, now, keys=5)
    read_up_to(run, 5, job="ingest")
    send(run, 10, now, keys=5, topic="far", kafka=elsewhere)
    read_up_to(run, 10, job="relay.far", topic="far", kafka=elsewhere)
    life_of(run).stop(jobs)
    send(run, 10, now, keys=10, topic="far", kafka=elsewhere)
    admin = AdminClient(topics.client_config(elsewhere))
    for deleted in admin.delete_records([TopicPartition(f"{name}.far", 0, 18)]).values():
        assert deleted.result(timeout=10).low_watermark == 18

    # A pathway that is away is its own trouble: the other jobs go on.
    monkeypatch.setattr(topics, "TIMEOUT_S", 2.0)
    with away(far):
        with pytest.raises(SurecountError, match=r"does not answer(?s:.*)--accept unchecked(?s:.*)ingest was started"):
            life_of(run).start(jobs)
        assert list(life_of(run).running(jobs)) == ["ingest"]
        life_of(run).start(jobs, accepted=["unchecked"])
    # It finds that 8 records are deleted, which came while it was away, and does not pass over them.
    flink, relay = run.flink, life_of(run).running(jobs)["relay.far"].id
    wait_until(lambda: "out of range" in flink.cause(relay), 60, "a relay that fails", seen=lambda: flink.cause(relay))
    flink.cancel(relay)
    wait_until(lambda: flink.state(relay) == "CANCELED", 60, "the relay to end")
    life_of(run).start(["relay.far"], accepted=["records_gone"])
    read_up_to(run, 20, job="relay.far", topic="far", kafka=elsewhere)
    life_of(run).stop(["relay.far"])
    assert len(run.read(f"{name}.pathway.far")) == 10 + 2
    # Of c0 to c9, only c8 and c9 are left of what had not come before.
    wait_until(lambda: len(run.read(run.pipeline.topics.clean)) == 5 + 2, 60, "all that is not lost in the clean topic")
    life_of(run).stop(["ingest"])

    run = changed(
        run, whole.replace('event_id = "customer"', 'event_id = "country"') + "[state]\nmax_parallelism = 64\n"
    )
    with pytest.raises(SurecountError) as refused:
        start_bounded(run, "ingest")
    for said in (
        "its ids are of 'customer', and source.event_id is 'country'",
        "it is of a run without end, and --bounded would never end",
        "max parallelism 128",
    ):
        assert said in refused.value.message
    monkeypatch.setattr(restore, "check_restore", lambda *_, **__: None)
    run = changed(run, whole.replace('event_id = "customer"', 'event_id = "country"'))
    start_bounded(run, "ingest")
    # It goes on to read what comes after its start; and of 10 events that had all come before, one is taken for new.
    send(run, 10, now, keys=5)
    read_up_to(run, 15, job="ingest")
    assert len(run.read(run.pipeline.topics.clean)) == 7 + 1
