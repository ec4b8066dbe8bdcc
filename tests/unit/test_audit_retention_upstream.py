"""Relays and ingest where topics have lost their beginnings: no right run is blamed, and what is lost is found."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Message
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from surecount.audit.beginnings import Beginnings, Deleted
from surecount.audit.cut import Cut, Unread
from surecount.audit.ingest import IngestJudge, RawRecords
from surecount.audit.origins import Places
from surecount.audit.pacing import Place
from surecount.audit.reader import Ranges
from surecount.audit.report import Differences, Report
from surecount.audit.retention import Evidence, ReadBy
from surecount.audit.upstream import Upstream
from surecount.config import Kafka, Pipeline
from tests.examples import examples
from tests.unit.test_audit_recount import MINUTE, T0, MemoryReader, Topics
from tests.unit.test_audit_upstream import (
    BY_ID,
    BY_ORIGIN,
    EU,
    INPUTS,
    OUTPUTS,
    RELAY,
    REPLAY,
    SENT,
    Sent,
    World,
    copy,
    run,
)

KEPT_INPUTS = [place for place in INPUTS if place[0] != REPLAY]
"""But for the replay topic, which is kept for ever."""

NOW = T0 + 10 * MINUTE
"""When all has been read and written: after all event times."""


class Trimmed:
    """A world whose topics begin at ``begin``."""

    def __init__(self, world: World, begin: Mapping[Place, int], far_begin: int = 0, seed: int = 0) -> None:
        self.world, self.begin, self.far_begin, self.seed = world, begin, far_begin, seed
        for offset in range(len(world.main.messages["shop.rejects", 0])):
            world.main.change(("shop.rejects", 0), offset, timestamp=(2, NOW))

    def upstream(self) -> Upstream:
        clusters: dict[str, Topics] = {"localhost:9092": self.world.main, "eu:9092": self.world.far}

        def open_reader(kafka: Kafka, ranges: Ranges) -> MemoryReader:
            return MemoryReader(clusters[kafka.bootstrap_servers], ranges, self.seed)

        return Upstream(self.world.pipeline, (), Evidence(lambda: 0), timeout_s=1, open_reader=open_reader)

    def ranges(self, places: list[Place]) -> dict[Place, tuple[int, int]]:
        whole = self.world.ranges(self.world.main, places)
        return {place: (min(self.begin.get(place, 0), end), end) for place, (_, end) in whole.items()}

    def ingest(self, clean_read: Mapping[Place, ReadBy] | None = None) -> Report:
        outputs = [place for place in OUTPUTS if place[0] != "twice" or self.world.pipeline.topics.duplicates]
        cut = Cut(self.ranges(INPUTS), self.ranges(outputs), quiet=True, notes=(), at_ms=NOW)
        return self.upstream().ingest(cut, clean_read or {})

    def relay(self) -> Report:
        _, end = self.world.ranges(self.world.far, [("a", 0)])["a", 0]
        sources = {("a", 0): (min(self.far_begin, end), end)}
        return self.upstream().relay(EU, Cut(sources, self.ranges(INPUTS[4:]), quiet=True, notes=(), at_ms=NOW))


def trims(world: World, draw: random.Random, places: list[Place]) -> dict[Place, int]:
    return {p: draw.randint(0, len(world.main.messages[p])) for p in places if draw.random() < 0.6}


@settings(max_examples=examples(150))
@given(st.lists(SENT, min_size=1, max_size=30), st.sampled_from([BY_ID, BY_ORIGIN]), st.integers(0, 10**6))
def test_right_runs_are_never_blamed(sent: list[Sent], pipeline: Pipeline, seed: int) -> None:
    draw = random.Random(seed)
    world = run(sent, pipeline, seed)
    found = Trimmed(world, trims(world, draw, [*KEPT_INPUTS, *OUTPUTS]), draw.randint(0, 9), seed)
    for report in (found.ingest(), found.relay()):
        assert report.balanced, report.differences
        assert report.ingest is None or report.ingest.balanced, report.summary()


@settings(max_examples=examples(150))
@given(st.lists(SENT, min_size=2, max_size=20), st.integers(0, 10**6), st.booleans())
def test_with_all_outputs_there_what_is_left_is_compared_exactly(sent: list[Sent], seed: int, doubles: bool) -> None:
    """Whatever is deleted of raw topics: a lost output of a record that is left is found, and any that stands twice."""
    draw = random.Random(seed)
    world = run([replace(one, far=False, replayed=None) for one in sent], seed=seed)
    begin = trims(world, draw, INPUTS[:3])
    outputs = [
        (place, at)
        for place in OUTPUTS
        for at, message in enumerate(world.main.messages[place])
        if stated_offset(message) >= begin.get(stated(message), 0)
    ]
    assume(outputs)
    place, at = draw.choice(outputs)
    if doubles:
        copy(world.main, world.main.messages[place][at], *place)
    else:
        world.main.remove(place, at)
        for offset in range(at, len(world.main.messages[place])):
            world.main.change(place, offset)
    report = Trimmed(world, begin, 0, seed).ingest()
    assert report.difference_count == 1 and "@" in report.differences[0].where


def stated(message: Message) -> Place:
    headers: dict[str, Any] = dict(message.headers() or [])
    return headers["surecount.topic"].decode(), int(headers["surecount.partition"])


def stated_offset(message: Message) -> int:
    headers: dict[str, Any] = dict(message.headers() or [])
    return int(headers["surecount.offset"])


def test_a_duplicate_of_what_is_before_the_cut() -> None:
    """The first copy's raw record is deleted, and its clean record tells the second one for a duplicate."""
    worlds = [run([Sent(1), Sent(1), Sent(2)], seed=seed) for seed in range(8)]
    first_came_first = [
        any(stated_offset(message) == 0 for place in OUTPUTS[:2] for message in world.main.messages[place])
        for world in worlds
    ]
    assert any(first_came_first)
    for world in (world for world, is_first in zip(worlds, first_came_first, strict=True) if is_first):
        report = Trimmed(world, {("a", 0): 1}).ingest()
        assert report.balanced
        assert "2 raw in + 1 before the cut = 2 clean + 0 rejected + 1 duplicates" in report.summary()


def judged(deleted: Deleted, verdict: str | None, time: int) -> Differences:
    raw, differences = RawRecords(Places()), Differences()
    origin = raw.places.first("web", "a", 0)
    raw.add([origin], [1], [7], [verdict or (time, "x")], [time])
    judge = IngestJudge(raw, differences, horizon_ms=1, has_duplicates_topic=False, deleted=deleted)
    assert judge.close(["web"]).balanced == (differences.count == 0)
    return differences


@pytest.mark.parametrize(
    ("deleted", "verdict", "missing"),
    [
        (Deleted(clean=99), None, True),
        (Deleted(clean=100), None, False),
        (Deleted(rejects=100), None, False),  # it may be rejected as beyond the horizon
        (Deleted(rejects=99), "empty", True),
        (Deleted(rejects=100), "empty", False),
        (Deleted(clean=100), "empty", True),
    ],
)
def test_outputs_may_be_deleted_up_to_a_time(deleted: Deleted, verdict: str | None, missing: bool) -> None:
    assert judged(deleted, verdict, 100).count == missing


def test_results_tell_when_clean_records_were_there() -> None:
    """What came later than the clean topic's first record that is left has to be there."""
    sent = [Sent(n, minute=n, place=("a", 0)) for n in range(3)]
    world = run(sent, seed=1)
    logs = {place: len(world.main.messages[place]) for place in OUTPUTS[:2]}
    place = next(place for place, length in logs.items() if length)
    world.main.remove(place, logs[place] - 1)
    found = Trimmed(world, {place: 1})
    assert found.ingest().balanced
    early = {place: ReadBy(1, T0 - 10 * MINUTE)}
    assert [d.kind for d in found.ingest(early).differences] == ["clean_missing"] * (1 + (logs[place] > 1))
    # It tells of what was deleted then, and not of what is deleted since.
    assert found.ingest({place: ReadBy(0, T0 - 10 * MINUTE)}).balanced


def test_a_relays_source_that_was_deleted_unread() -> None:
    world = run([Sent(n, far=True) for n in range(3)])
    found = Trimmed(world, {})
    cut = Cut({("a", 0): (3, 3)}, found.ranges(INPUTS[3:]), quiet=True, notes=(), unread={("a", 0): Unread(1, 3, 5)})
    report = found.upstream().relay(EU, cut)
    assert [(d.kind, d.where) for d in report.differences] == [("deleted_unread", "a-0@1")]
    assert report.notes == ("relay of pathway eu: 3 copies are of records that are deleted",)


def test_copies_of_a_partition_in_several_others() -> None:
    """Each of them that has lost its beginning may have had any record before the first one that it has left."""
    places = Places()
    first, other = places.first("eu", "a", 0), places.first("eu", "a", 1)
    beginnings = Beginnings(places, {"eu": {0, 1}})
    for partition, origins in ((0, [first + 3, first + 5]), (1, [first + 4]), (2, [first + 9, other + 9])):
        beginnings.copies("eu", partition, np.array(origins, np.uint64))
    asked = np.array([first + 3, first + 4, other + 9, places.first("web", "a", 0)], np.uint64)
    assert beginnings.deleted(asked).tolist() == [True, False, True, False]


def test_a_relay_topic_that_lost_copies_still_finds_those_behind() -> None:
    world = run([Sent(n, far=True) for n in range(8)], seed=2)
    place = next(place for place in INPUTS[3:] if len(world.main.messages[place]) > 3)
    assert place[0] == RELAY
    found = Trimmed(world, {place: 1})
    assert found.relay().balanced
    world.main.remove(place, 2)
    assert [d.kind for d in found.relay().differences] == ["relay_missing"]


def test_a_replay_of_what_is_deleted_leaves_its_reject_to_be() -> None:
    """The raw record is deleted; its reject and the clean record of its replay have one origin."""
    world = run([Sent(1, replayed=0)])
    [clean] = world.main.messages["shop.clean", 0] + world.main.messages["shop.clean", 1]
    headers = {"surecount.reason": b"beyond_horizon", "surecount.timestamp": b"%d" % clean.timestamp()[1]}
    rejected = {**dict(clean.headers() or []), **headers, "surecount.job": b"shop.ingest"}
    copy(world.main, clean, "shop.rejects", headers=[*rejected.items()])
    there = Trimmed(world, {})
    assert [difference.kind for difference in there.ingest().differences] == ["reject_unexpected"]
    for _ in range(101):
        world.main.put("a", b"deleted")
    report = Trimmed(world, {("a", 0): 101}).ingest()
    assert report.balanced, report.summary()
