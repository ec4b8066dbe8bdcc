"""A pathway's cluster is killed with -9 and comes back: nothing restarts, nothing stalls, nothing is lost."""

from __future__ import annotations

from benchmarks.outage import measure


def test_a_pathway_that_is_killed_holds_nothing_up_and_loses_nothing() -> None:
    seen = measure(rate=2_000, before_s=10, away_s=15, after_s=15, idle_after_s=10)
    assert seen.restarts == {"relay.west": 0, "ingest": 0, "aggregate": 0}
    assert 0 < seen.gap.seconds <= seen.allowed_s
    assert seen.report.balanced, seen.report.summary()
    ingest = seen.report.ingest
    assert ingest is not None
    assert (ingest.total.raw_in, ingest.total.clean) == (2 * seen.events, seen.events)
    assert ingest.total.duplicates == seen.events
