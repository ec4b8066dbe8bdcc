"""Savepoints of earlier releases are restored, and counted on from."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from surecount import topics
from surecount.local.stack import Stack
from surecount.ops.life import Life
from surecount.waiting import wait_until
from tests.savepoints import records
from tests.savepoints.make import HERE, JOBS, count, produce, running

MINUTE = 60_000
VERSIONS = sorted(folder.name for folder in HERE.iterdir() if folder.name.isdigit())


def totals(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Count and exact sums, as results write them."""
    return {
        "count": len(events),
        "sum": {
            "amount": sum(event["amount"] for event in events),
            "tax": f"{sum((Decimal(event['tax']) for event in events), Decimal()):.2f}",
            "weight": float(sum((Fraction(event["weight"]) for event in events), Fraction())),
        },
    }


def added(one: dict[str, Any] | None, other: dict[str, Any]) -> dict[str, Any]:
    """Two outputs of one window together."""
    if one is None:
        return other
    sums, more = one["sum"], other["sum"]
    return {
        "count": one["count"] + other["count"],
        "sum": {
            "amount": sums["amount"] + more["amount"],
            "tax": str(Decimal(sums["tax"]) + Decimal(more["tax"])),
            "weight": sums["weight"] + more["weight"],
        },
    }


def by_window(events: list[dict[str, Any]]) -> dict[tuple[int, str, int], list[dict[str, Any]]]:
    """Events by minute, and key."""
    found = defaultdict(list)
    for event in events:
        found[(event["ts"] - records.T0) // MINUTE, event["who"], event["shard"]].append(event)
    return found


@pytest.mark.usefixtures("no_jobs_left")
@pytest.mark.parametrize("version", VERSIONS)
def test_a_savepoint_of_an_earlier_release_is_counted_on_from(version: str, stack: Stack, tmp_path: Path) -> None:
    shutil.copytree(HERE / version, stack.savepoints_dir, dirs_exist_ok=True)
    run = running(stack, tmp_path)
    topics.ensure_source(run.pipeline, 1)
    topics.ensure_outputs(run.pipeline)
    life = Life(run.pipeline, run.file, run.flink, stack.flink_env())
    for job in JOBS:
        newest = life.snapshots(job).newest
        assert newest is not None
        for (topic, partition), offset in newest.offsets.items():
            produce(run, [b"read before"] * offset, topic, partition)
    life.start(JOBS)
    new = [record for record in records.after() if int(record["id"].split()[1]) >= records.READ]
    # The last two close all windows before them: a clean record says how far ingest was when its batch came.
    expected, clean = offset_of_clean(life), count(run, "kept.clean")
    for events in (records.after(), *([event] for event in records.closing())):
        produce(run, [records.encode(event) for event in events])
        expected += len(new) if len(events) > 1 else 1
        wait_until(lambda end=expected: clean() == end, 120, f"{expected} clean records", 1, seen=clean)
    events = records.before() + new
    late = [event for event in new if event["ts"] < records.T0 + MINUTE]
    open_then = {window: totals(group) for window, group in by_window(events).items() if window[0] > 0}
    people = Counter(event["who"] for event in events)
    results = count(run, "kept.results")
    wait_until(lambda: results() == len(open_then) + len(people), 120, "all results", 1, seen=results)
    assert len(run.read("kept.duplicates")) == records.READ - records.KNOWN
    assert run.read("kept.rejects") == []

    found: dict[str, dict[Any, Any]] = {"results": {}, "corrections": {}, "counts": {}}
    for topic in ("results", "corrections"):
        for message in run.read(f"kept.{topic}"):
            value = json.loads(message.value())
            key, content = value["key"], {"count": value["count"], "sum": value["sum"]}
            if value["aggregate"] == "counts":
                found["counts"][key["who"]] = value["count"]
            else:
                minute = (int(value["start"][14:16]) - 15) % 60
                window = (minute, key["who"], key["shard"])
                assert topic == "corrections" or window not in found[topic]
                found[topic][window] = added(found[topic].get(window), content)
    assert found["counts"] == people
    assert found["results"] == open_then
    # Several corrections of a window are added up, and each one's float is rounded.
    corrected = {window: totals(group) for window, group in by_window(late).items()}
    weights = {window: content["sum"].pop("weight") for window, content in found["corrections"].items()}
    assert weights == pytest.approx({window: content["sum"].pop("weight") for window, content in corrected.items()})
    assert found["corrections"] == corrected


def offset_of_clean(life: Life) -> int:
    """Where the aggregate job went on in the clean topic: what stands before it is filler."""
    snapshot = life.ledger("aggregate").runs()[-1].offsets
    return snapshot[0][2]
