"""What packs say of event time: the largest of their accepted records, never later than Kafka's timestamp."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.operators import DecodeAndCombine, DecodeAndIdentify, DecodeReplayed
from tests.unit.packing import Sent, answer, batch, opened
from udfs.event_times import NONE, EventTimes, OfRecords, of_ingest
from udfs.headers import RELAYED_HEADER, WATERMARK_HEADER
from udfs.spec import Aggregate, EventTime, Field, Inlet, Spec

NOW = 1_769_904_000_000
AHEAD = 60_000
SPEC = Spec((Aggregate("a", (Field("k", "int"),), (), 10),), EventTime("ts", "ms"), AHEAD, 1 << 20, 5)


def combining(times: EventTimes) -> Any:
    return opened(DecodeAndCombine("shop.aggregate", SPEC, (Inlet("", "in"),), times))


def sent(at_ms: int, kafka_ms: int = NOW, **more: Any) -> Sent:
    return Sent(json.dumps({"k": 1, "ts": at_ms}).encode(), kafka_ms=kafka_ms, **more)


RECORD = st.builds(sent, st.integers(NOW - 500, NOW + 500), st.sampled_from([NOW, NOW + 100, -1, 0]))


@given(st.lists(st.lists(RECORD | st.just(Sent(b"broken")), max_size=4), max_size=4))
def test_the_largest_of_all_accepted_records(packs: list[list[Sent]]) -> None:
    good = [
        (json.loads(one.value or b"")["ts"], one.kafka_ms)
        for pack in packs
        for one in pack
        if one.key is None and one.value != b"broken"
    ]
    marks = [min(at, kafka) if kafka > 0 else at for at, kafka in good]
    expected = {(0, 3): (max(marks, default=NONE), max((at for at, _ in good), default=NONE))} if packs else {}
    assert answer(combining(OfRecords()), batch(packs)).times == expected


def test_a_batch_that_is_taken_apart_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    packs = [[sent(NOW - 5), sent(NOW - 9)], [sent(NOW - 7), Sent(b"{}")]]
    function = combining(OfRecords())
    right = function._taker._shape
    monkeypatch.setattr(
        function._taker, "_shape", lambda columns, arrived: right(columns, arrived) if len(columns.rows) < 2 else 1 // 0
    )
    assert answer(function, batch(packs)).times == {(0, 3): (NOW - 5, NOW - 5)}


@pytest.mark.parametrize("time", [NOW + AHEAD, NOW])
def test_an_event_ahead_of_kafka_s_timestamp_counts_as_that(time: int) -> None:
    assert answer(combining(OfRecords()), batch([[sent(time)]])).times == {(0, 3): (NOW, time)}


@pytest.mark.parametrize(
    ("late_relays", "at_s", "event_ms", "mark"),
    [
        (None, NOW // 1000, NOW - 90_000, NOW - 90_000),
        (5_000, NOW // 1000, NOW - 90_000, NOW - 60_000),  # no more than 30 s younger than it is
        (5_000, NOW // 1000, NOW - 20_000, NOW - 5_000),
        (5_000, NOW // 1000, NOW - 1_000, NOW - 1_000),
        (5_000, 0, NOW - 1_000, NOW - 1_000),
    ],
)
def test_a_relay_that_is_late(late_relays: int | None, at_s: int, event_ms: int, mark: int) -> None:
    copy = sent(event_ms, headers=((RELAYED_HEADER, b"1 7 %d one" % at_s),))
    times = OfRecords(late_relays, 30_000)
    function = opened(DecodeAndIdentify("shop.ingest", SPEC, (Inlet("west", "one", "copies"),), times))
    assert answer(function, batch([[copy]])).times == {(0, 3): (mark, event_ms)}


def test_clean_records_say_where_the_watermark_of_ingest_was() -> None:
    def clean(said: bytes | None) -> Sent:
        return sent(NOW, headers=(("a", b"1"), *(((WATERMARK_HEADER, said),) if said is not None else ()), ("b", None)))

    last_counts = [[clean(b"7"), clean(b"9"), clean(b"8")], [clean(b"6")]]
    assert answer(combining(of_ingest), batch(last_counts)).times == {(0, 3): (8, NOW)}
    for said in (None, b"", b"x", b"-5", b"9" * 30):
        assert answer(combining(of_ingest), batch([[clean(said)]])).times == {(0, 3): (NONE, NOW)}


def test_replayed_records_move_no_watermark() -> None:
    function = opened(DecodeReplayed("shop.ingest", SPEC, "shop.replay"))
    assert answer(function, batch([[sent(NOW)]])).times == {(0, 3): (NONE, NONE)}
