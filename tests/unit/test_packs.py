"""Packs come apart into the records that they were made of."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.packing import Sent, batch, columns, records, unpacked
from udfs.packs import read_batch, unpack


@given(st.lists(st.lists(records, min_size=1, max_size=5), min_size=1, max_size=5))
def test_records_are_what_they_were(packs: list[list[Sent]]) -> None:
    expected = [(row, record) for row, pack in enumerate(packs) for record in pack]
    assert unpacked(unpack(*columns(packs))) == expected


@given(st.lists(st.lists(records, min_size=1, max_size=3), min_size=2, max_size=5), st.data())
def test_a_part_of_a_batch_is_read_as_the_whole(packs: list[list[Sent]], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(packs) - 1))
    part = [column.slice(first) for column in columns(packs)]
    assert unpacked(unpack(*part)) == [(row, record) for row, pack in enumerate(packs[first:]) for record in pack]


def test_where_values_stood_before_they_were_projected() -> None:
    packs = [[Sent(b"a"), Sent(None), Sent(b"", whole=b"bcd"), Sent(b"e")], [Sent(b""), Sent(b"f", whole=b"fg")]]
    found = unpack(*columns(packs))
    assert found.size.tolist() == [1, -1, 3, 1, 0, 2]
    assert found.starts().tolist() == [0, 1, 1, 4, 0, 0]


@given(st.lists(st.lists(records, max_size=4), max_size=4), st.integers(-(1 << 31), (1 << 31) - 1))
def test_a_batch_is_the_packs_that_it_was_made_of(packs: list[list[Sent]], number: int) -> None:
    read = read_batch(batch(packs, number=number, source=2, partition=7))
    assert (read.number, read.source.tolist(), read.partition.tolist()) == (number, [2] * len(packs), [7] * len(packs))
    assert unpacked(unpack(*read.columns)) == [(row, record) for row, pack in enumerate(packs) for record in pack]


@pytest.mark.parametrize("cut", [0, 3, 15, 16, 40, -1])
def test_a_batch_that_was_cut_is_refused(cut: int) -> None:
    data = batch([[Sent(b"value")]])
    with pytest.raises(ValueError):
        read_batch(data[:cut])


@pytest.mark.parametrize("broken", [1, 2, 3, 4])
def test_columns_that_contradict_one_another_are_refused(broken: int) -> None:
    given_ = columns([[Sent(b"value", b"key", (("name", b"value"),))]])
    given_[broken] = pa.array([given_[broken][0].as_py() + b"\0" * 8], pa.binary())
    with pytest.raises(ValueError, match="packs of"):
        unpack(*given_)
