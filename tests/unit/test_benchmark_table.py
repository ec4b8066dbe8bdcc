"""The table of a comparison: medians, slopes that leave start-up out, ratios, and answers that were wrong."""

from __future__ import annotations

from benchmarks.compare import Run, table
from benchmarks.peers.peer import About

ABOUTS = {
    "surecount": About("surecount", "1", "exactly-once"),
    "other": About("Other", "2", "at-least-once"),
}


def run(peer: str, count: int, elapsed_s: float | None, cpu_s: float = 0.0, wrong: str = "") -> Run:
    return Run("few", peer, count, elapsed_s, cpu_s, 2_000_000, wrong)


def row_of(runs: list[Run], peer: str) -> list[str]:
    lines = [line.strip("| ").split(" | ") for line in table(runs, ABOUTS).splitlines()]
    return next(line for line in lines if line[1] == peer)


def test_medians_slopes_and_ratios() -> None:
    runs = [
        *(run("surecount", 1_000_000, s, 10.0) for s in (9.0, 10.0, 30.0)),
        *(run("surecount", 3_000_000, s, 14.0) for s in (14.0, 12.0, 13.0)),
        run("other", 3_000_000, 26.0, 40.0),
    ]
    # 2,000,000 more events took 3 s and 4 CPU seconds more.
    assert row_of(runs, "surecount")[2:] == [
        "exactly-once", "3,000,000", "13.0", "1.00", "666,667", "2.0", "2", "exact",
    ]  # fmt: skip
    assert row_of(runs, "other")[2:] == ["at-least-once", "3,000,000", "26.0", "2.00", "–", "–", "2", "exact"]


def test_a_size_with_a_wrong_answer_has_no_figures() -> None:
    runs = [run("surecount", 10, 1.0), run("other", 10, 1.0), run("other", 20, None, wrong="3 missing after 9 s")]
    assert row_of(runs, "other")[3:5] == ["10", "1.0"]
    assert row_of(runs, "other")[-1] == "exact; 20 events: 3 missing after 9 s"
    alone = [run("other", 10, None, wrong="1 more than once")]
    assert row_of(alone, "other")[3:] == ["–"] * 6 + ["10 events: 1 more than once"]
