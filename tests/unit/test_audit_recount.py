"""The whole audit over topics in memory: right outputs balance, and every mutation of them is caught."""

from __future__ import annotations

import json
import random
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, Self

import orjson
import pytest
from confluent_kafka import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from surecount.audit.cut import Cut
from surecount.audit.epochs import Epoch
from surecount.audit.pacing import Place, Run
from surecount.audit.reader import Ranges
from surecount.audit.recount import Recount
from surecount.audit.report import Report
from surecount.config import Pipeline, parse
from tests.examples import examples

T0 = 1_790_000_040_000  # starts a minute
MINUTE = 60_000

CONTENT: dict[str, Any] = {
    "name": "shop",
    "source": {"topics": ["in"], "event_time": {"field": "ts"}, "out_of_orderness": "0 s"},
    "aggregate": [
        {"name": "by_who", "key": ["who"], "sum": ["n"], "window": "1 min"},
        {
            "name": "by_all",
            "key": ["who", {"field": "shard", "type": "int"}],
            "sum": [
                {"field": "price", "type": "decimal", "scale": 2},
                {"field": "weight", "type": "float"},
            ],
            "window": "2 min",
        },
    ],
    "topics": {"results": "results", "corrections": "corrections", "rejects": "rejects"},
}
PIPELINE: Pipeline = parse(CONTENT, "test")


@dataclass
class Topics:
    """Topics in memory: messages by partition, in the order of their offsets."""

    messages: dict[Place, list[Message]] = field(default_factory=lambda: defaultdict(list))

    def put(self, topic: str, value: bytes | None, key: bytes | None = None, partition: int = 0, **more: Any) -> int:
        log = self.messages[topic, partition]
        more.setdefault("timestamp", (1, T0))
        log.append(Message(topic=topic, partition=partition, offset=len(log), key=key, value=value, **more))
        return len(log) - 1

    def change(self, place: Place, offset: int, **changed: Any) -> None:
        """Replace one message, keeping what is not ``changed``."""
        old = self.messages[place][offset]
        parts = {
            "key": old.key(),
            "value": old.value(),
            "headers": old.headers(),
            "timestamp": old.timestamp(),
        }
        self.messages[place][offset] = Message(
            topic=place[0], partition=place[1], offset=offset, **{**parts, **changed}
        )

    def remove(self, place: Place, offset: int) -> None:
        """Take one message out; those behind keep their offsets, as behind an aborted transaction."""
        del self.messages[place][offset]

    def cut(self) -> Cut:
        ranges = {place: (0, (log[-1].offset() or 0) + 1 if log else 0) for place, log in self.messages.items()}
        return Cut(
            {place: r for place, r in ranges.items() if place[0] == "in"},
            {place: r for place, r in ranges.items() if place[0] != "in"},
            quiet=True,
            notes=(),
        )

    def audit(self, *, bounded: bool = False, seed: int = 0) -> Report:
        recount = Recount(PIPELINE, timeout_s=1, open_reader=lambda ranges: MemoryReader(self, ranges, seed))
        return recount.report(self.cut(), bounded=bounded)


class MemoryReader:
    """Reads runs of random length from partitions in random order; a seed fixes both."""

    def __init__(self, topics: Topics, ranges: Ranges, seed: int) -> None:
        self._random = random.Random(seed)
        self._left = {
            place: [m for m in topics.messages[place] if begin <= (m.offset() or 0) < end]
            for place, (begin, end) in ranges.items()
        }
        self._clocks: dict[Place, int] = {}
        self.offsets_read = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def done(self) -> bool:
        return not any(self._left.values())

    @property
    def clock(self) -> int | None:
        return min((c for place, c in self._clocks.items() if self._left[place]), default=None)

    def advance(self, place: Place, clock_ms: int) -> None:
        self._clocks[place] = clock_ms

    def poll(self) -> list[Run]:
        place = self._random.choice([place for place, left in self._left.items() if left])
        length = self._random.randint(1, 5)
        run, self._left[place] = self._left[place][:length], self._left[place][length:]
        self.offsets_read += len(run)
        return [Run(place, run)]


@dataclass(frozen=True)
class Event:
    """An input record; ``late`` ones are for corrections, ``bad`` ones for rejects."""

    minute: int
    who: str = "ada"
    shard: int = 1
    n: int = 1
    cents: int = 125
    weight: float = 0.1
    partition: int = 0
    late: bool = False
    bad: bool = False


def rfc3339(ms: int) -> str:
    minutes = (ms - 1_789_948_800_000) // MINUTE  # 2026-09-21
    return f"2026-09-21T{minutes // 60:02}:{minutes % 60:02}:00Z"


def outputs_of(events: list[Event], *, through: int) -> Topics:
    """The input, and what a right job writes that has closed all windows up to minute ``through``."""
    topics = Topics()
    for topic, partitions in {"in": 2, "results": 2, "corrections": 1, "rejects": 1}.items():
        for partition in range(partitions):
            topics.messages[topic, partition] = []
    windows: dict[bool, dict[tuple[int, str, tuple[Any, ...]], list[Event]]] = {
        False: defaultdict(list),
        True: defaultdict(list),
    }
    for event in events:
        ts = T0 + event.minute * MINUTE + 1
        if event.bad:
            key, value = b"\x00key", b"no JSON %d" % event.n
            offset = topics.put("in", value, key, event.partition)
            headers = {
                "topic": "in",
                "partition": event.partition,
                "offset": offset,
                "reason": "not_json",
                "timestamp": T0,
            }
            named = [(f"surecount.{name}", str(text).encode()) for name, text in headers.items()]
            topics.put("rejects", value, key, headers=[("own", b"\xff"), *named])
            continue
        record = {"ts": ts, "who": event.who, "shard": event.shard, "n": event.n, "weight": event.weight}
        value = dump({**record, "price": f"{Decimal(event.cents) / 100}"})
        topics.put("in", value, partition=event.partition, timestamp=(1, ts))
        for name, size, key in (
            ("by_who", 1, (event.who,)),
            ("by_all", 2, (event.who, event.shard)),
        ):
            start = (T0 // MINUTE + event.minute) // size * size * MINUTE
            windows[event.late][start, name, key].append(event)
    for late, groups in windows.items():
        for (start, name, key), group in sorted(groups.items()):
            size = MINUTE if name == "by_who" else 2 * MINUTE
            if start + size > T0 + through * MINUTE:
                assert not late
                continue
            names = ("who", "shard")[: len(key)]
            identity = {"aggregate": name, "key": dict(zip(names, key, strict=True)), "start": rfc3339(start)}
            if name == "by_who":
                sums: dict[str, Any] = {"n": sum(e.n for e in group)}
            else:
                weight = float(sum((Fraction(e.weight) for e in group), Fraction()))
                sums = {"price": f"{Decimal(sum(e.cents for e in group)) / 100:.2f}", "weight": weight}
            value = {**identity, "end": rfc3339(start + size), "count": len(group), "sum": sums}
            if late:
                topics.put("corrections", dump({**value, "late_by_ms": 5}), dump(identity))
            else:
                topics.put("results", dump(value), dump(identity), partition=zlib.crc32(dump(identity)) % 2)
    return topics


def dump(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


EVENTS = st.lists(
    st.builds(
        Event,
        minute=st.integers(0, 5),
        who=st.sampled_from(["ada", "bob", 'ç"\\\n']),
        shard=st.integers(-1, 1),
        n=st.integers(-(10**38) + 1, 10**38 - 1) | st.integers(0, 3),
        cents=st.integers(-500, 500),
        weight=st.floats(-1e6, 1e6) | st.sampled_from([0.1, 0.2, 1e16]),
        partition=st.integers(0, 1),
        late=st.booleans(),
        bad=st.integers(0, 9).map(lambda x: x == 0),
    ).map(lambda event: replace(event, late=event.late and event.minute < 2)),
    max_size=40,
)


@settings(max_examples=examples(200))
@given(EVENTS, st.sampled_from([2, 4, 6]), st.integers(0, 99))
def test_right_outputs_balance(events: list[Event], through: int, seed: int) -> None:
    report = outputs_of(events, through=through).audit(seed=seed)
    assert report.balanced, report.summary()
    closed = any(not e.bad and e.minute < through for e in events)
    for books in report.books:
        size = 1 if books.aggregate == "by_who" else 2
        # Without a result or a correction nothing says what is closed.
        assert books.open <= sum(not e.bad for e in events)
        if closed and size == 1:
            last = max((e.minute for e in events if not e.bad and e.minute < through), default=-1)
            assert books.open == sum(not e.bad and e.minute > last for e in events)
        assert books.records_in == len(events)


@settings(max_examples=examples(50))
@given(EVENTS, st.integers(0, 99))
def test_bounded_leaves_nothing_open(events: list[Event], seed: int) -> None:
    assert outputs_of(events, through=6).audit(bounded=True, seed=seed).balanced
    short = outputs_of(events, through=2).audit(bounded=True, seed=seed)
    assert short.balanced == all(e.bad or e.minute < 2 for e in events)


SOME = [
    Event(minute, who, shard=shard, n=n, partition=n % 2, bad=n == 4, late=n == 5 and minute < 2)
    for minute in range(6)
    for n, (who, shard) in enumerate([("ada", 1), ("bob", 1), ("ada", 1), ("bob", 2), ("x", 0), ("ada", 1)])
]


def edit(topics: Topics, topic: str, change: Callable[[dict[str, Any]], object], index: int = 0) -> None:
    """Change the value of an output of by_who, and its key with it."""
    place = next(p for p, log in topics.messages.items() if p[0] == topic and log)
    offset = [i for i, m in enumerate(topics.messages[place]) if b"by_who" in (m.value() or b"")][index]
    value = orjson.loads(topics.messages[place][offset].value() or b"")
    change(value)
    identity = {name: value.get(name) for name in ("aggregate", "key", "start")}
    topics.change(place, offset, key=dump(identity), value=dump(value))


def first_result(topics: Topics) -> Place:
    return next(place for place, log in topics.messages.items() if place[0] == "results" and log)


def doubled(topics: Topics) -> None:
    place = first_result(topics)
    again = topics.messages[place][-1]
    topics.put("results", again.value(), again.key(), place[1])


def reordered(topics: Topics) -> None:
    place = first_result(topics)
    log = topics.messages[place]
    keys = [orjson.loads(m.key() or b"") for m in log]
    first, second = next(
        (i, j)
        for i in range(len(log))
        for j in range(i + 1, len(log))
        if (keys[i]["aggregate"], keys[i]["key"]) == (keys[j]["aggregate"], keys[j]["key"])
    )
    one, other = log[first], log[second]
    topics.change(place, first, key=other.key(), value=other.value())
    topics.change(place, second, key=one.key(), value=one.value())


def early_result(topics: Topics) -> None:
    """A window of minute 5 is written, with a part of its records, while it is open."""
    identity = {"aggregate": "by_who", "key": {"who": "ada"}, "start": rfc3339(T0 + 5 * MINUTE)}
    value = {**identity, "end": rfc3339(T0 + 6 * MINUTE), "count": 1, "sum": {"n": 0}}
    topics.put("results", dump(value), dump(identity))


def header(topics: Topics, name: str, value: bytes | None) -> None:
    headers = [(n, v) for n, v in topics.messages["rejects", 0][0].headers() or [] if n != f"surecount.{name}"]
    topics.change(("rejects", 0), 0, headers=headers + ([(f"surecount.{name}", value)] if value is not None else []))


def give_up(topics: Topics, reason: bytes, value: bytes) -> str:
    """Have the first reject be of a record with this value, and given up by the job; its origin."""
    header(topics, "reason", reason)
    said = dict(topics.messages["rejects", 0][0].headers() or [])
    place, offset = ("in", int(said["surecount.partition"])), int(said["surecount.offset"])
    topics.change(place, offset, value=value)
    topics.change(("rejects", 0), 0, value=value)
    return f"in-{place[1]}@{offset}"


COUNTABLE = dump({"ts": T0, "who": "ada", "shard": 1, "n": 7, "weight": 1.5, "price": "1.25"})


@pytest.mark.parametrize("reason", [b"internal_error", b"decode_failed"])
@pytest.mark.parametrize(
    ("value", "verdict"), [(COUNTABLE, "can be counted"), (b"{", "is not_json"), (b"", "is empty")], ids=repr
)
def test_what_the_job_gave_up_is_in_the_books_and_named(reason: bytes, value: bytes, verdict: str) -> None:
    topics = outputs_of(SOME, through=4)
    before = topics.audit()
    origin = give_up(topics, reason, value)
    report = topics.audit()
    assert report.balanced, report.summary()
    [note] = report.notes
    assert note.startswith(f"1 records were rejected as {reason.decode()}") and f"{origin} ({verdict})" in note
    assert [(b.records_in, b.rejected) for b in report.books] == [(b.records_in, b.rejected) for b in before.books]
    assert report.rejected_by_reason[reason.decode()] == 1


@pytest.mark.parametrize(
    ("kind", "mutate"),
    [
        ("reject_missing", lambda t: t.remove(("rejects", 0), 0)),
        ("reject_unexpected", lambda t: header(t, "offset", b"99")),
        ("reject_unexpected", lambda t: t.put("rejects", COUNTABLE, headers=t.messages["rejects", 0][0].headers())),
        ("reject_unexpected", lambda t: t.change(("rejects", 0), 0, value=b"another")),
        ("reject_unexpected", lambda t: header(t, "reason", b"missing_field")),
    ],
)
def test_what_was_given_up_otherwise_is_a_difference(kind: str, mutate: Callable[[Topics], object]) -> None:
    topics = outputs_of(SOME, through=4)
    give_up(topics, b"internal_error", COUNTABLE)
    mutate(topics)
    report = topics.audit()
    assert not report.balanced
    # A record that is no reject has to count.
    kinds = {difference.kind for difference in report.differences}
    assert kinds & {kind, "uneven"}


MUTATIONS: dict[str, tuple[str, Callable[[Topics], object]]] = {
    "a lost result": ("uneven", lambda t: t.remove(first_result(t), 0)),
    "a doubled result": ("doubled", doubled),
    "results out of order": ("out_of_order", reordered),
    "an early result": ("uneven", early_result),
    "a count off by one": ("uneven", lambda t: edit(t, "results", lambda v: v.update(count=v["count"] + 1))),
    "a sum off by one": ("uneven", lambda t: edit(t, "results", lambda v: v["sum"].update(n=v["sum"]["n"] + 1))),
    "another key": ("uneven", lambda t: edit(t, "results", lambda v: v.update(key={"who": "eve"}))),
    "another window": (
        "uneven",
        lambda t: edit(t, "results", lambda v: v.update(start=rfc3339(T0 - MINUTE), end=rfc3339(T0))),
    ),
    "another aggregate": ("uneven", lambda t: edit(t, "results", lambda v: v.update(aggregate="other"))),
    "a missing correction": ("uneven", lambda t: t.remove(("corrections", 0), 0)),
    "a changed correction": ("uneven", lambda t: edit(t, "corrections", lambda v: v.update(count=9))),
    "a record counted in its place": ("uneven", lambda t: t.remove(("in", 0), 0)),
    "a window that ends elsewhere": ("malformed", lambda t: edit(t, "results", lambda v: v.update(end="x"))),
    "a result that is no JSON": ("malformed", lambda t: t.change(first_result(t), 0, value=b"{")),
    "a result without a value": ("malformed", lambda t: t.change(first_result(t), 0, value=None)),
    "a result with another key": ("malformed", lambda t: t.change(first_result(t), 0, key=b'{"a":1}')),
    "a missing reject": ("reject_missing", lambda t: t.remove(("rejects", 0), 0)),
    "a reject with another value": ("reject_changed", lambda t: t.change(("rejects", 0), 0, value=b"x")),
    "a reject with another key": ("reject_changed", lambda t: t.change(("rejects", 0), 0, key=None)),
    "a reject for another reason": ("reject_changed", lambda t: header(t, "reason", b"empty")),
    "a reject of another offset": ("reject_unexpected", lambda t: header(t, "offset", b"99")),
    "a reject of another topic": ("reject_unexpected", lambda t: header(t, "topic", b"other")),
    "a reject without its offset": ("malformed", lambda t: header(t, "offset", None)),
    "a reject with a strange offset": ("malformed", lambda t: header(t, "offset", b"-1")),
    "a reject that stands twice": (
        "reject_unexpected",
        lambda t: t.put("rejects", (m := t.messages["rejects", 0][0]).value(), m.key(), headers=m.headers()),
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
@pytest.mark.parametrize("seed", range(5))
def test_every_mutation_is_caught(name: str, seed: int) -> None:
    kind, mutate = MUTATIONS[name]
    topics = outputs_of(SOME, through=4)
    assert topics.audit(seed=seed).balanced
    mutate(topics)
    report = topics.audit(seed=seed)
    assert not report.balanced
    assert kind in {difference.kind for difference in report.differences}, report.summary()
    assert report.difference_count >= len(report.differences) >= 1
    assert "books do not balance" in report.summary()


def test_differences_name_what_was_expected_and_found() -> None:
    topics = outputs_of(SOME, through=4)
    edit(topics, "results", lambda value: value["sum"].update(n=1000))
    (difference,) = topics.audit().differences
    log = topics.messages[first_result(topics)]
    value = next(orjson.loads(m.value() or b"") for m in log if b"by_who" in (m.value() or b""))
    assert (difference.aggregate, difference.key, difference.start) == ("by_who", value["key"], value["start"])
    assert difference.expected is not None and difference.found is not None
    assert difference.found.count == difference.expected.count
    assert difference.found.sums["n"] != difference.expected.sums["n"]
    assert difference.detail == f"expected {difference.expected}, found {difference.found}"


def test_outputs_of_other_aggregates_are_noted() -> None:
    topics = outputs_of(SOME, through=4)
    topics.put("results", *(dump({"aggregate": "old"}),) * 2)
    assert not topics.audit().balanced  # not even the fields of a result
    topics = outputs_of(SOME, through=4)
    identity = {"aggregate": "old", "key": {"who": "ada"}, "start": rfc3339(T0)}
    value = {**identity, "end": rfc3339(T0 + MINUTE), "count": 1, "sum": {}}
    topics.put("results", dump(value), dump(identity))
    report = topics.audit()
    assert report.balanced
    assert "1 outputs are of aggregate 'old'" in report.notes[0]


def test_books_of_every_account() -> None:
    report = outputs_of(SOME, through=4).audit()
    by_who, by_all = report.books
    assert (by_who.records_in, by_who.rejected, by_who.duplicates) == (36, 6, 0)
    assert (by_who.corrections, by_who.results, by_who.open, by_who.open_windows) == (2, 18, 10, 4)
    assert by_who.sums["accepted"] == {"n": sum(e.n for e in SOME if not e.bad)}
    assert by_all.sums["open"] == {"price": "12.50", "weight": 1.0}
    assert report.rejected_by_reason == {"not_json": 6}


def test_progress_ends_at_its_total() -> None:
    topics = outputs_of(SOME, through=4)
    seen: list[tuple[int, int]] = []
    Recount(
        PIPELINE,
        timeout_s=1,
        on_progress=lambda done, total: seen.append((done, total)),
        open_reader=lambda ranges: MemoryReader(topics, ranges, 0),
    ).report(topics.cut(), bounded=False)
    assert seen[-1][0] == seen[-1][1] > 0
    assert sorted(seen) == seen


BEFORE = PIPELINE
AFTER: Pipeline = parse(
    {
        **CONTENT,
        "aggregate": [
            {**CONTENT["aggregate"][0], "window": "3 min"},
            {"name": "by_shard", "key": [{"field": "shard", "type": "int"}], "window": "1 min"},
        ],
    },
    "test",
)


def upgraded(cut_at: dict[int, int], events: list[Event]) -> Topics:
    """What a right job writes that is upgraded from BEFORE to AFTER where ``cut_at`` says for each partition, and then
    closes all windows that it still has."""
    topics = outputs_of(events, through=0)
    topics.messages["results", 0], topics.messages["results", 1] = [], []
    windows: dict[tuple[int, str, int, tuple[Any, ...]], list[Event]] = defaultdict(list)
    offsets = dict.fromkeys((0, 1), -1)
    for event in events:
        offsets[event.partition] += 1
        plans = [("by_who", 1, (event.who,))]
        if offsets[event.partition] >= cut_at[event.partition]:
            plans = [("by_who", 3, (event.who,)), ("by_shard", 1, (event.shard,))]
        for name, size, key in plans:
            start = (T0 // MINUTE + event.minute) // size * size * MINUTE
            windows[start + size * MINUTE, name, start, key].append(event)
    for (end, name, start, key), group in sorted(windows.items()):
        names = ("who",) if name == "by_who" else ("shard",)
        identity = {"aggregate": name, "key": dict(zip(names, key, strict=True)), "start": rfc3339(start)}
        sums = {"n": sum(e.n for e in group)} if name == "by_who" else {}
        value = {**identity, "end": rfc3339(end), "count": len(group), "sum": sums}
        topics.put("results", dump(value), dump(identity), partition=zlib.crc32(dump(identity)) % 2)
    return topics


PLAIN_EVENTS = st.lists(
    st.builds(
        Event,
        minute=st.integers(0, 5),
        who=st.sampled_from(["ada", "bob"]),
        shard=st.integers(0, 1),
        n=st.integers(0, 3),
        partition=st.integers(0, 1),
    ),
    max_size=30,
)


@settings(max_examples=examples(100))
@given(PLAIN_EVENTS, st.integers(0, 8), st.integers(0, 8), st.integers(0, 99))
def test_an_upgrade_is_an_epoch_of_its_own(events: list[Event], first: int, second: int, seed: int) -> None:
    topics = upgraded({0: first, 1: second}, events)
    epochs = [Epoch(BEFORE), Epoch(AFTER, {("in", 0): first, ("in", 1): second})]
    recount = Recount(AFTER, epochs, timeout_s=1, open_reader=lambda ranges: MemoryReader(topics, ranges, seed))
    report = recount.report(topics.cut(), bounded=True)
    assert report.balanced, report.summary()
    books = {books.aggregate: books for books in report.books}
    assert list(books) == ["by_who by 1 min", "by_all", "by_who by 3 min", "by_shard"]
    offsets = {0: 0, 1: 0}
    before = 0
    for event in events:
        before += offsets[event.partition] < (first, second)[event.partition]
        offsets[event.partition] += 1
    assert books["by_who by 1 min"].records_in == books["by_all"].open == before
    assert books["by_shard"].records_in == books["by_who by 3 min"].results == len(events) - before
    if before:
        assert any("'by_all' has ended" in note for note in report.notes)


def test_an_upgrade_that_lost_a_record_is_caught() -> None:
    events = [Event(0, partition=0), Event(0, partition=0), Event(1, partition=0)]
    topics = upgraded({0: 2, 1: 0}, events)
    for begin, balanced in ((2, True), (1, False), (3, False)):
        epochs = [Epoch(BEFORE), Epoch(AFTER, {("in", 0): begin})]
        recount = Recount(AFTER, epochs, timeout_s=1, open_reader=lambda ranges: MemoryReader(topics, ranges, 0))
        assert recount.report(topics.cut(), bounded=True).balanced == balanced
