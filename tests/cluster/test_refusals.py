"""Starts that are refused, each in the situation itself, and what goes wrong without a word where nothing refuses."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from decimal import Decimal
from functools import reduce
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from surecount import topics
from surecount.errors import SurecountError
from surecount.ops import restore
from surecount.waiting import wait_until
from tests.conftest import Running
from tests.lives import JOBS, changed, drain, life_of, read_up_to, results, send

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

    # What Flink would have gone on from without a word.
    monkeypatch.setattr(restore, "check_restore", lambda *_, **__: None)
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
    # What comes to the topic that the pipeline does not name is counted: 20 more than there are by that.
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
