"""What people and programs read of the books."""

from __future__ import annotations

import io
import json
from dataclasses import replace

from rich.console import Console

from surecount.audit import Amount, Books, Difference, Flow, IngestBooks, Report
from surecount.audit.report import NAMED, Differences, joined

BOOKS = Books(
    aggregate="per_customer",
    records_in=1_000_000,
    results=999_000,
    corrections=0,
    rejected=1_000,
    duplicates=0,
    open=0,
    open_windows=0,
    sums={"accepted": {"amount": 5}, "results": {"amount": 5}, "corrections": {"amount": 0}, "open": {"amount": 0}},
)
GOOD = Report("shop", (BOOKS,), (), 0, {"empty": 1_000}, ("a note",), 1.5)
DIFFERENCE = Difference(
    "uneven",
    "expected 3 (amount 42), found 2 (amount 40)",
    aggregate="per_customer",
    key={"customer": "ada"},
    start="2026-01-31T23:59:00Z",
    expected=Amount(3, {"amount": 42}),
    found=Amount(2, {"amount": 40}),
)
BAD = replace(GOOD, books=(replace(BOOKS, results=998_999),), differences=(DIFFERENCE,), difference_count=5)
LINE = (
    "books balance: 1,000,000 records in = 999,000 in results + 0 in corrections"
    " + 1,000 rejected + 0 duplicates + 0 in open windows"
)


def printed(report: Report, width: int = 60) -> list[str]:
    stream = io.StringIO()
    report.print(Console(file=stream, width=width))
    return stream.getvalue().splitlines()


def test_the_last_line_is_the_verdict_at_any_width() -> None:
    assert GOOD.balanced
    assert GOOD.summary() == LINE
    assert printed(GOOD)[-1] == LINE
    assert "note: a note" in printed(GOOD)


def test_no_number_of_the_table_is_cut() -> None:
    books = replace(BOOKS, records_in=123_456_789_012, results=123_456_788_012)
    lines = printed(replace(GOOD, books=(books, books)))
    assert sum(line.count("123,456,789,012") for line in lines[:-1]) == 2


def test_aggregates_that_agree_share_a_line() -> None:
    assert replace(GOOD, books=(BOOKS, replace(BOOKS, aggregate="b"))).summary() == LINE


def test_aggregates_that_differ_have_a_line_each() -> None:
    other = replace(BOOKS, aggregate="per_hour", results=998_000, open=1_000, open_windows=3)
    report = replace(GOOD, books=(BOOKS, other))
    assert report.balanced
    assert report.summary().splitlines() == [
        f"per_customer: {LINE}",
        f"per_hour: {LINE.replace('999,000', '998,000').replace('0 in open', '1,000 in open')}",
    ]


def test_books_that_do_not_balance_name_the_first_differences() -> None:
    assert not BAD.balanced
    assert BAD.summary() == (
        "books do not balance: 1,000,000 records in ≠ 998,999 in results + 0 in corrections + 1,000 rejected"
        ' + 0 duplicates + 0 in open windows; 5 differ: per_customer {"customer":"ada"} 2026-01-31T23:59:00Z:'
        " expected 3 (amount 42), found 2 (amount 40); and 4 more"
    )
    assert printed(BAD)[-1] == BAD.summary()


def test_even_books_with_a_difference_do_not_balance() -> None:
    report = replace(GOOD, difference_count=1, differences=(DIFFERENCE,))
    assert not report.balanced
    assert report.summary().startswith("books do not balance: ")


def test_json() -> None:
    data = json.loads(json.dumps(BAD.to_dict()))
    assert not data["balanced"] and data["difference_count"] == 5
    assert data["books"][0]["aggregate"] == "per_customer" and not data["books"][0]["balanced"]
    assert data["differences"] == [
        {
            "kind": "uneven",
            "aggregate": "per_customer",
            "key": {"customer": "ada"},
            "start": "2026-01-31T23:59:00Z",
            "detail": "expected 3 (amount 42), found 2 (amount 40)",
            "expected": {"count": 3, "sum": {"amount": 42}},
            "found": {"count": 2, "sum": {"amount": 40}},
        }
    ]
    assert data["rejected_by_reason"] == {"empty": 1000}
    assert data["notes"] == ["a note"]


INGEST = IngestBooks({"web": Flow(1_000_000, 900_000, 40_000, 60_000), "eu": Flow(200_000, 100_000, 0, 100_000)})
WITH_INGEST = replace(GOOD, ingest=INGEST)


def test_ingest_has_a_line_before_the_aggregates() -> None:
    assert WITH_INGEST.balanced
    assert WITH_INGEST.summary().splitlines() == [
        "ingest: books balance: 1,200,000 raw in = 1,000,000 clean + 40,000 rejected + 160,000 duplicates",
        f"aggregate: {LINE}",
    ]
    assert printed(WITH_INGEST)[-2:] == WITH_INGEST.summary().splitlines()


def test_ingest_has_a_column_for_each_pathway() -> None:
    lines = printed(WITH_INGEST)
    assert any(all(name in line for name in ("web", "eu", "all")) for line in lines)
    (raw_in,) = (line for line in lines[:-2] if "raw in" in line)
    assert all(number in raw_in for number in ("1,000,000", "200,000", "1,200,000"))
    alone = printed(replace(GOOD, ingest=IngestBooks({"main": Flow(1, 1, 0, 0)})))
    assert not any("all" in line for line in alone[:-2])


def test_each_pathway_has_to_balance() -> None:
    exchanged = IngestBooks({"web": Flow(2, 1, 0, 0), "eu": Flow(2, 3, 0, 0)})
    assert exchanged.total.balanced and not exchanged.balanced
    report = replace(GOOD, ingest=exchanged)
    assert not report.balanced and "books do not balance" in report.summary()


def test_json_with_ingest() -> None:
    assert GOOD.to_dict()["ingest"] is None
    data = json.loads(json.dumps(WITH_INGEST.to_dict()))["ingest"]
    assert (data["raw_in"], data["clean"], data["rejected"], data["duplicates"]) == (
        1_200_000,
        1_000_000,
        40_000,
        160_000,
    )
    assert data["balanced"] and list(data["pathways"]) == ["web", "eu"]
    assert data["pathways"]["eu"] == {
        "raw_in": 200_000,
        "clean": 100_000,
        "rejected": 0,
        "duplicates": 100_000,
        "before_cut": 0,
        "outputs_deleted": 0,
        "balanced": True,
    }


def test_reports_on_jobs_become_one() -> None:
    upstream = Report("shop", (), (DIFFERENCE,), 3, {"empty": 2, "beyond_horizon": 1}, ("a note", "b"), 2.0, INGEST)
    whole = joined([upstream, GOOD])
    assert (whole.ingest, whole.books, whole.difference_count) == (INGEST, (BOOKS,), 3)
    assert whole.rejected_by_reason == {"beyond_horizon": 1, "empty": 1_002}
    assert (whole.notes, whole.seconds) == (("a note", "b"), 3.5)
    assert joined([GOOD]) == GOOD


def test_the_first_differences_of_a_kind_are_named() -> None:
    differences = Differences()
    differences.add_all(range(NAMED - 1), lambda at: Difference("clean_missing", "lost", str(at)))
    differences.add_all(range(5), lambda at: Difference("clean_missing", "lost", str(at)))
    differences.add(Difference("malformed", "odd"))
    assert differences.count == NAMED + 5
    assert [difference.kind for difference in differences.named] == ["clean_missing"] * NAMED + ["malformed"]
