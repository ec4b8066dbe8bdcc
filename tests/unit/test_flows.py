"""What is told of records and windows while a job runs, and what is made of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surecount import config
from surecount.config import Pipeline
from surecount.doctor.ask_flows import flow_of
from surecount.doctor.facts import Flow, Split
from surecount.doctor.flow_rules import Watched, jumped, of_shares, of_watermark
from surecount.ops.flink import Spread
from udfs.flows import Waiting

NOW = 1_800_000_000_000
YEAR = 31_536_000_000


def pipeline(**source: Any) -> Pipeline:
    content = {
        "name": "shop",
        "source": {"topics": ["in"], "event_time": "kafka", **source},
        "aggregate": [{"name": "a", "key": ["k"], "window": "1 min"}],
    }
    return config.parse(content, "test")


SHOP = pipeline()  # out_of_orderness 5 s, max_ahead 60 s, idle_after 30 s
EAST, WEST = ({"name": name, "topics": ["raw"], "bootstrap_servers": f"{name}:9092"} for name in ("east", "west"))
RELAYED = config.parse(
    {
        "name": "shop",
        "source": {"event_time": "kafka", "pathway": [EAST, WEST]},
        "aggregate": [{"name": "a", "key": ["k"], "window": "1 min"}],
    },
    "test",
)
LIVE = Flow(
    watermark_ms=NOW - 5_500,
    splits={"in partition 0": Split(NOW - 5_500, idle=False), "in partition 1": Split(NOW - 5_200, idle=False)},
    rate=100,
    pending=40,
    newest_ms=NOW - 50_000,
    moved_ms=NOW - 300,
)


def watermark(flow: Flow, of: Pipeline = SHOP, *, bounded: bool = False) -> tuple[str, str]:
    (found,) = of_watermark(Watched("shop.aggregate", flow, of, NOW, bounded))
    return found.state, found.seen


def flow(**changes: Any) -> Flow:
    return replace(LIVE, **changes)


STUCK = flow(watermark_ms=NOW - 300_000, since_ms=NOW - 100_000, moved_ms=NOW - 290_000, newest_ms=NOW - 20_000)


def test_a_watermark_in_the_future_is_found_before_all_partitions_have_it() -> None:
    state, seen = watermark(flow(watermark_ms=NOW + 70 * YEAR))
    assert (state, "70" in seen, "in the future" in seen) == ("fail", False, True)
    state, seen = watermark(flow(splits={"in partition 1": Split(NOW + YEAR, idle=False)}))
    assert state == "fail"
    assert "the watermark of in partition 1 is in the future, 2028-01-" in seen
    # As far as clocks may be apart and records ahead of them.
    assert watermark(flow(watermark_ms=NOW + 119_000))[0] == "ok"
    assert watermark(flow(watermark_ms=NOW + 121_000))[0] == "fail"
    assert watermark(flow(watermark_ms=NOW + YEAR), pipeline(max_ahead="365 d"))[0] == "ok"


@pytest.mark.parametrize(
    "healthy",
    [
        LIVE,
        Flow(),  # just started, nothing read
        flow(watermark_ms=None, newest_ms=None),  # restarted, nothing read since
        flow(watermark_ms=NOW - 3 * YEAR, newest_ms=NOW - 3 * YEAR + 40_000),  # old records, a quiet input
        flow(watermark_ms=NOW - 86_400_000, newest_ms=NOW - 86_400_000, moved_ms=NOW - 86_400_000, rate=0, pending=0),
        # Catching up: partitions are read at different speeds, and the watermark moves.
        flow(watermark_ms=NOW - 7_200_000, newest_ms=NOW - 60_000, since_ms=NOW - 600_000, pending=5e6),
        # Has just caught up: the others wait until a partition is idle.
        flow(watermark_ms=NOW - 7_200_000, newest_ms=NOW - 60_000, since_ms=NOW - 40_000, moved_ms=NOW - 40_000),
        # Records of a moment ago, which the watermark has not reached when the worker saw them; then nothing came.
        flow(watermark_ms=NOW - 3_600_000, newest_ms=NOW - 3_610_000, since_ms=NOW - 3_600_000, moved_ms=NOW - YEAR),
    ],
)  # fmt: skip
def test_a_healthy_job_waits_for_nothing(healthy: Flow) -> None:
    assert watermark(healthy)[0] == "ok"


def test_windows_that_wait_for_a_watermark_that_stands_still() -> None:
    state, seen = watermark(STUCK)
    assert state == "fail"
    assert "have had records, for 100 s now" in seen
    assert watermark(replace(STUCK, pending=1e7))[0] == "fail"
    assert watermark(replace(STUCK, watermark_ms=None))[0] == "fail"
    # Windows close at the end of a bounded run.
    assert watermark(STUCK, bounded=True)[0] == "ok"


def test_windows_that_wait_for_a_partition_with_an_old_clock() -> None:
    old = {"in partition 0": Split(NOW - 5_000, idle=False), "in partition 1": Split(NOW - YEAR, idle=False)}
    behind = flow(watermark_ms=NOW - YEAR, since_ms=NOW - 100_000, newest_ms=NOW - 20_000, splits=old)
    state, seen = watermark(behind)
    assert (state, seen.endswith("it waits for in partition 1")) == ("fail", True)
    idle = {**old, "in partition 1": Split(NOW - YEAR, idle=True)}
    assert "it waits for" not in watermark(replace(behind, splits=idle))[1]
    # Where all pathways are relayed, that is so until the late one has caught up; but not for ever.
    assert watermark(behind, RELAYED)[0] == "warn"
    assert watermark(STUCK, RELAYED)[0] == "fail"


def shares(recent: dict[str, int], before: dict[str, int], of: Pipeline = SHOP) -> list[tuple[str, str]]:
    found = of_shares(Watched("shop.aggregate", Flow(recent=recent, before=before), of, NOW))
    return [(finding.state, finding.seen) for finding in found]


USUAL = {"records": 400_000, "rejected_not_json": 4_000, "late_a": 2_000, "duplicates": 800}


@pytest.mark.parametrize(
    ("recent", "said"),
    [
        ({"records": 1_000, "rejected_not_json": 60}, "were rejected as not_json, that is 6.0%; before that it"),
        ({"records": 1_000, "rejected_beyond_horizon": 50}, "50 of the last 1,000 records were rejected as beyond_hor"),
        ({"records": 1_000, "late_a": 400}, "400 of the last 1,000 records came too late for their windows of a"),
        ({"records": 1_000, "duplicates": 900}, "900 of the last 1,000 records were duplicates"),
    ],
)  # fmt: skip
def test_a_share_that_jumps_is_told_by_its_kind(recent: dict[str, int], said: str) -> None:
    ((state, seen),) = shares(recent, USUAL)
    assert (state, said in seen) == ("fail", True), seen


@pytest.mark.parametrize(
    ("recent", "before"),
    [
        ({"records": 6_000, "rejected_not_json": 60}, USUAL),  # as always
        ({"records": 20, "rejected_not_json": 3}, USUAL),  # too few
        ({"records": 20, "rejected_not_json": 20}, USUAL),
        ({"records": 900_000, "rejected_not_json": 9_000}, USUAL),  # more of all
        ({"records": 1_000, "rejected_not_json": 300}, {"records": 900, "rejected_not_json": 0}),  # just started
        ({"records": 1_000, "rejected_not_json": 300}, {"records": 50_000, "rejected_not_json": 12_000}),  # usual
        ({"records": 0}, USUAL),
        ({}, {}),
    ],
)
def test_what_is_usual_or_of_few_records_is_no_jump(recent: dict[str, int], before: dict[str, int]) -> None:
    assert [state for state, _ in shares(recent, before)] == ["ok"]


def test_more_rejects_than_records_that_count_are_never_right() -> None:
    always = {"records": 1_000, "rejected_not_json": 300, "rejected_missing_field": 250}
    ((state, seen),) = shares(always, {kind: 10 * number for kind, number in always.items()})
    assert (state, "550 of the last 1,000 records were rejected, most of them as not_json" in seen) == ("fail", True)


def test_copies_on_another_pathway_are_no_jump() -> None:
    assert [state for state, _ in shares({"records": 9_000, "duplicates": 8_900}, USUAL, RELAYED)] == ["ok"]


@given(*[st.integers(0, 10**9)] * 4)
def test_no_share_of_few_is_a_jump_and_none_that_is_usual(number: int, records: int, before: int, usual: int) -> None:
    if jumped(number, records, before, usual):
        assert number >= 50
        assert number * 20 >= records
        assert usual >= 1_000
        assert number * usual >= 4.99 * before * records


def one(value: float) -> Spread:
    return Spread(value, value, value)


def test_metrics_are_read_as_flink_names_them() -> None:
    source, window = "Source__KafkaSource-default_catalog_default_database_source", "windows.surecount_windows"
    found = flow_of(
        [
            {
                f"{source}.pendingRecords": one(7),
                f"{source}.KafkaSourceReader.KafkaConsumer.records-consumed-rate": Spread(1, 4, 5),
                f"{source}.split.shop_in-0.watermark.currentWatermark": one(-9.223372036854776e18),
                "watermarks.split.shop_in-0.watermark.currentWatermark": one(NOW),
                "watermarks.split.shop_in-0.watermark.idleTimeMsPerSecond": one(0),
                "watermarks.split.shop_in-1.watermark.currentWatermark": one(-9.223372036854776e18),
                "watermarks.split.shop_in-1.watermark.idleTimeMsPerSecond": one(1000),
                "decode.surecount_flows.recent.records": Spread(0, 10, 100 / 300),
                "decode.surecount_flows.long.records": one(5_100 / 21_600),
                "decode.surecount_flows.recent.rejected_not_json": one(3 / 300),
                "decode.surecount_flows.long.rejected_not_json": one(3 / 21_600),
            },
            {
                "windows.currentInputWatermark": Spread(NOW - 9, NOW, 2 * NOW),
                f"{window}.newest": Spread(0, NOW - 5, 0),
                f"{window}.since": one(0),
                f"{window}.moved": one(NOW - 3),
            },
            {"rejects__Writer.currentInputWatermark": one(-9.223372036854776e18)},
        ],
        ["other", "shop.in"],
    )
    assert found == Flow(
        watermark_ms=NOW - 9,
        splits={"shop.in partition 0": Split(NOW, idle=False), "shop.in partition 1": Split(None, idle=True)},
        pending=7,
        rate=5,
        newest_ms=NOW - 5,
        since_ms=None,
        moved_ms=NOW - 3,
        recent={"records": 100, "rejected_not_json": 3},
        before={"records": 5_000, "rejected_not_json": 0},
    )
    assert flow_of([{"windows.currentInputWatermark": one(9.223372036854776e18)}], []) == Flow()  # the end of the input
    assert flow_of([], []) == Flow()


def test_a_worker_tells_since_when_windows_wait() -> None:
    waiting = Waiting(patience_ms=100)
    waiting.note(1_000, -(1 << 63), 5)
    assert (waiting.newest, waiting.since, waiting.moved) == (1_000, 5, 5)
    waiting.note(900, 950, 6)
    assert (waiting.newest, waiting.since, waiting.moved) == (1_000, 0, 6)
    waiting.note(1_040, 950, 7)
    waiting.note(1_051, 950, 8)
    waiting.note(1_200, 950, 9)
    assert (waiting.newest, waiting.since, waiting.moved) == (1_200, 8, 6)
    waiting.note(1_200, 960, 10)
    assert (waiting.since, waiting.moved) == (8, 10)
    waiting.note(0, 1_100, 11)
    assert (waiting.newest, waiting.since, waiting.moved) == (1_200, 0, 11)
