"""Starts that are refused, each in the situation itself, and what goes wrong without a word where nothing refuses."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from surecount import topics
from surecount.errors import SurecountError
from surecount.ops import restore
from surecount.waiting import wait_until
from tests.conftest import Running
from tests.lives import JOBS, changed, drain, end, life_of, read_up_to, results, send

PIPELINE = """
[source]
topics = ["NAME.in"]
event_time = { field = "ts", unit = "ms" }
# Flink drops the last watermark of a source that is idle when it is drained.
idle_after = "10 min"

[[aggregate]]
name = "a"
key = ["customer"]
sum = ["amount"]
window = "1 min"

[checkpoint]
interval = "1 s"
"""


Unrefused = Callable[[Running, str], list[dict[str, Any]]]


@pytest.fixture
def unrefused(monkeypatch: pytest.MonkeyPatch) -> Unrefused:
    """Go on from a snapshot as Flink would, whatever stands against it, up to the source's end; all results then."""

    def go(run: Running, snapshot: str) -> list[dict[str, Any]]:
        with monkeypatch.context() as patched:
            patched.setattr(restore, "check_restore", lambda *_, **__: None)
            job = life_of(run).start(JOBS, snapshot=snapshot)["aggregate"]
        read_up_to(run, end(run))
        drain(run, job)
        return results(run)

    return go


def test_state_that_was_made_otherwise(make: Callable[..., Running], unrefused: Unrefused) -> None:
    run = make(PIPELINE, partitions=1)
    life, text = life_of(run), run.file.read_text()
    now = int(time.time() * 1000) // 60_000 * 60_000
    life.start(JOBS)
    send(run, 10, now, keys=5)
    read_up_to(run, 10)
    base = life.stop(JOBS)["aggregate"]

    def refused(why: str, text: str, results_to: str) -> list[dict[str, Any]]:
        """What is in the results where nothing refuses."""
        send(run, 10, now, keys=5)
        with pytest.raises(SurecountError, match=why):
            life_of(changed(run, text)).start(JOBS, snapshot=base)
        elsewhere = changed(run, f'{text}\n[topics]\nresults = "{run.pipeline.name}.{results_to}"\n')
        topics.ensure_outputs(elsewhere.pipeline)
        return unrefused(elsewhere, base)

    # Keys move to other buckets, and what they had stays: a second result of the window.
    found = refused("its state is in 16 buckets", f"{text}[state]\nbuckets = 8\n", "buckets")
    assert max(Counter(result["key"]["customer"] for result in found).values()) == 2

    # What was an amount is taken for hundredths.
    decimal = '{ field = "amount", type = "decimal", scale = 2 }'
    found = refused("'a' had sum", text.replace('"amount"', decimal), "sum")
    assert {(result["count"], result["sum"]["amount"]) for result in found} == {(6, "4.02")}

    # Customers are taken for countries.
    found = refused("'a' had key", text.replace('key = ["customer"]', 'key = ["country"]'), "key")
    counts = {result["key"]["country"]: result["count"] for result in found}
    assert counts == {"x": 30} | dict.fromkeys(("c0", "c1", "c2", "c3", "c4"), 2)


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
    assert [result["count"] for result in results(run)] == [10 + 15]
