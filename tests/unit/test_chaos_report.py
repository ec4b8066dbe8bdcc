"""The report of a run of chaos: its picture, its page, and the table of runs."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from surecount.audit import Books, Report
from surecount.chaos.report import markdown, row, table, to_dict, write, write_table
from surecount.chaos.seen import Account, Happened, Verdict, Violation
from surecount.chaos.svg import text_width
from surecount.chaos.timeline import WIDTH, recoveries, timeline

SVG = "{http://www.w3.org/2000/svg}"
BOOKS = Report("shop", (Books("per_customer", 1_000, 900, 10, 90, 0, 0, 0, {}),), (), 0, {"empty": 90}, (), 1.0)
EMPTY = Account("shop", 7, "", "2026-01-31T23:59:00Z", 0.0, 0, (), (), (), BOOKS, Verdict((), 0, 0, 0, 0))
RUN = replace(
    EMPTY,
    command="surecount chaos shop.toml --seed 7",
    seconds=600.0,
    records=12_000_000,
    happened=(
        Happened(30.0, "recovered", "results"),
        Happened(10.0, "fault", "kill -9 taskmanager"),
        Happened(12.5, "fault", "kill -9 broker 2"),
        Happened(15.0, "checkpoint", "5"),
        Happened(16.0, "checkpoint", "6"),
        Happened(17.0, "checkpoint failed", "expired"),
        Happened(20.0, "restart", "restarted"),
        Happened(40.0, "note", "the disk was slow"),
        Happened(590.0, "fault", "kill -9 zookeeper of three"),
    ),
    sent=tuple((second, 20_000) for second in range(600)),
    results=((0, 100), (5, 300)),
    verdict=Verdict((), 0, 900, 10, 90),
)
Box = tuple[float, float, float, float]


def faults(at_s: list[float], what: str = "kill -9 of the leading jobmanager") -> Account:
    return replace(EMPTY, seconds=3600.0, happened=tuple(Happened(at, "fault", what) for at in at_s))


def drawn(account: Account) -> ElementTree.Element:
    return ElementTree.fromstring(timeline(account))


def marks(picture: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [group for group in picture.iter(f"{SVG}g") if group.get("class") == kind]


def box(text: ElementTree.Element) -> Box:
    """Where a text is: left, top, right, bottom."""
    size = int(text.attrib["font-size"])
    width = text_width(text.text or "", size)
    left = float(text.attrib["x"]) - width * {"start": 0, "middle": 0.5, "end": 1}[text.attrib["text-anchor"]]
    bottom = float(text.attrib["y"])
    return left, bottom - size, left + width, bottom


def labels(picture: ElementTree.Element) -> list[ElementTree.Element]:
    return [text for label in marks(picture, "label") for text in label.iter(f"{SVG}text")]


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def assert_readable(picture: ElementTree.Element) -> None:
    """No text leaves the picture, and no label of a fault is in another's way."""
    height = float(picture.attrib["height"])
    for left, top, right, bottom in (box(text) for text in picture.iter(f"{SVG}text")):
        assert left >= 0 and right <= WIDTH and top >= 0 and bottom <= height
    for one, other in combinations([box(text) for text in labels(picture)], 2):
        assert not overlap(one, other)


def test_each_thing_that_happened_has_its_mark() -> None:
    picture = drawn(RUN)
    assert len(marks(picture, "fault")) == 3
    assert (len(marks(picture, "recovered")), len(marks(picture, "restart"))) == (1, 1)
    ticks = {path.get("class"): path.attrib["d"].count("M") for path in picture.iter(f"{SVG}path")}
    assert (ticks["checkpoint"], ticks["checkpoint failed"]) == (2, 1)
    titles = [mark.findtext(f"{SVG}title") for mark in marks(picture, "fault")]
    assert titles[1:] == ["2, 12.5 s: kill -9 broker 2", "3, 590.0 s: kill -9 zookeeper of three"]


def test_a_mark_stands_where_its_second_is_on_the_axis() -> None:
    picture = drawn(faults([1800.0]))
    (mark,) = marks(picture, "fault")
    (tick,) = (text for text in picture.iter(f"{SVG}text") if text.text == "1,800")
    line = mark.find(f"{SVG}line")
    assert line is not None and line.attrib["x1"] == line.attrib["x2"] == tick.attrib["x"]


def test_faults_that_are_few_are_named_in_the_picture() -> None:
    picture = drawn(RUN)
    names = ["1 kill -9 taskmanager", "2 kill -9 broker 2", "3 kill -9 zookeeper of three"]
    assert [label.text for label in labels(picture)] == names
    assert_readable(picture)


BY_CHANCE = sorted(random.Random(7).uniform(0, 3600) for _ in range(100))


@pytest.mark.parametrize("at_s", [[36.0 * n for n in range(100)], BY_CHANCE, [0.0] * 50 + [3600.0] * 50])
def test_a_hundred_faults_in_an_hour_stay_readable(at_s: list[float]) -> None:
    picture = drawn(faults(at_s))
    assert len(marks(picture, "fault")) == 100
    assert_readable(picture)
    numbers: list[int] = []
    for label in labels(picture):
        first, _, last = (label.text or "").partition("–")
        numbers += range(int(first), int(last or first) + 1)
    assert numbers == list(range(1, 101))
    assert float(picture.attrib["height"]) < 500


def test_rates_are_drawn_on_scales_of_their_own() -> None:
    texts = [text.text for text in drawn(RUN).iter(f"{SVG}text")]
    assert "20,000" in texts and "200" in texts
    assert texts.count("mean of 2 s") == 2


def test_text_is_escaped() -> None:
    account = replace(faults([5.0], 'a <&"> b\x00\n c'), pipeline="<&>")
    assert "<&" not in timeline(account)
    picture = drawn(account)
    assert (picture.findtext(f"{SVG}title") or "").startswith("<&>, seed 7: 1 fault in 3,600 s")
    assert [label.text for label in labels(picture)] == ['1 a <&"> b\ufffd c']


def test_a_picture_refers_to_nothing() -> None:
    picture = timeline(RUN)
    assert not any(word in picture for word in ("href", "url(", "<script", "<style", "<image", "@import"))


def test_a_run_in_which_nothing_happened() -> None:
    assert_readable(drawn(EMPTY))
    page = markdown(EMPTY, "timeline.svg")
    assert "## Faults\n\nNone.\n" in page and "## Notes" not in page and "## Logs" not in page


def test_a_fault_recovers_at_the_next_recovery() -> None:
    happened = (
        Happened(10.0, "recovered", ""),
        Happened(10.0, "fault", "a"),
        Happened(11.0, "fault", "b"),
        Happened(15.5, "recovered", ""),
        Happened(15.5, "recovered", ""),
        Happened(20.0, "fault", "c"),
    )
    found = recoveries(replace(EMPTY, happened=happened))
    assert [(fault.what, seconds) for fault, seconds in found] == [("a", 5.5), ("b", 4.5), ("c", None)]


def test_the_page() -> None:
    lines = markdown(RUN, "timeline.svg").splitlines()
    assert lines[0] == "# Chaos on shop, seed 7: passed"
    assert "| shop | 7 | 2026-01-31T23:59:00Z | 600 | 12,000,000 | 3 | 900 |" in lines
    at = lines.index("surecount chaos shop.toml --seed 7")
    assert (lines[at - 1], lines[at + 1]) == ("```sh", "```")
    assert "![Timeline of the run](timeline.svg)" in lines
    assert f"- {BOOKS.summary()}" in lines
    assert "Nothing was found against 900 results, 10 corrections and 90 rejects." in lines
    assert [line for line in lines if "kill -9" in line] == [
        "| 1 | 10.0 | kill -9 taskmanager | 20.0 |",
        "| 2 | 12.5 | kill -9 broker 2 | 17.5 |",
        "| 3 | 590.0 | kill -9 zookeeper of three | not seen |",
    ]
    assert "- 40.0 s: the disk was slow" in lines


def test_the_page_of_a_failed_run() -> None:
    violations = (Violation("lost", "a | b"), Violation("doubled", "c"), Violation("lost", "d\ne"))
    account = replace(RUN, verdict=Verdict(violations, 1_005, 900, 10, 90), logs="logs/7", notes=("slow",))
    page = markdown(account, "timeline.svg")
    assert page.startswith("# Chaos on shop, seed 7: failed\n")
    assert "1,005 found in 900 results, 10 corrections and 90 rejects; 3 are named:" in page
    assert "- doubled\n  - c\n- lost\n  - a \\| b\n  - d e\n" in page
    assert "\n- slow\n" in page and page.endswith("Those of all processes are in logs/7.\n")


def test_books_that_do_not_balance_fail_a_run() -> None:
    page = markdown(replace(RUN, books=replace(BOOKS, difference_count=2)), "timeline.svg")
    assert page.startswith("# Chaos on shop, seed 7: failed\n") and "- books do not balance: " in page


def test_nothing_breaks_out_of_its_cell_or_its_fence() -> None:
    account = replace(RUN, happened=(Happened(1.0, "fault", "a|b\n<c> _d_ per_customer"),), command="x '```'")
    page = markdown(account, "timeline.svg")
    assert "| 1 | 1.0 | a\\|b \\<c\\> \\_d\\_ per_customer | not seen |\n" in page
    assert "````sh\nx '```'\n````\n" in page


def test_a_table_of_runs_is_made_from_their_json() -> None:
    frozen = Happened(592.0, "fault", "SIGSTOP for 12 s: kafka-1")
    found = Verdict((Violation("lost", "x"),), 3, 900, 10, 90)
    failed = replace(RUN, pipeline="a|b", verdict=found, happened=(*RUN.happened, frozen))
    runs = [json.loads(json.dumps(to_dict(account))) for account in (RUN, failed)]
    assert runs == [to_dict(RUN), to_dict(failed)]
    assert runs[1]["verdict"]["violations"] == [{"kind": "lost", "detail": "x"}]
    lines = table(runs).splitlines()
    assert lines[2] == "| 2026-01-31T23:59:00Z | shop | 7 | 10.0 | 12,000,000 | 3 | 3 | 900 | 0 | balance | passed |"
    assert lines[3] == "| 2026-01-31T23:59:00Z | a\\|b | 7 | 10.0 | 12,000,000 | 4 | 3 | 900 | 3 | balance | failed |"
    assert lines[2:-1] == [row(run) for run in runs]
    assert lines[-1] == "| 2 runs |  | 1 seeds | 20.0 | 24,000,000 | 7 | 6 | 1,800 | 3 |  | 1 passed |"


def test_the_table_of_a_folder_has_all_its_runs_in_their_order(tmp_path: Path) -> None:
    early = replace(RUN, began="2026-01-30T00:00:00Z", seed=9)
    for number, account in enumerate((RUN, early)):
        write(account, tmp_path / str(number))
    assert write_table(tmp_path).read_text() == table([to_dict(early), to_dict(RUN)])


def test_a_run_that_ended_early_says_why_and_failed() -> None:
    account = replace(RUN, books=None, verdict=Verdict((), 0, 0, 0, 0), failure="not recovered: a whole stack")
    page = markdown(account, "timeline.svg")
    assert page.startswith("# Chaos on shop, seed 7: failed\n")
    assert "It ended early: not recovered: a whole stack" in page and "Not asked." in page
    assert row(to_dict(account)).endswith("| 0 | – | failed |")


LOST = Verdict((Violation("lost", "x"), Violation("rejected", "y")), 2, 900, 10, 88)
UNEVEN = replace(BOOKS, difference_count=1)


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        ({}, True),
        ({"told": ()}, False),
        ({"told": None}, False),
        ({"books": BOOKS}, False),
        ({"verdict": replace(LOST, violations=(*LOST.violations, Violation("doubled", "z")))}, False),
        ({"verdict": RUN.verdict}, False),
        ({"verdict": RUN.verdict, "books": BOOKS, "told": ()}, True),
    ],
)
def test_what_is_lost_as_it_may_be_must_be_told_by_judge_audit_and_doctor(change: dict[str, Any], passed: bool) -> None:
    account = replace(RUN, **{"verdict": LOST, "books": UNEVEN, "told": ("commits failed",), **change})
    assert account.passed == passed
    if not change:
        page = markdown(account, "timeline.svg")
        assert "## Doctor" in page and "- commits failed" in page
        assert row(to_dict(account)).endswith("| do not balance | passed (loss expected, and told) |")


def test_files_are_written(tmp_path: Path) -> None:
    page = write(RUN, tmp_path / "runs" / "7")
    assert page.read_text() == markdown(RUN, "timeline.svg")
    assert page.with_name("timeline.svg").read_text() == timeline(RUN)
    assert json.loads(page.with_name("report.json").read_text()) == to_dict(RUN)


SERIES = st.lists(st.tuples(st.integers(-10, 10**5), st.integers(0, 10**9)), max_size=20).map(tuple)
KINDS = st.sampled_from(["fault", "recovered", "restart", "checkpoint", "checkpoint failed", "note"])
ACCOUNTS = st.builds(
    Account,
    pipeline=st.text(),
    seed=st.integers(),
    command=st.text(),
    began=st.text(),
    seconds=st.floats(0, 10**5),
    records=st.integers(0),
    happened=st.lists(st.builds(Happened, st.floats(-10, 10**5), KINDS, st.text()), max_size=80).map(tuple),
    sent=SERIES,
    results=SERIES,
    books=st.just(BOOKS),
    verdict=st.builds(Verdict, st.just(()), *[st.integers(0)] * 4),
)


@settings(deadline=None)
@given(ACCOUNTS)
@example(replace(EMPTY, happened=(Happened(1.0, "fault", "00000000000\x08\x08"),)))
def test_any_run_gives_a_picture_and_a_page(account: Account) -> None:
    picture = drawn(account)
    assert len(marks(picture, "fault")) == account.faults
    assert_readable(picture)
    assert f"| {account.faults:,} | {account.verdict.results:,} |" in markdown(account, "timeline.svg")
