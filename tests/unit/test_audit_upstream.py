"""Relays and ingest over topics in memory: right runs balance, and every mutation of them is caught."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from confluent_kafka import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from surecount.audit.cut import Cut
from surecount.audit.pacing import Place
from surecount.audit.report import Flow, Report
from surecount.audit.upstream import Upstream
from surecount.config import Pipeline, parse
from tests.unit.test_audit_recount import MINUTE, T0, MemoryReader, Topics, dump

AGGREGATE = [{"name": "by_who", "key": ["who"], "window": "1 min"}]
SOURCE: dict[str, Any] = {
    "event_time": {"field": "ts"},
    "horizon": "1 min",
    "pathway": [
        {"name": "web", "topics": ["a", "b"]},
        {"name": "eu", "topics": ["a"], "bootstrap_servers": "eu:9092"},
    ],
}
BY_ID: Pipeline = parse(
    {
        "name": "shop",
        "source": {**SOURCE, "event_id": ["who", {"field": "n", "type": "int"}]},
        "aggregate": AGGREGATE,
        "topics": {"duplicates": "twice"},
    },
    "test",
)
BY_ORIGIN: Pipeline = parse({"name": "shop", "source": SOURCE, "aggregate": AGGREGATE}, "test")
EU = BY_ID.pathways[1]
RELAY = "shop.pathway.eu"
INPUTS = [("a", 0), ("a", 1), ("b", 0), (RELAY, 0), (RELAY, 1)]
OUTPUTS = [("shop.clean", 0), ("shop.clean", 1), ("shop.rejects", 0), ("twice", 0)]
Headers = dict[str, Any]


@dataclass(frozen=True)
class Sent:
    """One record as it is sent, to the relayed pathway's topic on the other cluster where ``far``."""

    n: int = 0
    who: str = "ada"
    minute: int = 0
    place: Place = ("a", 0)
    far: bool = False
    bad: bool = False
    replayed: bool = False
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass
class World:
    """Both clusters."""

    pipeline: Pipeline = BY_ID
    main: Topics = field(default_factory=Topics)
    far: Topics = field(default_factory=Topics)

    def __post_init__(self) -> None:
        self.main.messages |= {place: [] for place in [*INPUTS, *OUTPUTS]}
        self.far.messages["a", 0] = []

    def ranges(self, topics: Topics, places: list[Place]) -> dict[Place, tuple[int, int]]:
        logs = {place: topics.messages[place] for place in places}
        return {place: (0, (log[-1].offset() or 0) + 1 if log else 0) for place, log in logs.items()}

    def upstream(self, seed: int) -> Upstream:
        clusters = {"localhost:9092": self.main, "eu:9092": self.far}
        return Upstream(
            self.pipeline,
            timeout_s=1,
            open_reader=lambda kafka, ranges: MemoryReader(clusters[kafka.bootstrap_servers], ranges, seed),
        )

    def ingest(self, seed: int = 0) -> Report:
        outputs = [place for place in OUTPUTS if place[0] != "twice" or self.pipeline.topics.duplicates]
        cut = Cut(self.ranges(self.main, INPUTS), self.ranges(self.main, outputs), quiet=True, notes=())
        return self.upstream(seed).ingest(cut)

    def relay(self, seed: int = 0) -> Report:
        copies = self.ranges(self.main, INPUTS[3:])
        return self.upstream(seed).relay(EU, Cut(self.ranges(self.far, [("a", 0)]), copies, quiet=True, notes=()))


def origin(pathway: str, topic: str, partition: int, offset: int) -> Headers:
    texts = {"pathway": pathway, "topic": topic, "partition": partition, "offset": offset}
    return {f"surecount.{name}": str(text).encode() for name, text in texts.items()}


def run(sent: list[Sent], pipeline: Pipeline = BY_ID, seed: int = 0) -> World:
    """A world in which relay and ingest have done all right; the order of arrival is random."""
    world, order = World(pipeline), random.Random(seed)
    arrivals: list[tuple[Sent, Message, Headers]] = []
    for one in sent:
        ts = T0 + one.minute * MINUTE
        value = b"{" if one.bad else dump({"ts": ts, "who": one.who, "n": one.n})
        own = [*one.headers, *([("surecount.replayed", b"1")] if one.replayed else [])]
        more: dict[str, Any] = {"key": b"key", "headers": own, "timestamp": (1, ts + one.n)}
        if one.far:
            offset = world.far.put("a", value, **more)
            stated = origin("eu", "a", 0, offset)
            place: Place = (RELAY, order.randint(0, 1))
            more["headers"] = shuffled({**dict(own), "surecount.relayed": b"0 %d %d a" % (offset, ts // 1000)}, order)
        else:
            place = one.place
        offset = world.main.put(place[0], value, partition=place[1], **more)
        arrivals.append((one, world.main.messages[place][-1], stated if one.far else origin("web", *place, offset)))
    order.shuffle(arrivals)
    known: dict[object, int] = {}
    watermark = None
    for one, message, stated in arrivals:
        headers = {**dict(message.headers() or []), **stated}
        ts = T0 + one.minute * MINUTE
        known = {event: time for event, time in known.items() if watermark is None or time + MINUTE >= watermark}
        headers.pop("surecount.relayed", None)
        given = dict(message.headers() or [])
        event = (one.who, one.n) if pipeline.source.event_id else tuple({**stated, **given}[name] for name in stated)
        if one.bad or (watermark is not None and ts < watermark - MINUTE and not one.replayed):
            headers["surecount.reason"] = b"not_json" if one.bad else b"beyond_horizon"
            headers["surecount.timestamp"] = b"%d" % message.timestamp()[1]
            headers["surecount.job"] = b"shop.ingest"
            topic = "shop.rejects"
        else:
            topic = "twice" if event in known else "shop.clean"
            known.setdefault(event, ts)
            if watermark is not None:
                headers["surecount.watermark"] = b"%d" % watermark
            watermark = max(watermark or 0, ts - MINUTE // 2)
        if topic != "twice" or pipeline.topics.duplicates:
            partition = order.randint(0, 1) if topic == "shop.clean" else 0
            copy(world.main, message, topic, partition, headers=shuffled(headers, order))
    return world


def copy(topics: Topics, message: Message, topic: str, partition: int = 0, **changed: Any) -> None:
    parts = {"key": message.key(), "headers": message.headers(), "timestamp": message.timestamp()}
    topics.put(topic, message.value(), partition=partition, **{**parts, **changed})


def shuffled(headers: Headers, order: random.Random) -> list[tuple[str, bytes]]:
    """As Flink writes them: in no order, and none without a value."""
    written = [item for item in headers.items() if item[1] is not None]
    return order.sample(written, len(written))


OWN = st.lists(st.tuples(st.sampled_from(["x", "y"]), st.sampled_from([b"", b"1", None])), max_size=3).map(tuple)
SENT = st.builds(
    Sent,
    n=st.integers(0, 2),
    who=st.sampled_from(["ada", "bob\ud7ff"]),
    minute=st.integers(0, 5),
    place=st.sampled_from(INPUTS[:3]),
    far=st.booleans(),
    bad=st.integers(0, 5).map(lambda x: x == 0),
    replayed=st.integers(0, 9).map(lambda x: x == 0),
    headers=OWN,
)


@settings(max_examples=150)
@given(st.lists(SENT, max_size=30), st.sampled_from([BY_ID, BY_ORIGIN]), st.integers(0, 99))
def test_right_runs_balance(sent: list[Sent], pipeline: Pipeline, seed: int) -> None:
    world = run(sent, pipeline, seed)
    report = world.ingest(seed)
    assert report.balanced, report.differences
    assert report.ingest is not None
    far = sum(one.far for one in sent)
    assert [flow.raw_in for flow in report.ingest.pathways.values()] == [len(sent) - far, far]
    logs = {place: len(world.main.messages[place]) for place in OUTPUTS}
    total = report.ingest.total
    assert total.clean == logs["shop.clean", 0] + logs["shop.clean", 1]
    assert total.rejected == logs["shop.rejects", 0] == sum(report.rejected_by_reason.values())
    if pipeline is BY_ID:
        assert total.duplicates == logs["twice", 0]
    assert world.relay(seed).balanced


@settings(max_examples=100)
@given(st.lists(SENT, min_size=1, max_size=12), st.integers(0, 99), st.data())
def test_no_record_is_lost_or_doubled_unseen(sent: list[Sent], seed: int, data: st.DataObject) -> None:
    world = run([replace(one, replayed=False) for one in sent], seed=seed)
    place = data.draw(st.sampled_from([place for place in (*OUTPUTS, *INPUTS[3:]) if world.main.messages[place]]))
    offset = data.draw(st.integers(0, len(world.main.messages[place]) - 1))
    if data.draw(st.booleans()):
        world.main.remove(place, offset)
    else:
        copy(world.main, world.main.messages[place][offset], *place)
    report = world.relay(seed) if place[0] == RELAY else world.ingest(seed)
    assert report.difference_count == 1 and "@" in report.differences[0].where


SOME = [Sent(n, far=far, place=("b", 0), bad=n == 2, headers=(("x", b"1"),)) for n in range(3) for far in (False, True)]


def change(topic: str, **changed: Any) -> Callable[[World], None]:
    """Change the first record of a topic; a callable changes its headers."""

    def mutate(world: World) -> None:
        place = next(place for place, log in world.main.messages.items() if place[0] == topic and log)
        with_headers = dict(changed)
        if callable(headers := with_headers.get("headers")):
            given = dict(world.main.messages[place][0].headers() or [])
            with_headers["headers"] = list(headers(given).items())
        world.main.change(place, 0, **with_headers)

    return mutate


def stating(**texts: str) -> dict[str, Any]:
    return {"headers": lambda given: {**given, **{f"surecount.{name}": text.encode() for name, text in texts.items()}}}


def without(name: str) -> dict[str, Any]:
    return {"headers": lambda given: {other: value for other, value in given.items() if other != name}}


MUTATIONS: dict[str, tuple[str, Callable[[World], None]]] = {
    "another value": ("clean_changed", change("shop.clean", value=b"{}")),
    "another key": ("clean_changed", change("shop.clean", key=None)),
    "another timestamp": ("clean_changed", change("shop.clean", timestamp=(1, 1))),
    "a header less": ("clean_changed", change("shop.clean", **without("x"))),
    "another header": ("clean_changed", change("shop.clean", headers=lambda given: {**given, "x": b"2"})),
    "a header more": ("clean_changed", change("shop.clean", headers=lambda given: {**given, "y": b"1"})),
    "another offset": ("clean_unexpected", change("shop.clean", **stating(offset="99"))),
    "another pathway": ("clean_unexpected", change("shop.clean", **stating(pathway="other"))),
    "no origin": ("malformed", change("shop.clean", **without("surecount.topic"))),
    "a strange offset": ("malformed", change("shop.clean", **stating(offset="-1"))),
    "an offset beyond all": ("malformed", change("shop.clean", **stating(offset="9" * 25))),
    "a strange watermark": ("malformed", change("shop.clean", **stating(watermark="soon"))),
    "a duplicate's value": ("duplicate_changed", change("twice", value=b"{}")),
    "a duplicate's offset": ("duplicate_missing", change("twice", **stating(offset="99"))),
    "a reject's value": ("reject_changed", change("shop.rejects", value=b"")),
    "a reject's key": ("reject_changed", change("shop.rejects", key=b"")),
    "a reject's timestamp": ("reject_changed", change("shop.rejects", **stating(timestamp="7"))),
    "a reject's reason": ("reject_changed", change("shop.rejects", **stating(reason="empty"))),
    "a reject's job": ("reject_missing", change("shop.rejects", **stating(job="shop.aggregate"))),
    "a reject's topic": ("reject_unexpected", change("shop.rejects", **stating(topic="b2"))),
    "a copy without origin": ("malformed", change(RELAY, **without("surecount.relayed"))),
    "a copy with half an origin": ("malformed", change(RELAY, **stating(relayed="0 1"))),
    "a copy with an odd origin": ("malformed", change(RELAY, **stating(relayed="0 x 1 a"))),
}


@pytest.mark.parametrize("name", MUTATIONS)
@pytest.mark.parametrize("seed", range(3))
def test_every_mutation_is_caught(name: str, seed: int) -> None:
    kind, mutate = MUTATIONS[name]
    world = run(SOME, seed=seed)
    assert world.ingest(seed).balanced
    mutate(world)
    report = world.ingest(seed)
    assert not report.balanced
    assert kind in {difference.kind for difference in report.differences}, report.differences


@pytest.mark.parametrize(
    ("kind", "mutate"),
    [
        ("relay_changed", change(RELAY, value=b"{}")),
        ("relay_changed", change(RELAY, **without("x"))),
        ("relay_unexpected", change(RELAY, **stating(relayed="0 99 1 a"))),
        ("relay_unexpected", change(RELAY, **stating(relayed="0 0 1 b"))),
        ("malformed", change(RELAY, **without("surecount.relayed"))),
    ],
)
def test_a_relay_that_changes_records_is_caught(kind: str, mutate: Callable[[World], None]) -> None:
    world = run(SOME)
    mutate(world)
    assert kind in {difference.kind for difference in world.relay().differences}


def test_events_that_come_again_are_a_note() -> None:
    late = [Sent(0), Sent(1, minute=5), Sent(2, minute=5), Sent(0, minute=5, place=("b", 0))]
    reports = [run(late, seed=seed).ingest() for seed in range(20)]
    assert all(report.balanced for report in reports)
    assert any("1 events count once more" in note for report in reports for note in report.notes)


def test_a_replayed_record_without_id_is_the_one_that_it_states() -> None:
    again = Sent(place=("b", 0), replayed=True, headers=tuple(origin("web", "a", 0, 0).items()))
    report = run([Sent(), again], BY_ORIGIN).ingest()
    assert report.balanced and report.ingest is not None
    assert report.ingest.pathways["web"] == Flow(2, 1, 0, 1)


def test_progress_ends_at_its_total() -> None:
    world, seen = run(SOME), []
    upstream = world.upstream(0)
    upstream._on_progress = lambda done, total: seen.append((done, total))
    cut = Cut(world.ranges(world.main, INPUTS), world.ranges(world.main, OUTPUTS), quiet=True, notes=())
    upstream.ingest(cut)
    assert seen == sorted(seen) and seen[-1][0] == seen[-1][1] > 0
