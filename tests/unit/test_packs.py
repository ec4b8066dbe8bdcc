"""Packs come apart into the records that they were made of, and records into where they come from."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.packing import Sent, columns, records, unpacked
from udfs.decode import Columns
from udfs.headers import RELAYED_HEADER
from udfs.packs import Unpacked, unpack
from udfs.records import Arrived, Origin, arrive, arrive_again, by_bucket, sources
from udfs.spec import Inlet


@given(st.lists(st.lists(records, min_size=1, max_size=5), min_size=1, max_size=5))
def test_records_are_what_they_were(batch: list[list[Sent]]) -> None:
    expected = [(row, record) for row, pack in enumerate(batch) for record in pack]
    assert unpacked(unpack(*columns(batch))) == expected


@given(st.lists(st.lists(records, min_size=1, max_size=3), min_size=2, max_size=5), st.data())
def test_a_part_of_a_batch_is_read_as_the_whole(batch: list[list[Sent]], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(batch) - 1))
    part = [column.slice(first) for column in columns(batch)]
    assert unpacked(unpack(*part)) == [(row, record) for row, pack in enumerate(batch[first:]) for record in pack]


def test_where_values_stood_before_they_were_skimmed() -> None:
    packs = [[Sent(b"a"), Sent(None), Sent(b"", whole=b"bcd"), Sent(b"e")], [Sent(b""), Sent(b"f", whole=b"fg")]]
    found = unpack(*columns(packs))
    assert found.size.tolist() == [1, -1, 3, 1, 0, 2]
    assert found.starts().tolist() == [0, 1, 1, 4, 0, 0]


def test_columns_of_nulls_are_empty() -> None:
    index, values, *_ = columns([[Sent(b"a"), Sent(b"b")]])
    nulls = [pa.nulls(1, pa.binary())] * 3
    assert [record.value for _, record in unpacked(unpack(index, values, *nulls))] == [b"a", b"b"]


@pytest.mark.parametrize("broken", [1, 2, 3, 4])
def test_columns_that_contradict_one_another_are_refused(broken: int) -> None:
    given_ = columns([[Sent(b"value", b"key", (("name", b"value"),))]])
    given_[broken] = pa.array([given_[broken][0].as_py() + b"\0" * 8], pa.binary())
    with pytest.raises(ValueError, match="packs of"):
        unpack(*given_)


INLETS = (
    Inlet("east", "one"),
    Inlet("east", "two"),
    Inlet("west", "one", "west.copies"),
    Inlet("west", None, "west.copies"),
)


def found(*sent: Sent) -> Unpacked:
    return unpack(*columns([sent]))


def arrived(source: str, *sent: Sent) -> Arrived:
    number = sources(INLETS).index(source)
    return arrive(found(*sent), np.full(len(sent), number), np.full(len(sent), 3), INLETS)


def test_each_topic_is_read_once() -> None:
    assert sources(INLETS) == ["one", "two", "west.copies"]


def test_a_record_that_is_read_directly_comes_from_where_it_stands() -> None:
    own = ((RELAYED_HEADER, b"1 7 0 other"),)
    came = arrived("two", Sent(offset=5), Sent(offset=6, headers=own))
    assert [came.origin(row) for row in (0, 1)] == [Origin("east", "two", 3, 5), Origin("east", "two", 3, 6)]
    assert came.own_headers(np.arange(2)) == {1: [*own]}


def test_a_copy_comes_from_where_its_relay_has_read_it() -> None:
    came = arrived(
        "west.copies",
        Sent(offset=5, headers=((RELAYED_HEADER, b"1 70 1767225600 one"),)),
        Sent(offset=6, headers=(("own", b"\xff"), (RELAYED_HEADER, b"2 71 0 a.topic-that_was"), ("none", None))),
        Sent(offset=7, headers=((RELAYED_HEADER, b"1 72 0 one"),)),
    )
    assert [came.origin(row) for row in range(3)] == [
        Origin("west", "one", 1, 70),
        Origin("west", "a.topic-that_was", 2, 71),
        Origin("west", "one", 1, 72),
    ]
    # What the relay adds is none of the record's own, and Kafka's sink cannot write a header without a value.
    assert came.own_headers(np.arange(3)) == {1: [("own", b"\xff")]}


@pytest.mark.parametrize("said", [None, b"", b"1 7 0", b"x 7 0 one", b"1 7 0 one two", b"\xff 1 2 one", b"9" * 30])
def test_what_does_not_say_where_it_is_from_counts_where_it_stands(said: bytes | None) -> None:
    headers = ((RELAYED_HEADER, said),) if said != b"9" * 30 else ()
    came = arrived("west.copies", Sent(offset=5, headers=headers), Sent(headers=((RELAYED_HEADER, b"1 7 0 one"),)))
    assert came.origin(0) == Origin("west", "west.copies", 3, 5)
    assert came.origin(1) == Origin("west", "one", 1, 7)


@given(st.lists(records, max_size=8))
def test_records_without_relay_keep_all_headers_of_a_value(sent: list[Sent]) -> None:
    came = arrived("one", *sent)
    expected = {
        row: own
        for row, record in enumerate(sent)
        if (own := [one for at, one in enumerate(record.headers) if one[1] is not None and not ended(record, at)])
    }
    assert came.own_headers(np.arange(len(sent))) == expected


def ended(record: Sent, at: int) -> bool:
    """Whether a header has a later one of its name without a value: the last of a name counts, also that one."""
    return any(name == record.headers[at][0] and value is None for name, value in record.headers[at + 1 :])


FORGED = (
    ("surecount.pathway", b"east"),
    ("surecount.topic", b"one"),
    ("surecount.partition", b"1"),
    ("surecount.offset", b"7"),
    ("surecount.replayed", b"0@0"),
)


def identified(came: Arrived) -> tuple[list[bytes], list[bool]]:
    """The ids of records without id fields, and which are replayed."""
    rows = np.arange(len(came.offset))
    [(_, found)] = by_bucket(came, Columns(rows, rows, {}), (), 1)
    return found.column("id").tolist(), found.column("replayed").tolist()


@pytest.mark.parametrize("source", ["one", "west.copies"])
def test_headers_of_a_raw_record_or_of_a_copy_make_it_no_other_record(source: str) -> None:
    ids, replayed = identified(arrived(source, Sent(offset=5, headers=FORGED), Sent(offset=6, headers=FORGED)))
    assert len(set(ids)) == 2
    assert replayed == [False, False]


def again(*sent: Sent) -> Arrived:
    return arrive_again(found(*sent), np.full(len(sent), 3), "shop.replay")


def test_a_replayed_record_is_the_one_that_it_was() -> None:
    own = (("own", b"\xff"), ("producer.surecount.topic", b"9"))
    timestamps = (b"1767225600000", b"-1", b"0", b"1769860799123000000", b"9" * 19)
    came = again(
        *(
            Sent(offset=n, kafka_ms=5, headers=(*own, *FORGED, ("surecount.timestamp", ms)))
            for n, ms in enumerate(timestamps)
        )
    )
    assert [came.origin(row) for row in range(5)] == [Origin("east", "one", 1, 7)] * 5
    assert came.kafka_ms.tolist() == [1_767_225_600_000, -1, 0, 1_769_860_799_123_000_000, 5]
    assert came.own_headers(np.arange(5)) == {row: [*own, FORGED[-1]] for row in range(5)}
    ids, replayed = identified(came)
    direct, _ = identified(arrive(found(Sent(offset=7)), np.zeros(1, np.int64), np.ones(1, np.int64), INLETS))
    assert (set(ids), replayed) == ({*direct}, [True] * 5)


@pytest.mark.parametrize("name", [name for name, _ in FORGED[:4]])
@pytest.mark.parametrize("said", [None, b"", b"x", b"9" * 30])
def test_a_replayed_record_that_does_not_say_where_it_was_counts_where_it_stands(name: str, said: bytes | None) -> None:
    headers = tuple((n, said if n == name else value) for n, value in FORGED if n != name or said is not None)
    came = again(Sent(offset=5, kafka_ms=9, headers=(*headers, ("surecount.timestamp", b"soon"))))
    stands = name in ("surecount.pathway", "surecount.topic") and said not in (None, b"")
    assert (came.origin(0) == Origin("replay", "shop.replay", 3, 5)) != stands
    assert came.kafka_ms.tolist() == [9]
