"""Events of measurements: their answers are what counting them one by one gives, and what is not them is told."""

from __future__ import annotations

import json
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.events import SENTINEL, Events, Results, key_name, values

EVENTS = st.builds(
    Events,
    count=st.integers(1, 500),
    keys=st.integers(1, 30),
    per_window=st.integers(1, 10),
    size=st.sampled_from([0, 200]),
    aggregates=st.integers(1, 3),
)
START_MS = 1_800_000_000_000 // 60_000 * 60_000


def counted(events: Events) -> dict[tuple[int, str, int], tuple[int, int]]:
    found: dict[tuple[int, str, int], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for ms, value in values(events, START_MS):
        event = json.loads(value)
        assert event["ts"] == ms
        assert not events.size or abs(len(value) - events.size) <= 3
        for aggregate in range(events.aggregates):
            place = aggregate, event[f"key_{aggregate}" if aggregate else "key"], ms - ms % events.window_ms
            count, total = found[place]
            found[place] = count + 1, total + event["amount"]
    return found


def said(events: Events, found: dict[tuple[int, str, int], tuple[int, int]]) -> Results:
    results = Results(events, START_MS)
    for (aggregate, key, start_ms), (count, total) in found.items():
        results.add(aggregate, key, start_ms, count, total)
    return results


@given(EVENTS)
def test_answers_are_those_of_a_plain_count(events: Events) -> None:
    results = said(events, counted(events))
    assert results.missing == 0
    assert results.wrong() == ""


@given(EVENTS, st.data())
def test_what_differs_is_told(events: Events, data: st.DataObject) -> None:
    found = counted(events)
    place = data.draw(st.sampled_from(sorted(found)))
    count, total = found.pop(place)
    without = said(events, found)
    assert (without.missing, without.wrong()) == (1, "1 missing")
    without.add(*place, count + 1, total)
    assert (without.missing, without.wrong()) == (0, "1 wrong")
    without.add(*place, count, total)
    assert without.wrong() == "1 more than once"


@given(EVENTS)
def test_what_sentinels_gave_is_no_result(events: Events) -> None:
    results = said(events, counted(events))
    after = START_MS + events.windows * events.window_ms
    results.add(0, SENTINEL, after, 1, 0)
    results.add(0, key_name(0), after + events.window_ms, 1, 0)
    assert results.wrong() == ""
