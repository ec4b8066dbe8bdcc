"""What the decoding function answers, batch for batch, as Flink's worker calls it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa
import pytest

from jobs.operators import DecodeAndCombine, DecodeAndIdentify, _Decode
from udfs.combine import unpack
from udfs.records import RELAYED_HEADER
from udfs.spec import Aggregate, EventTime, Field, Inlet, Spec

SPEC = Spec(
    (Aggregate("a", (Field("k", "int"),), (), 10),),
    EventTime("ts", "ms"),
    max_ahead_ms=1 << 40,
    max_value_bytes=1 << 20,
    buckets=5,
)


Headers = dict[str, bytes | None]


def answer(function: _Decode, values: Sequence[bytes], headers: Sequence[Headers | None] = ()) -> pa.StructArray:
    rows = len(values)
    headers = headers or [None] * rows
    said = function.eval(
        pa.array(values, pa.binary()),
        pa.nulls(rows, pa.binary()),
        pa.array([given and list(given) for given in headers], pa.list_(pa.string())),
        pa.array([given and list(given.values()) for given in headers], pa.list_(pa.binary())),
        0,
        pa.array([0] * rows, pa.int32()),
        pa.array(range(rows), pa.int64()),
        pa.array([0] * rows, pa.timestamp("ms")),
    )
    assert isinstance(said, pa.StructArray)
    return said


def pieces(said: pa.StructArray) -> dict[int, bytes]:
    return dict(said[0].as_py()["pieces"] or ())


def opened(function: _Decode) -> _Decode:
    function.open(None)
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
    rejected = [row for row in said.to_pylist() if row is not None and row["rejected"] is not None]
    assert len(rejected) == 8
    assert [row["v"] for row in rejected] == [b"broken"] * 8
    assert rejected[1]["rejected"].endswith("\tin\t0\t7")


def test_a_reject_keeps_its_own_headers_but_those_of_value_null() -> None:
    # Flink's Kafka sink cannot write a header of value null.
    function = opened(DecodeAndCombine(SPEC, (Inlet("", "in"),)))
    given: list[Headers | None] = [{"b": b"", "a": b"\xff", "none": None}, None, {"only": None}]
    said = answer(function, [b"broken"] * 3, given)
    assert [row["headers"] for row in said.to_pylist()] == [[("b", b""), ("a", b"\xff")], None, None]


def test_what_a_relay_adds_is_no_header_of_the_record() -> None:
    relayed = b"1 7 0 shop.old"
    function = opened(DecodeAndCombine(SPEC, (Inlet("west", None, "west.copies"),)))
    said = answer(function, [b"broken"] * 2, [{RELAYED_HEADER: relayed}, {"own": b"1", RELAYED_HEADER: relayed}])
    assert [row["headers"] for row in said.to_pylist()] == [None, [("own", b"1")]]
    assert all("\twest\tshop.old\t" in row["rejected"] for row in said.to_pylist())


def test_ingest_wakes_no_bucket() -> None:
    function = opened(DecodeAndIdentify(SPEC, (Inlet("", "in"),)))
    assert answer(function, [b"broken"])[0].as_py()["pieces"] is None
