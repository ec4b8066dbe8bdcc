"""The judge of ingest against a plain reading of its contract, and each kind of fault by itself."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surecount.audit.ingest import BEYOND_HORIZON, NO_WATERMARK, IngestJudge, RawRecords
from surecount.audit.origins import Places
from surecount.audit.report import Differences, Flow, IngestBooks

HORIZON = 10


@dataclass(frozen=True)
class Raw:
    """A raw record, and what a run made of it: clean, duplicate, a reject's reason, or nothing."""

    offset: int
    id: int = 0
    time: int = 0
    reason: str = ""
    pathway: str = "web"
    made: str = "clean"
    watermark: int = NO_WATERMARK
    replayed: bool = False


@dataclass
class Run:
    """The topics of a run, which tests change before they are judged."""

    raw: list[Raw]
    has_duplicates_topic: bool = True
    clean: list[tuple[int, int, int, bool]] = field(default_factory=list)
    rejects: list[tuple[int, int, str]] = field(default_factory=list)
    duplicates: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.places = Places()
        for record in self.raw:
            if record.made == "clean":
                self.clean.append((*self.key(record), record.watermark, record.replayed))
            elif record.made == "duplicate" and self.has_duplicates_topic:
                self.duplicates.append(self.key(record))
            elif record.made not in ("duplicate", ""):
                self.rejects.append((*self.key(record), record.made))

    def key(self, record: Raw) -> tuple[int, int]:
        """Origin and content."""
        return self.places.first(record.pathway, "t", 0) + record.offset, 1 + record.offset % 3

    def judge(self, seed: int = 0) -> tuple[IngestBooks, Counter[str], IngestJudge, Differences]:
        order = random.Random(seed)
        raw, differences = RawRecords(self.places), Differences()
        for batch in batches(self.raw, order):
            origins, contents = zip(*map(self.key, batch), strict=True)
            raw.add(
                origins,
                contents,
                [r.id for r in batch],
                [r.reason or (r.time, "x") for r in batch],
                [r.time for r in batch],
            )
        judge = IngestJudge(raw, differences, horizon_ms=HORIZON, has_duplicates_topic=self.has_duplicates_topic)
        for batch in batches(self.clean, order):
            judge.find_clean(*map(list, zip(*batch, strict=True)))
        for batch in batches(self.rejects, order):
            judge.find_rejects(*map(list, zip(*batch, strict=True)))
        for batch in batches(self.duplicates, order):
            judge.find_duplicates(*map(list, zip(*batch, strict=True)))
        books = judge.close(["web", "eu"])
        kinds: Counter[str] = Counter(difference.kind for difference in differences.named)
        assert differences.count >= kinds.total()
        return books, kinds, judge, differences

    def kinds(self) -> list[str]:
        (kinds,) = {tuple(sorted(self.judge(seed)[1].elements())) for seed in range(5)}
        return list(kinds)


def batches(entries: Sequence[Any], order: random.Random) -> list[list[Any]]:
    """The entries in another order, cut to pieces."""
    left = order.sample(entries, len(entries))
    pieces = []
    while left:
        size = order.randint(1, 6)
        pieces.append(left[:size])
        left = left[size:]
    return pieces


RIGHT = [
    Raw(0, id=1),
    Raw(1, id=1, made="duplicate"),
    Raw(2, id=2, pathway="eu"),
    Raw(3, id=2, made="duplicate"),
    Raw(4, reason="empty", made="empty"),
    Raw(5, id=3, made=BEYOND_HORIZON),
    Raw(5, id=3, pathway="eu", watermark=5),
    Raw(6, id=1, pathway="eu", made="duplicate"),
]


def test_a_right_run_balances_by_pathway() -> None:
    books, kinds, judge, _ = Run(RIGHT).judge()
    assert not kinds and books.balanced
    assert books.pathways == {"web": Flow(5, 1, 2, 2), "eu": Flow(3, 2, 0, 1)}
    assert books.total == Flow(8, 3, 2, 3)
    assert (judge.counted_again, judge.beyond_horizon) == (0, 1)


def test_without_a_duplicates_topic_they_are_what_is_left() -> None:
    books, kinds, _, _ = Run(RIGHT, has_duplicates_topic=False).judge()
    assert not kinds and books.total == Flow(8, 3, 2, 3)


GIVEN_UP = [
    *RIGHT,
    Raw(7, id=7, made="internal_error"),
    Raw(8, reason="empty", made="internal_error"),
    Raw(9, id=9, made="decode_failed"),
    Raw(10, reason="decode_failed", made="decode_failed"),
]


def test_what_ingest_gave_up_is_rejected_and_named() -> None:
    for seed in range(5):
        books, kinds, judge, _ = Run(GIVEN_UP).judge(seed)
        assert not kinds and books.balanced
        assert books.pathways["web"] == Flow(9, 1, 6, 2)
        assert sorted(judge.given_up) == [
            ("decode_failed", "web/t-0@9", ()),
            ("internal_error", "web/t-0@7", ()),
            ("internal_error", "web/t-0@8", "empty"),
        ]


@pytest.mark.parametrize(
    ("kinds", "change"),
    [
        (["reject_unexpected"], lambda r: r.clean.append((*r.rejects[2][:2], 0, False))),
        (["reject_unexpected"], lambda r: r.rejects.append(r.rejects[2])),
        (["reject_changed"], lambda r: changed(r.rejects, 2, content=99)),
        (["clean_missing"], lambda r: r.rejects.pop(2)),
    ],
)
def test_what_ingest_gave_up_otherwise_is_a_difference(kinds: list[str], change: Callable[[Run], object]) -> None:
    run = Run(GIVEN_UP)
    change(run)
    assert run.kinds() == kinds


def changed(entries: list[Any], at: int, **by: Any) -> None:
    names = ("origin", "content", "last", "replayed")
    entries[at] = tuple(by.get(name, value) for name, value in zip(names, entries[at], strict=False))


FAULTS: dict[str, tuple[list[str], Callable[[Run], object]]] = {
    "a lost clean record": (["clean_missing"], lambda r: r.clean.pop(2)),
    "a clean record lost where a duplicate stands": (["clean_missing"], lambda r: r.clean.pop(0)),
    "a clean record twice": (["clean_doubled"], lambda r: r.clean.append(r.clean[0])),
    "another content": (["clean_changed"], lambda r: changed(r.clean, 0, content=99)),
    "an origin that is none": (
        ["clean_missing", "clean_unexpected"],
        lambda r: changed(r.clean, 0, origin=r.clean[0][0] + 99),
    ),
    "an origin of another pathway": (
        ["clean_missing", "clean_unexpected"],
        lambda r: changed(r.clean, 0, origin=r.places.first("other", "t", 0)),
    ),
    "a reject in clean": (["clean_unexpected"], lambda r: r.clean.append((*r.rejects[0][:2], 0, False))),
    "a duplicate in clean too": (
        ["clean_doubled", "duplicate_unexpected"],
        lambda r: r.clean.append((*r.duplicates[0], 0, False)),
    ),
    "a duplicate in clean instead": (
        ["clean_doubled"],
        lambda r: r.clean.append((*r.duplicates.pop(0), 0, False)),
    ),
    "a lost duplicate": (["duplicate_missing"], lambda r: r.duplicates.pop(0)),
    "a duplicate twice": (["duplicate_unexpected"], lambda r: r.duplicates.append(r.duplicates[0])),
    "a changed duplicate": (["duplicate_changed"], lambda r: changed(r.duplicates, 0, content=99)),
    "a clean record in duplicates": (["duplicate_unexpected"], lambda r: r.duplicates.append(r.clean[0][:2])),
    "a lost reject": (["reject_missing"], lambda r: r.rejects.pop(0)),
    "a reject twice": (["reject_unexpected"], lambda r: r.rejects.append(r.rejects[0])),
    "a reject for another reason": (["reject_changed"], lambda r: changed(r.rejects, 0, last="not_json")),
    "a reject as beyond the horizon": (["reject_changed"], lambda r: changed(r.rejects, 0, last=BEYOND_HORIZON)),
    "a reject with another content": (["reject_changed"], lambda r: changed(r.rejects, 0, content=99)),
    "a good record in rejects": (["reject_unexpected"], lambda r: r.rejects.append((*r.clean[0][:2], "empty"))),
    "a reject of no record": (["reject_unexpected"], lambda r: r.rejects.append((77, 1, "empty"))),
    "beyond the horizon twice": (["reject_unexpected"], lambda r: r.rejects.append(r.rejects[1])),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_found(name: str) -> None:
    kinds, make = FAULTS[name]
    run = Run(RIGHT)
    make(run)
    assert run.kinds() == kinds


def test_a_lost_record_is_nowhere_in_the_books() -> None:
    run = Run(RIGHT)
    run.clean.pop(0)
    books, _, _, differences = run.judge()
    assert not books.pathways["web"].balanced and books.pathways["eu"].balanced
    assert books.total.raw_in == books.total.clean + books.total.rejected + books.total.duplicates + 1
    (difference,) = differences.named
    assert (difference.kind, difference.where) == ("clean_missing", "web/t-0@0")


@pytest.mark.parametrize(
    ("first", "second", "again"),
    [
        (Raw(0, time=5, watermark=5), Raw(1, time=90, watermark=5 + HORIZON), False),
        (Raw(0, time=5, watermark=5), Raw(1, time=90, watermark=6 + HORIZON), True),
        (Raw(0, time=5), Raw(1, time=90, watermark=6 + HORIZON), True),
        (Raw(0, time=5), Raw(1, time=90), False),
        (Raw(0, time=5, watermark=5), Raw(1, time=5, watermark=6, replayed=True), True),
        (Raw(0, time=5, watermark=5, replayed=True), Raw(1, time=5, watermark=6), False),
    ],
)
def test_an_event_counts_again_only_beyond_the_horizon(first: Raw, second: Raw, again: bool) -> None:
    for records in ([first, second], [replace(second, offset=0), replace(first, offset=1)]):
        _, kinds, judge, _ = Run(records).judge()
        assert judge.counted_again == again
        assert kinds == ({} if again else {"clean_doubled": 1})


def test_copies_of_one_origin_that_were_sent_again() -> None:
    beyond, again = Raw(0, id=1, made=BEYOND_HORIZON), Raw(0, id=1, replayed=True, watermark=99)
    for seed in range(5):
        books, kinds, _, _ = Run([beyond, again]).judge(seed)
        assert not kinds and books.total == Flow(2, 1, 1, 0)


MADE = st.sampled_from(["clean", "clean", "duplicate", BEYOND_HORIZON, ""])
RECORDS = st.builds(
    Raw,
    offset=st.integers(0, 99),
    id=st.integers(0, 3),
    time=st.integers(0, 30),
    pathway=st.sampled_from(["web", "eu"]),
    made=MADE,
    watermark=st.integers(0, 40) | st.just(NO_WATERMARK),
    replayed=st.integers(0, 9).map(lambda x: x == 0),
) | st.builds(Raw, st.integers(0, 99), reason=st.sampled_from(["empty", "not_json"])).map(
    lambda record: replace(record, made=record.reason)
)


@given(st.lists(RECORDS, unique_by=lambda r: (r.pathway, r.offset), max_size=20), st.booleans(), st.integers(0, 99))
def test_events_are_judged_as_the_contract_reads(records: list[Raw], has_duplicates_topic: bool, seed: int) -> None:
    expected: Counter[str] = Counter()
    duplicates = again = 0
    events: dict[int, list[Raw]] = defaultdict(list)
    for record in records:
        if not record.reason and record.made != BEYOND_HORIZON:
            events[record.id].append(record)
    for copies in events.values():
        clean = sorted((r for r in copies if r.made == "clean"), key=lambda r: (r.watermark, r.time, r.replayed))
        for before, after in pairwise(clean):
            if after.replayed or after.watermark > before.time + HORIZON:
                again += 1
            else:
                expected["clean_doubled"] += 1
        others = [r for r in copies if r.made != "clean"]
        if not clean:
            expected["clean_missing"] += 1
            others.pop()
        duplicates += len(others)
    books, kinds, judge, differences = Run(records, has_duplicates_topic).judge(seed)
    assert books.total.duplicates == duplicates
    assert judge.counted_again == again
    del kinds["duplicate_missing"]
    assert kinds == expected
    unfound = sum(r.made == "" for copies in events.values() for r in copies)
    if not has_duplicates_topic:
        assert differences.count == expected.total()
    elif not expected["clean_missing"]:
        assert differences.count == expected.total() + unfound
    assert books.balanced <= (not expected["clean_missing"])
