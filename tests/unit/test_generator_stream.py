"""The order of generated records: nothing lost or doubled, late and shuffled events within their bounds."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from surecount import config
from surecount.generator import stream as module
from surecount.generator.options import Options
from surecount.generator.plan import Plan, plan
from surecount.generator.stream import COPY, LATE, ON_TIME, Chances, Records, stream

NOW = 1_900_000_000_000
OUT_OF_ORDERNESS = 5_000


def run_of(options: Options) -> Plan:
    data = {
        "name": "shop",
        "source": {"topics": ["shop.orders"], "event_time": {"field": "ts"}, "event_id": "id"},
        "aggregate": [{"name": "a", "key": ["customer"], "sum": ["amount"], "window": "10 s"}],
    }
    return plan(config.parse(data, "test"), options, NOW)


def sent(options: Options, block: int = 128) -> Records:
    """All records of a run, made in small blocks so that several are at work."""
    with patch.object(module, "BLOCK", block):
        parts = [*stream(run_of(options), Chances.of(options))]
    return Records(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


fractions = st.sampled_from([0.0, 0.01, 0.1, 0.3])
all_options = st.builds(
    lambda keys, rounds, **more: Options(keys * rounds, keys, **more),
    keys=st.integers(1, 20),
    rounds=st.integers(1, 200),
    seed=st.integers(0, 2**63 - 1),
    late=fractions,
    bad=fractions,
    duplicates=fractions,
    disorder_ms=st.sampled_from([0, 1, 500, 3_000, 20_000]),
)


@settings(deadline=None)
@given(all_options)
def test_every_event_is_sent_once_and_extras_are_extra(options: Options) -> None:
    records = sent(options)
    events = records.event[(records.kind == ON_TIME) | (records.kind == LATE)]
    assert np.array_equal(np.sort(events), np.arange(options.events))
    assert len(np.unique(records.event[records.kind == COPY])) == np.count_nonzero(records.kind == COPY)
    bad = records.kind[records.kind >= 0]
    assert np.array_equal(bad, np.arange(len(bad)))
    assert (np.diff(records.send_ms) >= 0).all()


@settings(deadline=None)
@given(all_options)
def test_the_same_arguments_give_the_same_records(options: Options) -> None:
    for one, other in zip(sent(options), sent(options), strict=True):
        assert np.array_equal(one, other)


def test_another_seed_gives_another_order() -> None:
    one, other = (sent(Options(2_000, 10, seed=seed, disorder_ms=3_000)) for seed in (1, 2))
    assert not np.array_equal(one.event, other.event)


@settings(deadline=None)
@given(all_options)
def test_disorder_stays_within_its_bound(options: Options) -> None:
    records = sent(options)
    times = run_of(options).times(records.event)
    on_time = times[records.kind == ON_TIME]
    behind = np.maximum.accumulate(on_time) - on_time
    assert (behind < max(1, options.disorder_ms)).all()
    assert (records.send_ms >= times).all()


@settings(deadline=None)
@given(all_options)
def test_late_events_come_when_their_window_has_closed(options: Options) -> None:
    records, run = sent(options), run_of(options)
    times = run.times(records.event)
    newest = np.maximum.accumulate(np.where(records.kind == ON_TIME, times, 0))
    surely = (records.kind == LATE) & (records.send_ms < run.end_ms)
    window_end = times - times % run.window_ms + run.window_ms
    assert (newest[surely] - OUT_OF_ORDERNESS > window_end[surely]).all()


@settings(deadline=None)
@given(all_options)
def test_copies_follow_their_original_soon(options: Options) -> None:
    records, run = sent(options), run_of(options)
    original = {
        int(event): (place, int(send))
        for place, (event, send, kind) in enumerate(zip(*records, strict=True))
        if kind in (ON_TIME, LATE)
    }
    for place, (event, send, kind) in enumerate(zip(*records, strict=True)):
        if kind == COPY:
            first, sent_at = original[int(event)]
            assert first < place
            assert send - sent_at <= run.copy_within_ms


@settings(deadline=None)
@given(all_options, st.sampled_from(["late", "bad", "duplicates"]))
def test_an_option_changes_nothing_but_its_own(options: Options, other: str) -> None:
    without = Options(**{**vars(options), other: 0.0})
    before, after = sent(without), sent(options)
    for kind in (ON_TIME, COPY):
        kept = after.event[after.kind == kind]
        was = before.event[before.kind == kind]
        if other == "late":
            assert np.isin(kept, was).all()
        elif not (other == "duplicates" and kind == COPY):
            assert np.array_equal(kept, was)


def test_fractions_are_met() -> None:
    records = sent(Options(200_000, 100, late=0.01, bad=0.02, duplicates=0.03), block=module.BLOCK)
    for share, mask in (
        (0.01, records.kind == LATE),
        (0.02, records.kind >= 0),
        (0.03, records.kind == COPY),
    ):
        assert abs(np.count_nonzero(mask) / 200_000 - share) < 0.002
