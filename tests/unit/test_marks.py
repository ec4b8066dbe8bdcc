"""Marks: a place in a partition is found again by the records before it, in any copy that has them in their order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from surecount.ops.marks import DEPTH, Mark, Search, digest

RECORDS = st.lists(st.sampled_from("abc"), max_size=60)


def mark_at(records: list[str], place: int) -> Mark:
    """The mark before the record of that number, offsets being numbers."""
    return Mark("t", 0, place, tuple(records[max(0, place - DEPTH) : place]))


def search(mark: Mark, records: list[str], offsets: list[int], first: int = 0) -> Search:
    found = Search(mark, first)
    for offset, record in zip(offsets, records, strict=True):
        found.see(offset, record)
    return found


@given(RECORDS, st.data())
def test_a_place_is_found_in_a_copy_with_other_offsets(records: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(records)))
    gaps = data.draw(st.lists(st.integers(1, 5), min_size=len(records) + 1, max_size=len(records) + 1))
    offsets = [sum(gaps[: at + 1]) for at in range(len(records))]
    found = search(mark_at(records, place), records, offsets, gaps[0])
    assert (offsets[place - 1] + 1 if place else gaps[0]) in found.found
    assert found.records == len(records)


@given(RECORDS, RECORDS, st.data())
def test_it_is_found_nowhere_else_than_after_the_same_records(
    records: list[str], other: list[str], data: st.DataObject
) -> None:
    mark = mark_at(records, data.draw(st.integers(0, len(records))))
    depth = len(mark.before)
    expected = [
        end for end in range(max(1, depth), len(other) + 1) if tuple(other[end - depth : end]) == mark.before and depth
    ]
    assert search(mark, other, list(range(len(other)))).found == (expected if depth else [0])


@given(st.lists(st.sampled_from("ab"), max_size=DEPTH), st.lists(st.sampled_from("ab"), max_size=DEPTH))
def test_a_mark_that_fits_twice_within_its_depth_repeats_itself(before: list[str], more: list[str]) -> None:
    mark = Mark("t", 0, len(before), tuple(before))
    found = search(mark, [*before, *more], list(range(len(before) + len(more))))
    close = [end for end in found.found if len(before) < end < 2 * len(before)]
    assert mark.repeats or not close


def test_with_nothing_before_it_a_mark_is_at_the_beginning_only_where_that_is_known() -> None:
    assert search(Mark("t", 0, 0, ()), [], [], 7).found == [7]
    assert search(Mark("t", 0, 7, ()), [], [], 7).found == [7]
    assert search(Mark("t", 0, 9, ()), [], [], 7).found == []


def test_digests_tell_nothing_from_none_and_where_parts_begin() -> None:
    parts = [
        (None, b"", []),
        (b"", None, []),
        (b"", b"", []),
        (b"ab", b"c", []),
        (b"a", b"bc", []),
        (b"a", b"b", [("c", b"")]),
        (b"a", b"b", [("c", None)]),
        (b"a", b"b", [("c", b""), ("c", b"")]),
        (b"a-", b"b", []),
        (b"a", b"-b", []),
    ]
    assert len({digest(*part) for part in parts}) == len(parts)
