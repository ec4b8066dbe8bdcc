"""The answers that ``surecount generate`` announces are those of the records that it makes."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surecount import config
from surecount.errors import SurecountError
from surecount.generator.answers import expected
from surecount.generator.layout import Layout
from surecount.generator.options import Options, parse_start
from surecount.generator.plan import Plan, plan

NOW = 1_900_000_000_000

SUMS: list[Any] = [
    "amount",
    {"field": "paid.tax", "type": "decimal", "scale": 2},
    {"field": "paid.tip", "type": "float"},
]


def pipeline(window: str = "1 min", further: list[Any] | None = None, **source: Any) -> config.Pipeline:
    first = {"name": "first", "key": ["customer", "country"], "sum": SUMS, "window": window}
    return config.parse(
        {
            "name": "shop",
            "source": {"topics": ["shop.orders"], "event_time": {"field": "at.ts"}, **source},
            "aggregate": [first, *(further or [])],
        },
        "test",
    )


def at(record: dict[str, Any], path: str) -> Any:
    for part in path.split("."):
        record = record[part]
    return record


def records(layout: Layout, run: Plan) -> list[dict[str, Any]]:
    values = layout.values(np.arange(run.events))
    return [json.loads(value, parse_float=Decimal) for value in values]


runs = st.builds(
    lambda keys, rounds, rest, **more: Options(keys * rounds + rest % keys, keys, **more),
    keys=st.integers(1, 60),
    rounds=st.integers(1, 60),
    rest=st.integers(0, 59),
    per_window=st.integers(1, 12),
)


@settings(deadline=None)
@given(
    runs,
    st.sampled_from(["1 s", "7 s", "1 min", "1 h"]),
    st.integers(1, 3),
    st.sampled_from(["ms", "us", "ns"]),
)
def test_every_full_window_has_the_announced_answer(options: Options, window: str, times: int, unit: str) -> None:
    wide = f"{config.parse_duration(window) * times} ms"
    further = [
        {"name": "places", "key": ["country", "category"], "sum": ["amount"], "window": wide},
        {"name": "customers", "key": ["customer"], "sum": SUMS[1:], "window": wide},
    ]
    shop = pipeline(window, further, event_time={"field": "at.ts", "unit": unit})
    run = plan(shop, options, NOW)
    made = records(Layout(run, seed=0), run)
    per_ms = {"ms": 1, "us": 1_000, "ns": 1_000_000}[unit]
    for aggregate, answer in zip(run.spec.aggregates, expected(run).answers, strict=True):
        counts: Counter[Any] = Counter()
        sums: defaultdict[Any, Decimal] = defaultdict(Decimal)
        for record in made:
            ms = record["at"]["ts"] // per_ms
            start = ms - ms % aggregate.window_ms
            if answer.start_ms <= start < answer.end_ms:
                key = (*(at(record, field.path) for field in aggregate.key), start)
                counts[key] += 1
                for field in aggregate.sums:
                    sums[(*key, field.path)] += at(record, field.path)
        assert len(counts) == answer.keys * answer.windows
        assert set(counts.values()) <= {answer.count}
        for (*_, path), total in sums.items():
            assert total == answer.sums[path]


@settings(deadline=None)
@given(runs)
def test_no_window_is_left_out_and_events_end_before_now(options: Options) -> None:
    run = plan(pipeline(), options, NOW)
    times = run.times(np.arange(run.events))
    answer = expected(run).answers[0]
    assert answer.windows == options.events // (run.keys * options.per_window)
    assert (np.diff(times) >= 0).all()
    assert times[0] == run.start_ms == answer.start_ms
    assert times[0] % run.window_ms == 0
    assert times[-1] < NOW // run.window_ms * run.window_ms


@given(
    st.sampled_from([1, 3, 10, 100, 250]),
    st.floats(0.1, 100_000, allow_nan=False),
    st.sampled_from(["1 s", "1 min", "1 h"]),
)
def test_a_rate_is_kept_as_far_as_whole_rounds_allow(keys: int, rate: float, window: str) -> None:
    in_window = rate * config.parse_duration(window) / 1_000
    options = Options(10_000, keys, rate=rate)
    if in_window < keys * (1 - 1e-9):
        with pytest.raises(SurecountError, match="too few for each of --keys"):
            plan(pipeline(window), options, NOW)
        return
    run = plan(pipeline(window), options, NOW)
    assert run.per_window == pytest.approx(in_window / keys, abs=1)
    assert run.events_per_window <= in_window * (1 + 1e-9) + 1e-6
    assert run.start_ms <= NOW < run.start_ms + run.window_ms
    exact = abs(run.events_per_window - in_window) <= 1e-6 * in_window
    assert exact or "instead of" in " ".join(run.notes)


def test_keys_and_windows_are_chosen_so_that_there_are_full_ones() -> None:
    for events in (100, 1_000, 10_000, 1_000_000):
        answer = expected(plan(pipeline(), Options(events), NOW)).answers[0]
        assert answer.windows >= 1
        assert answer.keys == min(1_000, events // 100)
    assert plan(pipeline("1 s"), Options(1_000_000, rate=50), NOW).keys == 10


def test_answers_read_well() -> None:
    further = [{"name": "seconds", "key": ["country"], "window": "10 s"}]
    run = plan(pipeline(further=further), Options(200_000, start_ms=parse_start("2026-01-31T00:00:00Z")), NOW)
    assert str(expected(run)).splitlines() == [
        "first: 1,000 keys × 20 full windows of 1 min (2026-01-31T00:00:00Z to 2026-01-31T00:20:00Z), "
        "each: count 10, sum of amount 55, sum of paid.tax 1.10, sum of paid.tip 41.25",
        "seconds: 10 keys, windows of 10 s are no multiple of 1 min, so they don't all hold the same",
    ]


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ({"decode": "udfs.mine:decode"}, {}, "only that function knows"),
        ({}, {"start_ms": NOW - 1_000}, "event times ahead of the clock"),
        ({}, {"start_ms": NOW + 120_000, "rate": 10.0, "keys": 1}, "event times ahead of the clock"),
        ({}, {"events": 10**9, "keys": 1, "per_window": 1}, "before 1970"),
    ],
)
def test_runs_without_an_answer_are_refused(source: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(SurecountError, match=message):
        plan(pipeline(**source), Options(**{"events": 1_000, **options}), NOW)


def test_a_field_in_two_roles_is_refused() -> None:
    by_amount = {"name": "by_amount", "key": [{"field": "amount", "type": "int"}], "window": "1 min"}
    with pytest.raises(SurecountError, match="'amount' is used in two ways"):
        plan(pipeline(further=[by_amount]), Options(10), NOW)


def test_whole_seconds_need_windows_of_whole_seconds() -> None:
    shop = pipeline("1500 ms", event_time={"field": "ts", "unit": "s"})
    with pytest.raises(SurecountError, match="whole seconds don't fit windows of 1500 ms"):
        plan(shop, Options(10), NOW)


def test_what_may_surprise_is_noted() -> None:
    options = Options(1_000, disorder_ms=5_000, duplicates=0.1, start_ms=60_001)
    notes = " / ".join(plan(pipeline(), options, NOW).notes)
    assert "--disorder 5 s is not below source.out_of_orderness = 5 s" in notes
    assert "without source.event_id" in notes
    assert "starts 1 ms before --start" in notes
    assert plan(pipeline(event_id="id"), Options(1_000, duplicates=0.1, disorder_ms=4_999), NOW).notes == ()


def test_copies_on_pathways_are_noted_where_nothing_tells_them_apart() -> None:
    pathways = [{"name": name, "topics": [name]} for name in ("east", "west")]

    def notes(start_ms: int | None = None, **source: Any) -> str:
        options = Options(1_000, pathway="east", start_ms=start_ms)
        return " / ".join(plan(pipeline(topics=[], pathway=pathways, **source), options, NOW).notes)

    assert "an event counts once for each pathway" in notes()
    assert notes(event_id="id") == "without --start a run on another pathway makes other events"
    assert notes(event_id="id", start_ms=60_000) == ""


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (
            {"event_id": [{"field": "at.ts", "type": "int"}, "customer"]},
            {},
            r"event_id = at\.ts, customer: .* would repeat",
        ),
        ({"event_id": "id", "check": [{"field": "id", "one_of": ["a", "b"]}]}, {}, "would repeat"),
        (
            {"event_id": {"field": "id", "type": "int"}, "check": [{"field": "id", "min": 1, "max": 99}]},
            {},
            "--events 100: the checks of 'id', an event id, let 99 values pass",
        ),
        ({"check": [{"field": "at.ts", "min": 61_000}]}, {"start_ms": 60_000}, "'at.ts' does not go with .* 60000 to "),
        ({"check": [{"field": "amount", "max": 9}]}, {}, "check of 'amount' does not go with .* are 1 to 10"),
        ({"check": [{"field": "amount", "one_of": [*range(1, 10), 11]}]}, {}, "check of 'amount'"),
        ({"check": [{"field": "paid.tax", "max": "0.19"}]}, {}, r"check of 'paid\.tax' .* are 0\.02 to 0\.20"),
        ({"check": [{"field": "paid.tip", "min": 0.8}]}, {}, r"check of 'paid\.tip' .* are 0\.75 to 7\.5"),
        ({"check": [{"field": "customer", "one_of": ["ada"]}]}, {"keys": 2}, "--keys 2: .* 'customer' let 1 values"),
        (
            {"check": [{"field": "note", "one_of": ["a"]}, {"field": "note", "one_of": ["b"]}]},
            {},
            "no value of 'note' passes all of its checks",
        ),
        ({"event_id": "id", "horizon": "1 min"}, {"late": 0.1}, "--late: .* are beyond source.horizon = 1 min"),
        ({"event_id": "id", "horizon": "1 s"}, {"disorder_ms": 7_000}, "--disorder: events up to 2 s behind"),
    ],
)
def test_what_would_break_the_answers_is_refused(source: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(SurecountError, match=message):
        plan(pipeline(**source), Options(100, **options), NOW)


def test_checks_that_the_amounts_and_times_pass_are_fine() -> None:
    checks = [
        {"field": "amount", "one_of": [*range(1, 11)]},
        {"field": "paid.tax", "min": "0.02", "max": "0.20"},
        {"field": "paid.tip", "min": 0.75, "max": 7.5},
        {"field": "at.ts", "min": 60_000},
        {"field": "customer", "one_of": ["ada", "bob", "eve", "bob"]},
    ]
    run = plan(pipeline(check=checks), Options(1_000, start_ms=60_000), NOW)
    assert run.keys == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"events": 0}, "--events 0 is outside of 1 to"),
        ({"events": 5, "keys": 6}, "--keys 6 is outside of 1 to 5"),
        ({"late": 1.5}, "--late 1.5 is no fraction"),
        ({"late": 0.6}, "--late 0.6 is over 0.5"),
        ({"bad": float("nan")}, "--bad nan is no fraction"),
        ({"duplicates": -0.1}, "--duplicates -0.1 is no fraction"),
        ({"rate": 0.0}, "--rate 0 is outside"),
        ({"rate": float("inf")}, "--rate inf is outside"),
        ({"disorder_ms": 86_400_001}, "--disorder 86400001 ms is outside"),
        ({"partitions": 0}, "--partitions 0 is outside"),
        ({"start_ms": -1}, "--start is before 1970"),
        ({"seed": -1}, "--seed -1 is outside"),
        ({"huge": True}, "--huge is one kind of bad record"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SurecountError, match=message):
        Options(**{"events": 10, **options})


def test_start_is_read_exactly() -> None:
    assert parse_start("1970-01-01T00:00:00.001Z") == 1
    assert parse_start("2026-01-31T01:00:00+01:00") == parse_start("2026-01-31") == 1_769_817_600_000
    with pytest.raises(SurecountError, match="'yesterday' is no time"):
        parse_start("yesterday")
