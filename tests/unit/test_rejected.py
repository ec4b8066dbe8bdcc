"""Blocks of rejected records hold what the records held, and what is said of them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surecount import __version__
from tests.unit.packing import Reject, Sent, columns, read_rejects, records
from tests.unit.test_records import INLETS, accepted, arrived, sources
from udfs import rejected
from udfs.decode import Rejected
from udfs.headers import RELAYED_HEADER
from udfs.packs import split, unpack
from udfs.records import Arrived, Origin, arrive
from udfs.rejected import SAID, Content, Whole

AGGREGATE = SAID[1:]


def contents(came: Arrived, packs: Sequence[Sequence[Sent]], rows: Sequence[int]) -> list[Content]:
    found = unpack(*columns(packs))
    refused = [Rejected(row, f"reason {row}", f"detail {row} ü") for row in rows]
    return rejected.contents(refused, came, Whole(found.pack, found.starts()), found.size)


def rejects(packs: Sequence[Sequence[Sent]], rows: Sequence[int], said: Sequence[str] = SAID) -> list[Reject]:
    came = arrived("two", *[one for pack in packs for one in pack])
    return read_rejects(rejected.block(contents(came, packs, rows), "shop.job", said))


batches = st.lists(st.lists(records, min_size=1, max_size=4), min_size=1, max_size=3)


@given(batches, st.data(), st.sampled_from([SAID, AGGREGATE]))
def test_any_rejects_keep_all_that_they_came_with(
    packs: list[list[Sent]], data: st.DataObject, said: tuple[str, ...]
) -> None:
    sent = [one for pack in packs for one in pack]
    rows = data.draw(st.lists(st.integers(0, len(sent) - 1), min_size=1, unique=True))
    found = rejects(packs, rows, said)
    assert [(one.pack, one.start, one.size, one.key, one.value) for one in found] == [
        (-1, 0, 0, sent[row].key, sent[row].value) for row in sorted(rows)
    ]
    for row, one in zip(sorted(rows), found, strict=True):
        all_said = {
            "pathway": "east", "topic": "two", "partition": "3", "offset": str(sent[row].offset),
            "reason": f"reason {row}", "timestamp": str(sent[row].kafka_ms), "detail": f"detail {row} ü",
        }  # fmt: skip
        of_job = [("surecount.job", b"shop.job"), ("surecount.version", __version__.encode())]
        assert one.headers == [
            *sent[row].headers,
            *[(f"surecount.{name}", all_said[name].encode()) for name in said],
            *of_job,
        ]


def test_a_value_that_was_projected_is_where_it_came() -> None:
    packs = [
        [Sent(b"12345"), Sent(None), Sent(b"{}", b"key", whole=b"1234567")],
        [Sent(b"", whole=b"123"), Sent(b""), Sent(b"", whole=b"12")],
    ]
    found = rejects(packs, range(6))
    assert [(one.pack, one.start, one.size, one.key, one.value) for one in found] == [
        (-1, 0, 0, None, b"12345"),
        (-1, 0, 0, None, None),
        (0, 5, 7, b"key", None),
        (1, 0, 3, None, None),
        (-1, 0, 0, None, b""),
        (1, 3, 2, None, None),
    ]


def test_what_an_earlier_job_said_gives_way() -> None:
    # As a clean record has it, which the aggregate job rejects.
    of_ingest = (
        ("a", b"1"), ("surecount.pathway", b"east"), ("surecount.topic", b"raw"), ("surecount.version", b"0"),
        ("surecount.watermark", b"5"), ("surecount.partition", b"9"), ("surecount.offset", b"8"), ("a", None),
    )  # fmt: skip
    packs = [[Sent(b"x", headers=(("b", b"2"),)), Sent(b"y", headers=of_ingest, offset=70), Sent(b"z")]]
    first, second, third = rejects(packs, [0, 1, 2], AGGREGATE)
    assert (first.own, second.own, third.own) == ([("b", b"2")], [("a", b"1"), ("a", None)], [])
    names = [name for name, _ in second.headers]
    assert len(names) == len(set(names)) + 1
    assert (second.said["pathway"], second.said["watermark"]) == ("east", "5")
    assert (second.said["topic"], second.said["partition"], second.said["offset"]) == ("two", "3", "70")
    assert second.said["version"] == __version__


def test_rejects_of_several_relays_say_where_they_are_from() -> None:
    sent = [Sent(b"", headers=((RELAYED_HEADER, said),)) for said in (b"0 7 0 a", b"1 7 0 b")]
    came = arrived("west.copies", *sent)
    found = read_rejects(rejected.block(contents(came, [sent], [1, 0]), "shop.ingest", SAID))
    assert [(one.said["pathway"], one.said["topic"], one.said["partition"]) for one in found] == [
        ("west", "a", "0"),
        ("west", "b", "1"),
    ]


@pytest.mark.parametrize("error", [ValueError("what\tit says"), ValueError("a lone \ud800")])
def test_a_record_that_nothing_can_be_said_of_is_where_it_stands(error: ValueError) -> None:
    headers = (("a", None), ("a", b"\xff"), ("ü", b""))
    packs = [[Sent(b"1234"), Sent(b"{}", b"k", headers, -5, 9, b"whole"), Sent(None, None, (), 7), Sent(b"v")]]
    singles = split(columns(packs))
    found = [rejected.content_of(one, error, Origin("east", "one", 3, 9)) for one in singles[1:]]
    one, null, here = read_rejects(rejected.block(found, "shop.ingest", SAID))
    assert (one.pack, one.start, one.size, one.key, one.value) == (0, 4, 5, b"k", None)
    assert one.own == [*headers]
    assert one.said == {
        "pathway": "east", "topic": "one", "partition": "3", "offset": "9", "reason": "internal_error",
        "timestamp": "-5", "detail": one.said["detail"], "job": "shop.ingest", "version": __version__,
    }  # fmt: skip
    assert one.said["detail"].isprintable() and one.said["detail"].startswith("ValueError: ")
    assert (null.pack, null.start, null.size, null.value, null.own) == (-1, 0, 0, None, [])
    assert (here.pack, here.start, here.size, here.value) == (-1, 0, 0, b"v")


@given(st.lists(records, min_size=1, max_size=8), st.sampled_from([-(1 << 63), 0, (1 << 63) - 1]))
def test_records_that_are_too_old(sent: list[Sent], watermark: int) -> None:
    found = read_rejects(rejected.block([rejected.too_old(accepted(arrived("one", *sent))[0], watermark)], "j", SAID))
    for row, (one, of) in enumerate(zip(sent, found, strict=True)):
        assert (of.pack, of.start, of.size, of.key, of.value) == (-1, 0, 0, one.key, one.value)
        assert of.headers[: len(one.headers)] == [*one.headers]
        assert of.said == {
            "pathway": "east", "topic": "one", "partition": "3", "offset": str(one.offset), "reason": "beyond_horizon",
            "timestamp": str(one.kafka_ms), "detail": f"event time {1000 + row}, watermark {watermark}", "job": "j",
            "version": __version__,
        }  # fmt: skip


def test_nothing_is_a_block_too() -> None:
    assert read_rejects(rejected.block([], "shop.job", SAID)) == []


def test_a_batch_that_is_all_rejected_takes_no_time() -> None:
    sent = [Sent(b"broken" * 20, b"key", (("trace", b"abc"),), offset=row) for row in range(100_000)]
    packs = [sent[at : at + 251] for at in range(0, len(sent), 251)]
    found = unpack(*columns(packs))
    source = np.full(len(sent), sources(INLETS).index("one"))
    came = arrive(found, source, np.full(len(sent), 3), INLETS)
    refused = [Rejected(row, "not_json", "unexpected character: line 1 column 1 (char 0)") for row in range(len(sent))]
    began = time.thread_time()
    of_batch = rejected.contents(refused, came, Whole(found.pack, found.starts()), found.size)
    block = rejected.block(of_batch, "shop.aggregate", AGGREGATE)
    took = time.thread_time() - began
    assert int.from_bytes(block[8:12], "little") == len(sent)
    assert took < 1.5, f"{took:.2f} s"
