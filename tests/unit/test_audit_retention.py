"""Topics that have lost their beginnings: an audit never cries wolf at a job that was right, and still finds what is
lost or doubled in what can be recounted; what was deleted unread is named."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from confluent_kafka import Message
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from surecount.audit.cut import Cut, Unread
from surecount.audit.epochs import Epoch
from surecount.audit.limits import timestamps_ahead_ms
from surecount.audit.pacing import Place
from surecount.audit.recount import Recount
from surecount.audit.report import Report
from surecount.audit.retention import CLOCKS_MS, Evidence, Moment, judge_unread
from surecount.config import Pipeline, parse
from tests.examples import examples
from tests.unit.test_audit_recount import MINUTE, T0, MemoryReader, Topics, dump, rfc3339

CONTENT: dict[str, Any] = {
    "name": "shop",
    "source": {"topics": ["in"], "event_time": {"field": "ts"}, "out_of_orderness": "0 s", "max_ahead": "1 min"},
    "aggregate": [
        {"name": "by_who", "key": ["who"], "sum": ["n"], "window": "1 min"},
        {"name": "long", "key": ["who"], "window": "3 min"},
    ],
    "topics": {"results": "results", "corrections": "corrections", "rejects": "rejects"},
}
PIPELINE: Pipeline = parse(CONTENT, "test")
SIZES = {"by_who": MINUTE, "long": 3 * MINUTE}
AHEAD_MS = 2 * MINUTE
"""The topic lets Kafka's timestamps be one minute ahead, and ``max_ahead`` is one more."""

LOGS = [("in", 0), ("in", 1), ("results", 0), ("results", 1), ("corrections", 0), ("rejects", 0), ("rejects", 1)]
Window = tuple[str, str, int]


@dataclass
class World:
    """What a right job made of its input, as it went on: ``topics`` stamps outputs with the time of their append."""

    topics: Topics = field(default_factory=Topics)
    now_ms: int = T0
    # Of each input record by partition and offset: its windows, none of a reject.
    windows: dict[Place, list[list[Window]]] = field(default_factory=lambda: {("in", 0): [], ("in", 1): []})
    written: dict[Window, int] = field(default_factory=dict)
    """When the last output of each window was appended."""
    moments: list[Moment] = field(default_factory=list)
    begin: Counter[Place] = field(default_factory=Counter)

    def write(self, topic: str, window: Window, count: int, n: int, late_by_ms: int | None = None) -> None:
        name, who, start = window
        identity = {"aggregate": name, "key": {"who": who}, "start": rfc3339(start)}
        value: dict[str, Any] = {**identity, "end": rfc3339(start + SIZES[name]), "count": count}
        value["sum"] = {"n": n} if name == "by_who" else {}
        if late_by_ms is not None:
            value["late_by_ms"] = late_by_ms
        partition = zlib.crc32(dump(identity)) % 2 if topic == "results" else 0
        self.topics.put(topic, dump(value), dump(identity), partition, timestamp=(2, self.now_ms))
        self.written[window] = self.now_ms

    def ends(self) -> dict[Place, int]:
        logs = self.topics.messages
        return {place: (logs[place][-1].offset() or 0) + 1 if logs[place] else 0 for place in LOGS}

    def cut(self) -> Cut:
        ranges = {place: (min(self.begin[place], end), end) for place, end in self.ends().items()}
        sources = {place: ranges.pop(place) for place in LOGS[:2]}
        return Cut(sources, ranges, quiet=True, notes=(), at_ms=self.now_ms)

    def audit(self, seed: int = 0, *, ahead_ms: int | None = AHEAD_MS) -> Report:
        def open_reader(ranges: Any) -> MemoryReader:
            return MemoryReader(self.topics, ranges, seed)

        evidence = Evidence(lambda: ahead_ms, self.moments)
        return Recount(PIPELINE, (), evidence, timeout_s=1, open_reader=open_reader).report(self.cut(), bounded=False)

    def is_left(self, place: Place, offset: int) -> bool:
        return offset >= self.begin[place]

    def counted(self, window: Window) -> tuple[int, int]:
        """How many of a window's records are left, and how many are deleted."""
        left = gone = 0
        for place, records in self.windows.items():
            for offset, windows in enumerate(records):
                left += window in windows and self.is_left(place, offset)
                gone += window in windows and not self.is_left(place, offset)
        return left, gone

    def input_reach(self) -> int:
        """Later than any deleted record: nothing was ahead by more than ``AHEAD_MS`` of the time at which a record that
        is left had been counted, by the last output that is left of its window, and of any key of that."""
        outputs: dict[tuple[str, str], int] = {}
        for place in LOGS[2:5]:
            for message in self.topics.messages[place]:
                if self.is_left(place, message.offset() or 0):
                    value = orjson.loads(message.value() or b"")
                    window = value["aggregate"], value["start"]
                    outputs[window] = max(message.timestamp()[1], outputs.get(window, 0))
        times = []
        for place, records in self.windows.items():
            if self.begin[place]:
                left = {(name, rfc3339(start)) for of in records[self.begin[place] :] for name, _, start in of}
                times.append(min((outputs[window] for window in left & outputs.keys()), default=1 << 62))
        return max(*times, self.outputs_since()) + AHEAD_MS + 2 * CLOCKS_MS if times else 0

    def outputs_since(self) -> int:
        """When all deleted results and corrections were there; 0 where none is deleted."""
        times = [0]
        for place in LOGS[2:5]:
            log = [m for m in self.topics.messages[place] if self.is_left(place, m.offset() or 0)]
            if self.begin[place]:
                times.append(log[0].timestamp()[1] if log else self.now_ms)
        return max(times)

    def outputs_reach(self) -> int:
        """Later than the end of any window that has lost an output."""
        since = self.outputs_since()
        return since + AHEAD_MS + 2 * CLOCKS_MS if since else 0


def ran(seed: int, records: int = 80) -> World:
    """A job that was right: records early and late, in two partitions, some of them bad, with a snapshot now and
    then."""
    draw, world = random.Random(seed), World()
    for place in LOGS:
        world.topics.messages[place] = []
    open_windows: dict[Window, list[int]] = {}
    watermark = 0
    for _ in range(records):
        world.now_ms += draw.randint(0, 40_000)
        event = world.now_ms + draw.choice([0, 0, -20_000, -200_000, draw.randint(-900_000, AHEAD_MS)])
        partition, who, n = draw.randint(0, 1), draw.choice("ab"), draw.randint(0, 3)
        place = ("in", partition)
        # Kafka's timestamp: at most a minute ahead of the append, and no more than a minute behind the event.
        stamp = min(event, world.now_ms + MINUTE)
        if draw.random() < 0.1:
            offset = world.topics.put("in", b"{", partition=partition, timestamp=(1, stamp))
            world.windows[place].append([])
            stated = {"topic": "in", "partition": partition, "offset": offset, "reason": "not_json", "timestamp": stamp}
            headers = [(f"surecount.{name}", str(text).encode()) for name, text in stated.items()]
            where = draw.randint(0, 1)
            world.topics.put("rejects", b"{", partition=where, headers=headers, timestamp=(2, world.now_ms))
            continue
        value = dump({"ts": event, "who": who, "n": n})
        world.topics.put("in", value, partition=partition, timestamp=(1, stamp))
        windows = [(name, who, event - event % size) for name, size in SIZES.items()]
        world.windows[place].append(windows)
        for window in windows:
            if (end := window[2] + SIZES[window[0]]) <= watermark:
                world.write("corrections", window, 1, n, watermark - end)
            else:
                open_windows.setdefault(window, []).append(n)
        watermark = max(watermark, event - draw.choice([0, 30_000]))
        for window in sorted(open_windows, key=lambda w: w[2] + SIZES[w[0]]):
            if window[2] + SIZES[window[0]] <= watermark:
                parts = open_windows.pop(window)
                world.write("results", window, len(parts), sum(parts))
        if draw.random() < 0.05:
            read = {p: len(log) for p, log in world.topics.messages.items() if p[0] == "in"}
            world.moments.append(Moment(world.now_ms, read))
    return world


def trim(world: World, draw: random.Random, most: float) -> None:
    """Delete the beginnings of some partitions, each by itself."""
    for place, end in world.ends().items():
        if draw.random() < 0.6:
            world.begin[place] = draw.randint(0, int(end * most))


@settings(max_examples=examples(150))
@given(st.integers(0, 10**9), st.booleans())
def test_a_right_job_is_never_blamed_for_what_is_deleted(seed: int, with_ledger: bool) -> None:
    draw = random.Random(seed)
    world = ran(seed)
    if not with_ledger:
        world.moments = []
    assert world.audit(seed).balanced
    trim(world, draw, draw.choice([0.3, 0.7, 1.0]))
    for ahead_ms in (AHEAD_MS, None):
        report = world.audit(seed, ahead_ms=ahead_ms)
        assert report.balanced, report.summary()
    for books in report.books:
        assert books.records_in == sum(end - begin for begin, end in world.cut().sources.values())


@settings(max_examples=examples(150))
@example(1972, "one more")
@given(st.integers(0, 10**9), st.sampled_from(["lost", "one more", "one less", "sum", "doubled"]))
def test_what_is_wrong_in_what_can_be_recounted_is_found(seed: int, what: str) -> None:
    draw = random.Random(seed)
    world = ran(seed)
    trim(world, draw, 0.3)
    chosen = [
        (place, message)
        for place in LOGS[2:4]
        for message in world.topics.messages[place][:-1]
        if world.is_left(place, message.offset() or 0)
        and can_be_told(world, orjson.loads(message.value() or b""), what)
    ]
    assume(chosen)
    place, message = draw.choice(chosen)
    index = world.topics.messages[place].index(message)
    value = orjson.loads(message.value() or b"")
    if what == "lost":
        world.topics.remove(place, index)
    elif what == "doubled":
        world.topics.put("results", message.value(), message.key(), place[1], timestamp=(2, world.now_ms))
    else:
        value["count"] += {"one more": 1, "one less": -1, "sum": 0}[what]
        value["sum"] = {name: total + 1 for name, total in value["sum"].items()} if what == "sum" else value["sum"]
        world.topics.messages[place][index] = changed(message, dump(value))
    report = world.audit(seed)
    assert not report.balanced
    named = {(d.aggregate, (d.key or {}).get("who"), d.start) for d in report.differences}
    assert (value["aggregate"], value["key"]["who"], value["start"]) in named


def changed(message: Message, value: bytes) -> Message:
    """The same record with another value."""
    stands = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
    return Message(**stands, key=message.key(), value=value, timestamp=message.timestamp())


def can_be_told(world: World, value: dict[str, Any], what: str) -> bool:
    """Whether a fault of a result can be told from what is deleted."""
    if what == "doubled":
        return True
    name, who = value["aggregate"], value["key"]["who"]
    start = next(w[2] for w in world.written if (w[0], w[1], rfc3339(w[2])) == (name, who, value["start"]))
    end = start + SIZES[name]
    left, gone = world.counted((name, who, start))
    later = any(w[0] == name and w[2] > start for w in world.written if w != (name, who, start))
    exact_outputs = end > world.outputs_reach()
    if what == "lost":
        # Whatever is deleted of the input: outputs have less than what is left of it.
        return later and left > 0 and exact_outputs and value["count"] > gone
    if what == "sum":
        return gone == 0 and name == "by_who" and exact_outputs
    if what == "one less" and value["count"] == 1:
        return False
    exact_input = start > world.input_reach()
    return (exact_input or what == "one less") and gone == 0 and exact_outputs


def test_the_account_of_what_is_deleted() -> None:
    """45 of 100 records are deleted after they were counted."""
    world, first = World(), T0 + MINUTE
    assert first % SIZES["long"] == 0
    for place in LOGS:
        world.topics.messages[place] = []
    for i in range(100):
        world.now_ms = first + i * 6_000
        world.topics.put("in", dump({"ts": world.now_ms, "who": "a", "n": 1}), timestamp=(1, world.now_ms))
        if i % 10 == 9:
            world.now_ms += 6_000
            world.write("results", ("by_who", "a", first + i // 10 * MINUTE), 10, 10)
        if i % 30 == 29:
            world.write("results", ("long", "a", first + i // 30 * 3 * MINUTE), 30, 30)
    world.begin["in", 0] = 45
    report = world.audit()
    assert report.balanced, report.summary()
    by_who, long = report.books
    assert (by_who.records_in, by_who.results, by_who.before_cut, by_who.open) == (55, 100, 45, 0)
    assert by_who.equation().startswith("55 records in + 45 before the cut = 100 in results")
    assert str(by_who.before_cut_windows) == f"5 windows that start up to {rfc3339(first + 4 * MINUTE)}"
    assert by_who.sums["before_cut"] == {"n": 45}
    assert by_who.to_dict()["before_cut_windows"] == {"windows": 5, "latest": rfc3339(first + 4 * MINUTE)}
    assert (long.before_cut, long.open) == (45, 10)
    assert report.notes == ()
    # Three more are deleted, which the job had skipped.
    for _ in range(3):
        world.topics.put("in", b"{", partition=1)
    world.begin["in", 1] = 3
    assert world.audit().notes[0].startswith("3 of the 48 deleted offsets are in no output")
    world.begin["in", 1] = 0
    world.topics.messages["in", 1] = []
    # No more can be missing than was deleted.
    place = next(p for p in LOGS[2:4] if b"by_who" in (world.topics.messages[p][0].value() or b""))
    value = orjson.loads(world.topics.messages[place][0].value() or b"")
    value["count"] += 1
    world.topics.messages[place][0] = changed(world.topics.messages[place][0], dump(value))
    report = world.audit()
    assert [d.kind for d in report.differences] == ["doubled"]
    assert "46 records more than the input, of which 45 are deleted" in report.summary()


def test_results_that_are_deleted_are_not_missing() -> None:
    world = ran(7)
    world.begin["results", 0] = world.begin["results", 1] = 3
    report = world.audit()
    assert report.balanced and any(books.outputs_deleted for books in report.books)
    assert all("in deleted outputs" in b.equation() for b in report.books if b.outputs_deleted)


def test_an_epoch_that_is_all_before_the_cut() -> None:
    """Results of an aggregate that has ended outlive its records."""
    world = ran(3)
    world.begin["in", 0], world.begin["in", 1] = (world.ends()["in", p] for p in (0, 1))
    only = parse({**CONTENT, "aggregate": [{"name": "new", "key": ["who"], "window": "1 min"}]}, "test")
    epochs = [Epoch(PIPELINE), Epoch(only, {("in", 0): world.begin["in", 0], ("in", 1): world.begin["in", 1]})]
    recount = Recount(
        only, epochs, Evidence(lambda: AHEAD_MS), timeout_s=1, open_reader=lambda r: MemoryReader(world.topics, r, 0)
    )
    report = recount.report(world.cut(), bounded=False)
    assert report.balanced, report.summary()
    assert [books.before_cut > 0 for books in report.books] == [True, True, False]


LIMIT = "message.timestamp.after.max.ms"


@pytest.mark.parametrize(
    ("settings_", "most"),
    [
        ([{LIMIT: "3600000"}, {LIMIT: "60000"}], 3_600_000),
        ([{LIMIT: "3600000"}, {LIMIT: str((1 << 63) - 1)}], None),
        ([{}], None),
        ([{LIMIT: "9", "message.timestamp.difference.max.ms": "7"}], 7),
        ([{LIMIT: str((1 << 63) - 1), "message.timestamp.type": "LogAppendTime"}], 0),
    ],
)
def test_how_far_timestamps_may_be_ahead(settings_: list[dict[str, str]], most: int | None) -> None:
    assert timestamps_ahead_ms(settings_) == most


IN = ("in", 0)


@pytest.mark.parametrize(
    ("unread", "sources", "records", "lost"),
    [
        # Anything may have stood there, unless transactions end so.
        (Unread(55, 80, 20), {IN: (80, 80), ("in", 1): (0, 9)}, {"in": 9}, True),
        (Unread(55, 56, 20), {IN: (80, 80), ("in", 1): (0, 9)}, {"in": 9}, True),
        (Unread(55, 56, 0), {IN: (56, 56), ("in", 1): (0, 9)}, {"in": 9}, True),
        (Unread(55, 56, 0), {IN: (56, 56), ("in", 1): (0, 9)}, {"in": 8}, False),
        (Unread(55, 80, 0), {IN: (80, 80), ("in", 1): (0, 9)}, {"in": 8}, True),
        (Unread(55, 56, 0), {IN: (56, 56)}, {}, False),
        (Unread(55, 57, 0), {IN: (57, 57)}, {}, True),
        (Unread(55, 57, 9), {IN: (57, 57), ("in", 1): (0, 9)}, {"in": 8}, True),
    ],
)
def test_what_was_deleted_unread_is_named(unread: Unread, sources: Any, records: Any, lost: bool) -> None:
    differences, notes = judge_unread({IN: unread}, sources, records, own=())
    assert (len(differences), len(notes)) == ((1, 0) if lost else (0, 1))
    told = differences[0].detail + differences[0].where if lost else notes[0]
    last = f" to {unread.end - 1}" if unread.end - unread.begin > 1 else ""
    assert f"{unread.begin}{last}" in told and "in-0@55" in told


def test_what_our_jobs_write_ends_with_markers() -> None:
    assert judge_unread({IN: Unread(5, 7, 0)}, {IN: (7, 7)}, {}, own=["in"])[0] == []
