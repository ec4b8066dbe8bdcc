"""The residual ledger against a plain model that keeps everything."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from operator import itemgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surecount.audit import exact
from surecount.audit.ledger import AggregateLedger, WindowRecount
from surecount.audit.outputs import Found
from surecount.audit.rejects import CHUNK, Reject, RejectLedger, RejectRecount
from surecount.audit.truth import AggregatePlan
from udfs.spec import Field

SIZE = 10
INTS = AggregatePlan(
    "ints", SIZE, (Field("who", "string"),), (Field("n", "int"), Field("m", "int")), itemgetter(slice(1, 2)), (2, 3)
)
FLOATS = AggregatePlan("floats", SIZE, INTS.keys, (Field("x", "float"),), itemgetter(slice(1, 2)), (2,))
COUNTS = AggregatePlan("counts", SIZE, INTS.keys, (), itemgetter(slice(1, 2)), ())


def found(start: int, who: str, records: int, *sums: float) -> Found:
    return Found(0, (who,), start, records, sums, 0)


def weights(*records: tuple[int, str, float]) -> list[tuple[object, ...]]:
    return [(time, who, exact.float_units(x)) for time, who, x in records]


ROWS = st.tuples(st.integers(0, 29), st.sampled_from("ab"), st.integers(-3, 3), st.integers(0, 1))
FOUND = st.builds(
    found, st.sampled_from([0, 10, 20]), st.sampled_from("ab"), st.integers(1, 3), st.integers(-3, 3), st.integers(0, 1)
)


@given(st.lists(st.lists(ROWS, max_size=5) | FOUND, max_size=20), st.booleans())
def test_what_is_left_is_what_differs(steps: list[list[tuple[object, ...]] | Found], bounded: bool) -> None:
    ledger = AggregateLedger(INTS)
    model: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    closed_through = 0
    for step in steps:
        if isinstance(step, Found):
            ledger.add_correction(step)
            change = [-step.records, *(-int(s) for s in step.sums)]
            changes = [((step.start, step.key[0]), change)]
            closed_through = max(closed_through, step.start + SIZE)
        else:
            ledger.add_rows(step)
            changes = [((t // SIZE * SIZE, who), [1, n, m]) for t, who, n, m in step]
        for window, change in changes:
            model[window] = [a + b for a, b in zip(model[window], change, strict=True)]
    left = {window: entry for window, entry in model.items() if any(entry)}
    uneven = sorted((s, (w,)) for s, w in left if bounded or s + SIZE <= closed_through)
    still_open = [entry for (s, _), entry in left.items() if not bounded and s + SIZE > closed_through]
    closing = ledger.close(bounded=bounded, limit=3)
    assert (closing.uneven, closing.uneven_count) == (uneven[:3], len(uneven))
    assert closing.open_windows == len(still_open)
    assert [closing.open.count, *closing.open.sums] == [sum(e[i] for e in still_open) for i in range(3)]
    assert ledger.entries == len(left)


def test_memory_is_for_open_windows() -> None:
    ledger = AggregateLedger(COUNTS)
    for start in range(0, 10_000, SIZE):
        ledger.add_rows([(start + i, "a") for i in range(SIZE)])
        assert ledger.entries <= 2
        if start:
            assert ledger.add_result(found(start - SIZE, "a", SIZE), 0) is None
    assert ledger.entries == 1
    assert ledger.input.count - ledger.results.count == SIZE


@pytest.mark.parametrize(
    ("placed", "disorders"),
    [
        ([(0, 0), (10, 0), (20, 0)], [None, None, None]),
        ([(0, 0), (0, 0)], [None, "doubled"]),
        ([(10, 0), (0, 0)], [None, "out_of_order"]),
        ([(10, 1), (0, 0), (20, 1), (10, 0)], [None, None, None, None]),
        ([(10, 1), (0, 0), (20, 1), (10, 1)], [None, None, None, "out_of_order"]),
    ],
)
def test_results_of_a_key_are_in_order_within_a_partition(
    placed: list[tuple[int, int]], disorders: list[str | None]
) -> None:
    ledger = AggregateLedger(COUNTS)
    assert [ledger.add_result(found(start, "a", 1), partition) for start, partition in placed] == disorders


def test_a_correction_closes_its_window_too() -> None:
    ledger = AggregateLedger(COUNTS)
    ledger.add_rows([(1, "a"), (2, "a"), (11, "a")])
    ledger.add_correction(found(0, "a", 1))
    closing = ledger.close(bounded=False, limit=3)
    assert closing.uneven == [(0, ("a",))]
    assert (closing.open.count, closing.open_windows) == (1, 1)


@given(
    st.lists(st.floats(-1e9, 1e9) | st.sampled_from([0.1, 1e16, 1e-300]), min_size=1, max_size=10), st.integers(0, 9)
)
def test_float_sums_are_even_up_to_the_rounding_of_each_part(values: list[float], late: int) -> None:
    ledger = AggregateLedger(FLOATS)
    ledger.add_rows(weights(*((1, "a", value) for value in values)))
    for group in (values[:late], values[late:]):
        if group:
            ledger.add_correction(found(0, "a", len(group), float(sum(map(Fraction, group), Fraction()))))
    assert ledger.entries == 0


def test_a_float_that_is_off_by_one_step_is_uneven() -> None:
    ledger = AggregateLedger(FLOATS)
    ledger.add_rows(weights((1, "a", 0.1), (2, "a", 0.2)))
    ledger.add_result(found(0, "a", 2, 0.3), 0)
    assert ledger.close(bounded=False, limit=1).uneven_count == 1


def test_the_second_look_has_the_last_word_on_floats() -> None:
    # 0.3 and 0.1 differ by less than what rounding may do to 1e16, so after the second step the entry looks even.
    steps = [
        weights((1, "a", 1e16), (2, "a", 0.3)),
        found(0, "a", 2, 1e16),
        weights((3, "a", 0.1)),
        found(0, "a", 1, 0.3),
    ]
    ledger, recount = AggregateLedger(FLOATS), WindowRecount(FLOATS, [(0, ("a",))])
    for step in steps:
        if isinstance(step, Found):
            ledger.add_correction(step)
            recount.add_output(step)
        else:
            ledger.add_rows(step)
            recount.add_rows(step)
    assert ledger.close(bounded=True, limit=1).uneven == [(0, ("a",))]
    assert recount.uneven() == []


REJECTS = st.builds(
    Reject,
    st.sampled_from(["t", "u"]),
    st.integers(0, 1),
    st.sampled_from([0, 1, CHUNK - 1, CHUNK]),
    st.sampled_from(["empty", "not_json"]),
    st.integers(0, 1),
)


@given(
    st.lists(REJECTS, unique_by=lambda reject: reject[:3], max_size=8),
    st.lists(REJECTS, max_size=8),
    st.randoms(use_true_random=False),
)
def test_rejects_are_compared_as_multisets(expected: list[Reject], others: list[Reject], order) -> None:  # type: ignore[no-untyped-def]
    for actual in (expected, others, [*expected, *others]):
        ledger = RejectLedger()
        steps = [(ledger.expect, reject) for reject in expected] + [(ledger.find, reject) for reject in actual]
        order.shuffle(steps)
        for book, reject in steps:
            book(reject)
        uneven = {r.chunk for r in {*expected, *actual} if expected.count(r) != actual.count(r)}
        assert ledger.uneven() == sorted(uneven)
        recount = RejectRecount(ledger.uneven())
        for reject in expected:
            recount.expect(reject)
        for reject in actual:
            recount.find(reject)
        named = {(place[0], place[1], place[2] // CHUNK) for place, _, _ in recount.differences()}
        assert named == uneven
