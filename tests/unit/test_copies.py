"""Blocks of copies hold what the records held, and what ingest says of them."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surecount import __version__
from tests.unit.packing import Sent, records
from tests.unit.test_records import accepted, arrived, sent_of
from udfs import copies
from udfs.headers import RELAYED_HEADER
from udfs.records import Records

Copy = tuple[int, bytes | None, bytes | None, list[tuple[bytes, bytes | None]]]
"""Timestamp, key, value and headers."""


def read(block: bytes) -> list[Copy]:
    """The records of a block, read one number after the other."""
    at = 0

    def numbers(count: int, kind: str) -> list[Any]:
        nonlocal at
        found = struct.unpack_from(f"<{count}{kind}", block, at)
        at += struct.calcsize(f"<{count}{kind}")
        return [*found]

    def texts(lengths: list[int]) -> list[Any]:
        nonlocal at
        found: list[bytes | None] = []
        for length in lengths:
            found.append(None if length < 0 else block[at : at + length])
            at += max(length, 0)
        return found

    magic, layout, n, s, m, h = numbers(6, "i")
    assert (magic, layout) == (0x4F434353, 4)
    of_shared, of_columns = numbers(2 * s, "i"), numbers(m, "i")
    timestamps, *columns = (numbers(n, "q") for _ in range(1 + m))
    of_keys, of_values, counts = (numbers(n, "i") for _ in range(3))
    of_names, of_contents = numbers(h, "i"), numbers(h, "i")
    shared = texts(of_shared)
    names, keys, values = texts(of_columns), texts(of_keys), texts(of_values)
    own = [*zip(texts(of_names), texts(of_contents), strict=True)]
    assert at == len(block) and sum(counts) == h
    found: list[Copy] = []
    for row in range(n):
        headers, own = own[: counts[row]], own[counts[row] :]
        headers += zip(shared[::2], shared[1::2], strict=True)
        headers += [(name, b"%d" % column[row]) for name, column in zip(names, columns, strict=True)]
        found.append((timestamps[row], keys[row], values[row], headers))
    return found


def given_headers(one: Sent) -> list[tuple[bytes, bytes | None]]:
    return [(name.encode(), value) for name, value in one.headers]


headers = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), st.text(max_size=5), max_size=3)


@given(st.lists(records, max_size=8), headers, st.lists(st.integers(-(1 << 63), (1 << 63) - 1)), st.integers(0, 3))
def test_any_records_with_any_headers(
    sent: list[Sent], shared: dict[str, str], numbers: list[int], skipped: int
) -> None:
    whole = accepted(arrived("one", *[Sent(b"not", b"of", (("the", b"se"),))] * 3, *sent))[0]
    whole = Records(whole.batch.slice(skipped), whole.places)
    sent = sent_of(whole)
    column = np.resize(np.array([*numbers, 0]), len(sent))
    found = read(copies.block(whole, shared, {"n": column, "": -column}))
    of_all = [(name.encode(), text.encode()) for name, text in shared.items()]
    assert [(key, value, own) for _, key, value, own in found] == [
        (one.key, one.value, [*given_headers(one), *of_all, (b"n", b"%d" % n), (b"", b"%d" % minus)])
        for one, n, minus in zip(sent, column.tolist(), (-column).tolist(), strict=True)
    ]


@pytest.mark.parametrize(
    ("kafka_ms", "written"),
    [
        *[(ms, ms) for ms in (31_536_000_000, 1_767_225_600_000, 253_370_764_799_999)],
        *[(ms, 0) for ms in (-(1 << 63), -1, 0, 31_535_999_999, 253_370_764_800_000, (1 << 63) - 1)],
    ],
)
def test_only_a_time_is_written_as_a_timestamp(kafka_ms: int, written: int) -> None:
    [block] = copies.blocks(accepted(arrived("one", Sent(kafka_ms=kafka_ms)))[0], 0)
    assert [timestamp for timestamp, *_ in read(block)] == [written]


@pytest.mark.parametrize("watermark", [0, 1_767_225_600_000, (1 << 63) - 1, -1, -(1 << 63)])
def test_copies_say_where_they_are_from_and_how_far_ingest_was(watermark: int) -> None:
    own = (("own", b"\xff"), ("own", None))
    topics = [b"a", b"b", b"a"]
    sent = [
        Sent(b"%d" % n, headers=(*own, (RELAYED_HEADER, b"2 %d 5 %s" % (n, topic)))) for n, topic in enumerate(topics)
    ]
    whole = accepted(arrived("west.copies", *sent))[0]
    found = [one for block in copies.blocks(whole, watermark) for one in read(block)]
    said = [] if watermark < 0 else [(b"surecount.watermark", b"%d" % watermark)]
    assert [(value, headers) for _, _, value, headers in found] == [
        (
            b"%d" % n,
            [
                *((b"own", b"\xff"), (b"own", None)),
                *((b"surecount.pathway", b"west"), (b"surecount.topic", topics[n])),
                *((b"surecount.version", __version__.encode()), *said),
                *((b"surecount.partition", b"2"), (b"surecount.offset", b"%d" % n)),
            ],
        )
        for n in (0, 2, 1)
    ]


def test_blocks_are_small() -> None:
    whole = accepted(arrived("one", *[Sent(b"v" * (1 << 20))] * 9, *[Sent(b"")] * 4_500))[0]
    blocks = [*copies.blocks(whole, 0)]
    assert max(map(len, blocks)) < (4 << 20) + 2_000 * 40
    assert [len(read(block)) for block in blocks] == [4, 4, 2_000, 2_000, 501]
    assert [*copies.blocks(Records(whole.batch.slice(0, 0), whole.places), 0)] == []
