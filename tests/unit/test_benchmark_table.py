"""The table of a comparison: medians, slopes that leave start-up out, ratios, and answers that were wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from benchmarks import growth
from benchmarks.compare import CASES, table
from benchmarks.driver import Run
from benchmarks.peers.peer import About

ABOUTS = {
    "surecount": About("surecount", "1", "exactly-once"),
    "other": About("Other", "2", "at-least-once"),
}


def run(peer: str, count: int, elapsed_s: float | None, cpu_s: float = 0.0, wrong: str = "") -> Run:
    """One whose results were readable at a checkpoint, up to 5 s after they were written."""
    written_s = None if elapsed_s is None else elapsed_s - elapsed_s % 5
    return Run("few", peer, count, elapsed_s, written_s, cpu_s, 2_000_000, wrong)


def row_of(runs: list[Run], peer: str) -> list[str]:
    lines = [line.strip("| ").split(" | ") for line in table(runs, ABOUTS).splitlines()]
    return next(line for line in lines if line[1] == peer)


def test_medians_slopes_and_ratios() -> None:
    runs = [
        *(run("surecount", 1_000_000, s, 10.0) for s in (9.0, 7.0, 30.0)),
        *(run("surecount", 3_000_000, s, 14.0) for s in (14.0, 12.0, 13.0)),
        run("other", 3_000_000, 26.0, 40.0),
    ]
    # 2,000,000 more events took 5 s and 4 CPU seconds more.
    assert row_of(runs, "surecount")[2:] == [
        "exactly-once", "3,000,000", "13.0", "1.00", "10.0", "400,000", "2.0", "2", "exact",
    ]  # fmt: skip
    assert row_of(runs, "other")[2:] == ["at-least-once", "3,000,000", "26.0", "2.00", "25.0", "–", "–", "2", "exact"]


def test_a_size_with_a_wrong_answer_has_no_figures() -> None:
    runs = [run("surecount", 10, 1.0), run("other", 10, 1.0), run("other", 20, None, wrong="3 missing after 9 s")]
    assert row_of(runs, "other")[3:5] == ["10", "1.0"]
    assert row_of(runs, "other")[-1] == "exact; 20 events: 3 missing after 9 s"
    alone = [run("other", 10, None, wrong="1 more than once")]
    assert row_of(alone, "other")[3:] == ["–"] * 7 + ["10 events: 1 more than once"]


def test_growth_has_a_row_and_a_point_for_each_value_that_was_right() -> None:
    runs = {
        100: [run("surecount", 9, 2.0, 1.0), run("surecount", 9, 4.0, 3.0), run("other", 9, 7.0, 8.0)],
        10_000: [run("surecount", 9, 5.0, 6.0), run("other", 9, None, wrong="1 wrong")],
    }
    assert growth.table("keys", runs).splitlines()[2:] == [
        "| 100 | surecount | 3.0 | 0.0 | 2.0 | 2 | exact |",
        "| 100 | other | 7.0 | 5.0 | 8.0 | 2 | exact |",
        "| 10,000 | surecount | 5.0 | 5.0 | 6.0 | 2 | exact |",
        "| 10,000 | other | – | – | – | – | 1 wrong |",
    ]
    drawn = growth.picture("keys", runs)
    assert {"keys", "written s", "CPU s", "surecount", "other"} <= set(ElementTree.fromstring(drawn).itertext())
    assert drawn == growth.picture("keys", runs)


@pytest.mark.parametrize("name", growth.AXES)
def test_each_value_of_an_axis_is_what_grows(name: str) -> None:
    for value, case in growth.AXES[name].cases.items():
        (count,) = case.sizes
        events = replace(case.events, count=count)
        grown = {
            "records": count,
            "keys": events.keys,
            "windows": events.windows,
            "aggregates": events.aggregates,
            "partitions": case.partitions,
            "slots": case.slots,
        }
        assert grown[name] == value
        assert events.keys % case.partitions == 0  # so that a key stands in one partition


def test_topics_of_cases_have_names_that_kafka_takes() -> None:
    cases = [*CASES.values(), *(case for axis in growth.AXES.values() for case in axis.cases.values())]
    topics = {case.topic for case in cases}
    assert len(topics) == len(cases)
    assert [topic for topic in topics if not re.fullmatch("[A-Za-z0-9._-]{1,200}", topic)] == []


def test_programs_are_compared_without_surecount_and_where_the_start_is_all() -> None:
    runs = [run("other", 1_000, 9.0), run("other", 2_000, 9.0), run("another", 1_000, 1.0)]
    lines = table(runs, {**ABOUTS, "another": ABOUTS["other"]}).splitlines()
    assert [line.strip("| ").split(" | ")[4:8] for line in lines[2:]] == [
        ["9.0", "–", "5.0", "–"],
        ["1.0", "–", "0.0", "–"],
    ]
