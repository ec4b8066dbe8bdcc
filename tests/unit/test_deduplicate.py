"""What deduplication answers, piece for piece, as Flink's worker calls it."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.operators import CLEAN, DUPLICATE, TOO_OLD, Deduplicate
from surecount import __version__
from tests.unit.packing import Sent, read_rejects
from tests.unit.test_copies import read
from tests.unit.test_records import accepted, again, arrived
from udfs.headers import RELAYED_HEADER
from udfs.records import Arrived

HORIZON = 10_000
START = -(1 << 63)
"""The watermark before the first one."""


class Value:
    """Keyed state of one value; Flink gives bytes back as it has them."""

    def __init__(self) -> None:
        self._data: bytes | None = None

    def value(self) -> bytearray | None:
        return None if self._data is None else bytearray(self._data)

    def update(self, data: bytes) -> None:
        self._data = data


class Metrics:
    """Counts what counters and meters are told, by the names of their groups."""

    def __init__(self, counts: Counter[str], name: str = "") -> None:
        self._counts, self._name = counts, name

    def add_group(self, *names: str) -> Metrics:
        return Metrics(self._counts, ".".join([self._name, *names]).strip("."))

    def counter(self, name: str) -> Any:
        return SimpleNamespace(inc=lambda number: self._counts.update({f"{self._name}.{name}": number}))

    def meter(self, name: str, _span: int) -> Any:
        return SimpleNamespace(mark_event=lambda number: self._counts.update({f"{self._name}.{name}": number}))

    def gauge(self, name: str, of: Any) -> None:
        """Gauges are not looked at here."""


def opened(*, list_duplicates: bool = True, counts: Counter[str] | None = None) -> Deduplicate:
    function = Deduplicate("shop.ingest", HORIZON, list_duplicates=list_duplicates)
    metrics = None if counts is None else Metrics(counts)
    segments: dict[str, bytes] = {}
    state = SimpleNamespace(get=segments.get, put=segments.__setitem__, remove=segments.pop)
    context = SimpleNamespace(
        get_metrics_group=lambda: metrics, get_state=lambda _: Value(), get_map_state=lambda _: state,
        get_job_parameter=lambda *_: "false",
    )  # fmt: skip
    function.open(context)
    return function


def answer(function: Deduplicate, came: Arrived, watermark: int = START) -> list[tuple[int, bytes]]:
    """The rows that records become; their event times are 1,000, 1,001, ..."""
    timers = SimpleNamespace(current_watermark=lambda: watermark)
    context = SimpleNamespace(get_current_key=lambda: 0, timer_service=lambda: timers)
    rows = function.process_element(bytearray(accepted(came)[0].encode()), context)
    return [(row[0], row[1]) for row in rows]


def values(rows: list[tuple[int, bytes]], kind: int) -> list[bytes | None]:
    if kind == TOO_OLD:
        return [one.value for number, block in rows if number == kind for one in read_rejects(block)]
    return [value for number, block in rows if number == kind for _, _, value, _ in read(block)]


def test_each_record_is_clean_once() -> None:
    function = opened()
    sent = [Sent(b"%d" % offset, offset=offset) for offset in (1, 2, 1, 3)]
    rows = answer(function, arrived("one", *sent))
    assert (values(rows, CLEAN), values(rows, DUPLICATE)) == ([b"1", b"2", b"3"], [b"1"])
    rows = answer(function, arrived("one", *sent[:2], Sent(b"4", offset=4)))
    assert (values(rows, CLEAN), values(rows, DUPLICATE)) == ([b"4"], [b"1", b"2"])
    assert all(type(block) is bytes for _, block in rows)


def test_copies_say_where_they_are_from_and_where_the_watermark_is() -> None:
    copy = (("own", None), (RELAYED_HEADER, b"1 7 0 shop.old"))
    function = opened()
    [(_, first)] = answer(function, arrived("one", Sent(b"a", b"k", (("own", b"1"),) * 2, 31_536_000_000, 5)), 999)
    [(_, second)] = answer(function, arrived("west.copies", Sent(headers=copy)))
    version = (b"surecount.version", __version__.encode())
    assert read(first) == [
        (
            31_536_000_000,
            b"k",
            b"a",
            [
                *[(b"own", b"1")] * 2,
                *((b"surecount.pathway", b"east"), (b"surecount.topic", b"one"), version),
                (b"surecount.watermark", b"999"),
                *((b"surecount.partition", b"3"), (b"surecount.offset", b"5")),
            ],
        )
    ]
    assert read(second) == [
        (
            0,
            None,
            b"",
            [
                (b"own", None),
                *((b"surecount.pathway", b"west"), (b"surecount.topic", b"shop.old"), version),
                *((b"surecount.partition", b"1"), (b"surecount.offset", b"7")),
            ],
        )
    ]


def test_what_is_too_old_is_rejected_unless_it_is_replayed() -> None:
    function = opened()
    sent = [Sent(b"%d" % offset, b"key", (("own", b"1"), ("own", None)), 5, offset) for offset in range(3)]
    rows = answer(function, arrived("one", *sent), 1_001 + HORIZON)
    assert (values(rows, CLEAN), values(rows, TOO_OLD)) == ([b"1", b"2"], [b"0"])
    [one] = read_rejects(rows[1][1])
    assert (one.pack, one.key, one.own) == (-1, b"key", [("own", b"1"), ("own", None)])
    assert one.said == {
        "pathway": "east", "topic": "one", "partition": "3", "offset": "0", "reason": "beyond_horizon",
        "timestamp": "5", "detail": f"event time 1000, watermark {1_001 + HORIZON}", "job": "shop.ingest",
        "version": __version__,
    }  # fmt: skip
    rows = answer(function, again(*sent), 1_001 + HORIZON)
    assert (values(rows, CLEAN), values(rows, TOO_OLD)) == ([b"0", b"1", b"2"], [])


def test_blocks_of_rejects_are_small() -> None:
    rows = answer(opened(), arrived("one", *[Sent(offset=offset) for offset in range(4_001)]), 1 << 50)
    assert [(kind, len(read_rejects(block))) for kind, block in rows] == [(TOO_OLD, n) for n in (2_000, 2_000, 1)]


@pytest.mark.parametrize("list_duplicates", [True, False])
def test_what_is_not_clean_is_counted(list_duplicates: bool) -> None:
    counts: Counter[str] = Counter()
    function = opened(list_duplicates=list_duplicates, counts=counts)
    sent = [Sent(offset=offset) for offset in (1, 1, 2)]
    copies = [Sent(headers=((RELAYED_HEADER, b"1 7 0 one"),))] * 3
    rows = [row for came in (arrived("one", *sent), arrived("west.copies", *copies)) for row in answer(function, came)]
    rows += answer(function, arrived("one", Sent(offset=9)), 1 << 50)
    assert [kind for kind, _ in rows] == ([CLEAN, DUPLICATE] * 2 if list_duplicates else [CLEAN] * 2) + [TOO_OLD]
    assert {name: number for name, number in counts.items() if name.startswith("pathway")} == {
        "pathway.east.duplicates": 1,
        "pathway.west.duplicates": 2,
    }
    by_kind = {name.rpartition(".")[2]: number for name, number in counts.items() if not name.startswith("pathway")}
    assert by_kind == {"duplicates": 3, "rejected_beyond_horizon": 1}


def test_without_metrics_duplicates_are_told_apart_as_well() -> None:
    assert [kind for kind, _ in answer(opened(), arrived("one", Sent(), Sent()))] == [CLEAN, DUPLICATE]
