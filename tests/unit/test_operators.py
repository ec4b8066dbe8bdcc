"""What the decoding function answers, batch for batch, as Flink's worker calls it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pytest
from pyflink.table.udf import FunctionContext

from jobs.operators import DecodeAndCombine, DecodeAndIdentify, _Decode
from tests.unit.packing import Sent, columns
from udfs import partials
from udfs.combine import unpack
from udfs.headers import RELAYED_HEADER
from udfs.spec import Aggregate, EventTime, Field, Inlet, Spec

SPEC = Spec(
    (Aggregate("a", (Field("k", "int"),), (), 10),),
    EventTime("ts", "ms"),
    max_ahead_ms=1 << 40,
    max_value_bytes=1 << 20,
    buckets=5,
)


Headers = dict[str, bytes | None]


def answer(
    function: _Decode, values: Sequence[bytes], headers: Sequence[Headers] = (), *, in_packs_of: int = 3
) -> pa.StructArray:
    sent = [
        Sent(value, headers=tuple(headers[row].items()) if headers else (), offset=row)
        for row, value in enumerate(values)
    ]
    packs = [sent[at : at + in_packs_of] for at in range(0, len(sent), in_packs_of)]
    said = function.eval(*columns(packs), 0, pa.array([0] * len(packs), pa.int32()))
    assert isinstance(said, pa.StructArray)
    assert len(said) == len(packs)
    return said


def rejected(said: pa.StructArray) -> list[tuple[str, list[bytes | None]]]:
    """What is said of each rejected record, and its bytes."""
    rows = [row for row in said.to_pylist() if row is not None]
    return [(one[0].decode(), one[1:]) for row in rows for _, one in row["rejected"] or ()]


def pieces(said: pa.StructArray) -> dict[int, bytes]:
    return dict(said[0].as_py()["pieces"] or ())


def opened(function: _Decode) -> _Decode:
    function.open(FunctionContext(None, {}))
    return function


@pytest.mark.parametrize("value", [b'{"k":1,"ts":1}', b"broken"])
def test_the_first_batch_of_a_start_wakes_every_bucket_and_the_next_do_not(value: bytes) -> None:
    # A bucket that hears nothing would not set the timers that its snapshot may lack.
    function = opened(DecodeAndCombine(SPEC, (Inlet("", "in"),)))
    assert sorted(pieces(answer(function, [value]))) == list(range(SPEC.buckets))
    assert len(pieces(answer(function, [value]))) == (value != b"broken")


def test_every_record_of_a_batch_is_in_a_piece_or_rejected() -> None:
    function = opened(DecodeAndCombine(SPEC, (Inlet("", "in"),)))
    values = [json.dumps({"k": k, "ts": k}).encode() if k % 7 else b"broken" for k in range(50)]
    said = answer(function, values)
    found = [piece for bucket, data in pieces(said).items() for piece in unpack(bucket, data)]
    assert {piece.bucket for piece in found} <= set(range(SPEC.buckets))
    assert sum(partials.decode(piece.partial, SPEC.aggregates[0]).num_rows for piece in found) == 42
    assert [content for _, content in rejected(said)] == [[None, b"broken"]] * 8
    assert rejected(said)[1][0].endswith("\tin\t0\t7\t\t")


def test_a_reject_is_in_the_row_of_its_pack() -> None:
    function = opened(DecodeAndCombine(SPEC, (Inlet("", "in"),)))
    answer(function, [b"broken"])
    said = answer(function, [b'{"k":1,"ts":1}', b"broken", b"broken", b'{"k":1,"ts":1}', b"broken"], in_packs_of=2)
    assert [row and len(row["rejected"] or ()) for row in said.to_pylist()] == [1, 1, 1]
    said = answer(function, [b'{"k":1,"ts":1}'] * 4, in_packs_of=2)
    assert [row is None for row in said.to_pylist()] == [False, True]


def test_a_reject_that_came_skimmed_says_where_the_whole_value_is() -> None:
    function = opened(DecodeAndCombine(SPEC, (Inlet("", "in"),)))
    good = Sent(b'{"k":1,"ts":1}', whole=b'{"k":1,"ts":1,"x":"more"}')
    packs = [[good, Sent(None), good], [good, Sent(b"{}", whole=b'{"x":"more"}'), Sent(b"broken"), Sent(None)]]
    said = function.eval(*columns(packs), 0, pa.array([0, 0], pa.int32()))
    assert [(place.split("\t")[-2:], content) for place, content in rejected(said)] == [
        (["", ""], [None, None]),
        (["", ""], [None, None]),
        (["25", "12"], [None, None]),
        (["", ""], [None, b"broken"]),
    ]


def test_a_value_is_as_large_as_it_came() -> None:
    function = opened(DecodeAndCombine(replace(SPEC, max_value_bytes=20), (Inlet("", "in"),)))
    sent = [Sent(b'{"k":1,"ts":1}', whole=b'{"k":1,"ts":1,"x":%d}' % x) for x in (1, 10)]
    said = function.eval(*columns([sent]), 0, pa.array([0], pa.int32()))
    assert [place.split("\t")[0] for place, _ in rejected(said)] == ["value_too_large"]


def test_a_reject_keeps_its_own_headers_but_those_of_value_null() -> None:
    # Flink's Kafka sink cannot write a header of value null.
    function = opened(DecodeAndCombine(SPEC, (Inlet("", "in"),)))
    given: list[Headers] = [{"b": b"", "a": b"\xff", "none": None}, {}, {"only": None}]
    said = answer(function, [b"broken"] * 3, given)
    assert [content[2:] for _, content in rejected(said)] == [[b"b", b"a", b"", b"\xff"], [], []]


def test_what_a_relay_adds_is_no_header_of_the_record() -> None:
    relayed = b"1 7 0 shop.old"
    function = opened(DecodeAndCombine(SPEC, (Inlet("west", None, "west.copies"),)))
    said = answer(function, [b"broken"] * 2, [{RELAYED_HEADER: relayed}, {"own": b"1", RELAYED_HEADER: relayed}])
    assert [content[2:] for _, content in rejected(said)] == [[], [b"own", b"1"]]
    assert all("\twest\tshop.old\t1\t7" in place for place, _ in rejected(said))


def test_ingest_wakes_no_bucket() -> None:
    function = opened(DecodeAndIdentify(SPEC, (Inlet("", "in"),)))
    assert answer(function, [b"broken"])[0].as_py()["pieces"] is None
