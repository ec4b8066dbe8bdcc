"""What the decoding function answers, batch for batch, as Flink's worker calls it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from jobs.operators import DecodeAndCombine, DecodeAndIdentify
from surecount import __version__
from tests.unit.packing import Sent, answer, batch, opened
from udfs import partials
from udfs.combine import unpack
from udfs.event_times import EventTimes, OfRecords
from udfs.headers import RELAYED_HEADER
from udfs.spec import Aggregate, EventTime, Field, Inlet, Spec

SPEC = Spec(
    (Aggregate("a", (Field("k", "int"),), (), 10),),
    EventTime("ts", "ms"),
    max_ahead_ms=1 << 40,
    max_value_bytes=1 << 20,
    buckets=5,
)


INLETS = (Inlet("", "in"),)
NONE = -(1 << 63)


def combining(spec: Spec = SPEC, inlets: tuple[Inlet, ...] = INLETS, times: EventTimes | None = None) -> Any:
    return opened(DecodeAndCombine("shop.aggregate", spec, inlets, times or OfRecords()))


def of_values(*values: bytes | None, in_packs_of: int = 3, **more: Any) -> bytes:
    sent = [Sent(value, offset=row, **more) for row, value in enumerate(values)]
    return batch([sent[at : at + in_packs_of] for at in range(0, len(sent), in_packs_of)], partition=0)


@pytest.mark.parametrize("value", [b'{"k":1,"ts":1}', b"broken"])
def test_the_first_batch_of_a_start_wakes_every_bucket_and_the_next_do_not(value: bytes) -> None:
    # A bucket that hears nothing would not set the timers that its snapshot may lack.
    function = combining()
    assert sorted(answer(function, of_values(value)).pieces) == list(range(SPEC.buckets))
    assert len(answer(function, of_values(value)).pieces) == (value != b"broken")


def test_every_record_of_a_batch_is_in_a_piece_or_rejected() -> None:
    values = [json.dumps({"k": k, "ts": k}).encode() if k % 7 else b"broken" for k in range(50)]
    said = answer(combining(), of_values(*values))
    found = [piece for bucket, data in said.pieces.items() for piece in unpack(bucket, data)]
    assert {piece.bucket for piece in found} <= set(range(SPEC.buckets))
    assert sum(partials.decode(piece.partial, SPEC.aggregates[0]).num_rows for piece in found) == 42
    assert [(one.key, one.value) for one in said.rejected] == [(None, b"broken")] * 8
    assert said.rejected[1].said == {
        "topic": "in", "partition": "0", "offset": "7", "reason": "not_json", "timestamp": "0",
        "detail": said.rejected[1].said["detail"], "job": "shop.aggregate", "version": __version__,
    }  # fmt: skip


def test_a_reject_whose_value_was_projected_says_where_the_whole_value_is() -> None:
    good = Sent(b'{"k":1,"ts":1}', whole=b'{"k":1,"ts":1,"x":"more"}')
    packs = [[good, Sent(None), good], [good, Sent(b"{}", whole=b'{"x":"more"}'), Sent(b"broken"), Sent(None)]]
    assert [(one.pack, one.start, one.size, one.value) for one in answer(combining(), batch(packs)).rejected] == [
        (-1, 0, 0, None),
        (1, 25, 12, None),
        (-1, 0, 0, b"broken"),
        (-1, 0, 0, None),
    ]


def test_a_value_is_as_large_as_it_came() -> None:
    sent = [Sent(b'{"k":1,"ts":1}', whole=b'{"k":1,"ts":1,"x":%d}' % x) for x in (1, 10)]
    said = answer(combining(replace(SPEC, max_value_bytes=20)), batch([[*sent, Sent(b"", whole=b"x" * 21)]]))
    assert [one.said["reason"] for one in said.rejected] == ["value_too_large"] * 2
    assert [(one.pack, one.start, one.size) for one in said.rejected] == [(0, 20, 21), (0, 41, 21)]


def test_a_reject_keeps_all_headers_as_they_came() -> None:
    given = (("b", b""), ("a", b"\xff"), ("none", None), ("a", b"again"), ("", b"empty"))
    [one] = answer(combining(), of_values(b"broken", headers=given)).rejected
    assert one.headers[: len(given)] == [*given] == one.own


def test_what_a_relay_adds_is_no_header_of_the_record() -> None:
    relayed = ((RELAYED_HEADER, b"1 7 0 shop.old"),)
    function = opened(DecodeAndIdentify("shop.ingest", SPEC, (Inlet("west", None, "west.copies"),), OfRecords()))
    said = answer(
        function, batch([[Sent(b"broken", headers=relayed), Sent(b"broken", headers=(("own", b"1"), *relayed))]])
    )
    assert [one.own for one in said.rejected] == [[], [("own", b"1")]]
    for one in said.rejected:
        found = one.said
        origin = (found["pathway"], found["topic"], found["partition"], found["offset"])
        assert origin == ("west", "shop.old", "1", "7")


def test_ingest_wakes_no_bucket() -> None:
    function = opened(DecodeAndIdentify("shop.ingest", SPEC, INLETS, OfRecords()))
    assert answer(function, of_values(b"broken")).pieces == {}


def test_a_batch_without_records_tells_its_partitions() -> None:
    function = combining()
    assert answer(function, batch([[], []], partition=4)).times == {(0, 4): (NONE, NONE)}
    assert answer(function, batch([])).times == {}


def test_a_batch_of_another_layout_is_refused() -> None:
    data = bytearray(of_values(b"{}"))
    data[4] = 9
    with pytest.raises(ValueError, match="job and jar have to be of one version"):
        answer(combining(), bytes(data))
    with pytest.raises(ValueError, match="begins with b'SCBA'"):
        answer(combining(), b'{"k":1,"ts":1769860799123}')
