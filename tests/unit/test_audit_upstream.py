"""Relays and ingest over topics in memory: right runs balance, and every mutation of them is caught."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from confluent_kafka import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from surecount.audit.contents import compared_key
from surecount.audit.cut import Cut
from surecount.audit.pacing import Place
from surecount.audit.report import Flow, Report
from surecount.audit.upstream import Upstream
from surecount.config import Pipeline, parse
from tests.examples import examples
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
RELAY, REPLAY = "shop.pathway.eu", "shop.replay"
INPUTS = [("a", 0), ("a", 1), ("b", 0), (REPLAY, 0), (RELAY, 0), (RELAY, 1)]
OUTPUTS = [("shop.clean", 0), ("shop.clean", 1), ("shop.rejects", 0), ("twice", 0)]
Headers = dict[str, Any]


@dataclass(frozen=True)
class Sent:
    """One record as it is sent, to the relayed pathway's topic on the other cluster where ``far``; by `rejects replay`
    where ``replayed``, the offset of topic "a", partition 0, that it was rejected at."""

    n: int = 0
    who: str = "ada"
    minute: int = 0
    place: Place = ("a", 0)
    far: bool = False
    bad: bool = False
    replayed: int | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    def is_at(self, place: Place) -> bool:
        """Whether it is sent to a partition of the pipeline's own cluster."""
        return self.place == place and not self.far and self.replayed is None

    def again(self, rejected: Mapping[int, Sent], number: int) -> Sent:
        """Where it is replayed, what was rejected at its offset, or else itself at an offset that no other one has."""
        if self.replayed is None:
            return self
        if self.replayed in rejected:
            return replace(rejected[self.replayed], replayed=self.replayed)
        return replace(self, replayed=100 + number, far=False)


@dataclass
class World:
    """Both clusters."""

    pipeline: Pipeline = BY_ID
    main: Topics = field(default_factory=Topics)
    far: Topics = field(default_factory=Topics)

    def __post_init__(self) -> None:
        self.main.messages |= {place: [] for place in [*INPUTS, *OUTPUTS]}
        self.far.messages["a", 0] = []

    def next_offset(self, place: Place) -> int:
        """The offset that the next record gets."""
        log = self.main.messages[place]
        return (log[-1].offset() or 0) + 1 if log else 0

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
        copies = self.ranges(self.main, INPUTS[4:])
        return self.upstream(seed).relay(EU, Cut(self.ranges(self.far, [("a", 0)]), copies, quiet=True, notes=()))


def origin(pathway: str, topic: str, partition: int, offset: int) -> Headers:
    texts = {"pathway": pathway, "topic": topic, "partition": partition, "offset": offset}
    return {f"surecount.{name}": str(text).encode() for name, text in texts.items()}


def aside(headers: Headers) -> Headers:
    """A producer's headers as jobs keep them."""
    return {
        f"producer.{name}" if re.match(r"(producer\.)*surecount\.", name) else name: headers[name] for name in headers
    }


def run(sent: list[Sent], pipeline: Pipeline = BY_ID, seed: int = 0) -> World:
    """A world in which relay and ingest have done all right; the order of arrival is random."""
    world, order = World(pipeline), random.Random(seed)
    arrivals: list[tuple[Sent, Message, Headers]] = []
    rejected = {offset: one for offset, one in enumerate(o for o in sent if o.is_at(("a", 0))) if one.bad}
    for one in (one.again(rejected, number) for number, one in enumerate(sent)):
        ts = T0 + one.minute * MINUTE
        value = b"{" if one.bad else dump({"ts": ts, "who": one.who, "n": one.n})
        own, stated = aside(dict(one.headers)), origin("web", *one.place, world.next_offset(one.place))
        more: dict[str, Any] = {"key": b"key", "headers": [*one.headers], "timestamp": (1, ts + one.n)}
        place = one.place
        if one.replayed is not None:
            place, stated = (REPLAY, 0), origin("web", "a", 0, one.replayed)
            own["surecount.replayed"] = b"0@0"
            headers = {**own, **stated, "surecount.timestamp": b"%d" % (ts + one.n)}
            more |= {"headers": shuffled(headers, order), "timestamp": (2, T0 + 99 * MINUTE)}
        elif one.far:
            offset = world.far.put("a", value, **more)
            place, stated = (RELAY, order.randint(0, 1)), origin("eu", "a", 0, offset)
            relayed = {"surecount.relayed": b"0 %d %d a" % (offset, ts // 1000)}
            more["headers"] = shuffled({**own, **relayed}, order)
        world.main.put(place[0], value, partition=place[1], **more)
        arrivals.append((one, world.main.messages[place][-1], {**own, **stated}))
    order.shuffle(arrivals)
    known: dict[object, int] = {}
    watermark = None
    for one, message, headers in arrivals:
        ts = T0 + one.minute * MINUTE
        known = {event: time for event, time in known.items() if watermark is None or time + MINUTE >= watermark}
        event = (one.who, one.n) if pipeline.source.event_id else tuple(headers[name] for name in origin("", "", 0, 0))
        is_beyond = watermark is not None and ts < watermark - MINUTE and one.replayed is None
        if one.bad or is_beyond:
            headers["surecount.reason"] = b"not_json" if one.bad else b"beyond_horizon"
            headers["surecount.timestamp"] = b"%d" % (ts + one.n)
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
            timestamp = (1, ts + one.n)
            copy(world.main, message, topic, partition, headers=shuffled(headers, order), timestamp=timestamp)
    return world


def copy(topics: Topics, message: Message, topic: str, partition: int = 0, **changed: Any) -> None:
    parts = {"key": message.key(), "headers": message.headers(), "timestamp": message.timestamp()}
    topics.put(topic, message.value(), partition=partition, **{**parts, **changed})


def shuffled(headers: Headers, order: random.Random) -> list[tuple[str, bytes]]:
    """As Flink writes them: in no order, and none without a value."""
    written = [item for item in headers.items() if item[1] is not None]
    return order.sample(written, len(written))


FORGED = ["surecount.offset", "surecount.replayed", "surecount.relayed", "surecount.watermark", "producer.surecount.x"]
OWN = st.lists(st.tuples(st.sampled_from(["x", "y", *FORGED]), st.sampled_from([b"", b"1", None])), max_size=3).map(
    tuple
)
SENT = st.builds(
    Sent,
    n=st.integers(0, 2),
    who=st.sampled_from(["ada", "bob\ud7ff"]),
    minute=st.integers(0, 5),
    place=st.sampled_from(INPUTS[:3]),
    far=st.booleans(),
    bad=st.integers(0, 5).map(lambda x: x == 0),
    replayed=st.integers(-40, 3).map(lambda x: x if x >= 0 else None),
    headers=OWN,
)


@settings(max_examples=examples(150))
@given(st.lists(SENT, max_size=30), st.sampled_from([BY_ID, BY_ORIGIN]), st.integers(0, 99))
def test_right_runs_balance(sent: list[Sent], pipeline: Pipeline, seed: int) -> None:
    world = run(sent, pipeline, seed)
    report = world.ingest(seed)
    assert report.balanced, report.differences
    assert report.ingest is not None
    far = sum(one.far and one.replayed is None for one in sent)
    assert [flow.raw_in for flow in report.ingest.pathways.values()] == [len(sent) - far, far]
    logs = {place: len(world.main.messages[place]) for place in OUTPUTS}
    total = report.ingest.total
    assert total.clean == logs["shop.clean", 0] + logs["shop.clean", 1]
    assert total.rejected == logs["shop.rejects", 0] == sum(report.rejected_by_reason.values())
    if pipeline is BY_ID:
        assert total.duplicates == logs["twice", 0]
    assert world.relay(seed).balanced


@settings(max_examples=examples(100))
@given(st.lists(SENT, min_size=1, max_size=12), st.integers(0, 99), st.data())
def test_no_record_is_lost_or_doubled_unseen(sent: list[Sent], seed: int, data: st.DataObject) -> None:
    world = run([replace(one, replayed=None) for one in sent], seed=seed)
    place = data.draw(st.sampled_from([place for place in (*OUTPUTS, *INPUTS[4:]) if world.main.messages[place]]))
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


def omitting(names: str) -> dict[str, Any]:
    """What the jobs write of a record that is too large for Kafka also without its value."""
    return {"key": None, "value": None} | {
        "headers": lambda given: {**without("x")["headers"](given), "surecount.omitted": names.encode()}
    }


@pytest.mark.parametrize("topic", ["shop.rejects", RELAY])
def test_what_an_output_says_that_it_omits_is_not_compared(topic: str) -> None:
    world = run(SOME)
    change(topic, **omitting("key, header x"))(world)
    reports = [world.ingest(), world.relay()]
    # Ingest finds no copy's value.
    assert [report.balanced for report in reports] == [topic == "shop.rejects", True]


def test_keys_are_compared_up_to_a_size_that_nothing_is_omitted_for() -> None:
    large, huge = b"k" * (32 << 20), b"k" * ((32 << 20) + 1)
    assert (compared_key(None), compared_key(b"")) == (None, b"")
    assert (compared_key(large), compared_key(huge)) == (large, None)


def test_events_that_come_again_are_a_note() -> None:
    late = [Sent(0), Sent(1, minute=5), Sent(2, minute=5), Sent(0, minute=5, place=("b", 0))]
    reports = [run(late, seed=seed).ingest() for seed in range(20)]
    assert all(report.balanced for report in reports)
    assert any("1 events count once more" in note for report in reports for note in report.notes)


def test_a_replayed_record_without_id_is_the_one_that_it_states() -> None:
    # As a replay that was sent twice would be.
    report = run([Sent(bad=True), Sent(replayed=0), Sent(replayed=0)], BY_ORIGIN).ingest()
    assert report.balanced and report.ingest is not None
    assert report.ingest.pathways["web"] == Flow(3, 0, 3, 0)
    world = run([Sent(replayed=7)], BY_ORIGIN)
    copy(world.main, world.main.messages[REPLAY, 0][0], REPLAY)
    report = world.ingest()
    assert report.ingest is not None and report.ingest.pathways["web"] == Flow(2, 1, 0, 1)


ORIGIN = tuple(origin("web", "a", 0, 0).items())


@pytest.mark.parametrize("pipeline", [BY_ID, BY_ORIGIN])
def test_headers_that_a_producer_forges_make_no_record_a_copy_of_another(pipeline: Pipeline) -> None:
    forged = [Sent(n, place=("b", 0), headers=(*ORIGIN, ("surecount.replayed", b"0@0"))) for n in range(1, 4)]
    world = run([Sent(), *forged], pipeline)
    report = world.ingest()
    assert report.balanced and report.ingest is not None
    assert report.ingest.pathways["web"] == Flow(4, 4, 0, 0)
    # As it was when they were believed: one of them was clean, and the others were taken for its copies.
    for partition in (0, 1):
        log = world.main.messages["shop.clean", partition]
        log[:] = [message for message in log if b'"n":1' in (message.value() or b"") or b'"n":0' in message.value()]
    assert {difference.kind for difference in world.ingest().differences} == {"clean_missing"}


def test_a_forged_mark_takes_no_record_out_of_the_books_of_a_relay() -> None:
    world = run([Sent(far=True, headers=(("surecount.replayed", b"0@0"),))])
    assert world.relay().balanced
    for log in (world.main.messages[RELAY, 0], world.main.messages[RELAY, 1]):
        log.clear()
    assert [difference.kind for difference in world.relay().differences] == ["relay_missing"]


@pytest.mark.parametrize("changed", [without("surecount.offset"), stating(timestamp="soon"), stating(timestamp="1e3")])
def test_a_record_of_the_replay_topic_says_where_and_when_it_was(changed: dict[str, Any]) -> None:
    world = run([Sent(replayed=7)])
    assert world.ingest().balanced
    change(REPLAY, **changed)(world)
    assert "malformed" in {difference.kind for difference in world.ingest().differences}


def test_a_record_of_the_replay_topic_without_a_timestamp_has_that_of_the_topic() -> None:
    world = run([Sent(replayed=7)])
    change(REPLAY, timestamp=(2, T0), **without("surecount.timestamp"))(world)
    assert world.ingest().balanced
    change(REPLAY, timestamp=(2, T0 + 1))(world)
    assert {difference.kind for difference in world.ingest().differences} == {"clean_changed"}


def test_a_clean_record_that_the_aggregate_job_gets_again_is_not_ingests() -> None:
    world = run([Sent()])
    [message] = [*world.main.messages["shop.clean", 0], *world.main.messages["shop.clean", 1]]
    headers = [*(message.headers() or []), ("surecount.returned", b"0@0")]
    copy(world.main, message, "shop.clean", headers=headers)
    assert world.ingest().balanced


def test_progress_ends_at_its_total() -> None:
    world, seen = run(SOME), []
    upstream = world.upstream(0)
    upstream._on_progress = lambda done, total: seen.append((done, total))
    cut = Cut(world.ranges(world.main, INPUTS), world.ranges(world.main, OUTPUTS), quiet=True, notes=())
    upstream.ingest(cut)
    assert seen == sorted(seen) and seen[-1][0] == seen[-1][1] > 0
