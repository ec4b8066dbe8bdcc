"""What other people wrote is shown, and never obeyed by a terminal, by rich, or by a page."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from surecount.chaos.report import table
from surecount.console import SafeConsole
from surecount.foreign_text import visible
from surecount.watch import ClosedWindows

HOSTILE = "a\x1b]0;owned\x07\x1b[2Jb\u202ec[bold red]d[/]e:smile:\udc80"
SHOWN = "a\\x1b]0;owned\\x07\\x1b[2Jb\\u202ec[bold red]d[/]e:smile:\\udc80"


# rich itself leaves out the bell.
SHOWN_AS_TEXT = SHOWN.replace("\\x07", "")


def shown(renderable: object) -> str:
    file = io.StringIO()
    SafeConsole(file=file, width=200, force_terminal=False).print(renderable)
    return file.getvalue()


def test_each_character_that_acts_is_escaped() -> None:
    assert visible(HOSTILE) == SHOWN
    assert visible("Zürich 東京 ½ €") == "Zürich 東京 ½ €"


@given(st.text())
def test_what_is_visible_is_printable_and_can_be_encoded(text: str) -> None:
    assert visible(text).isprintable()
    visible(text).encode()


def test_a_console_escapes_whatever_it_is_given() -> None:
    assert SHOWN in shown(HOSTILE)
    assert SHOWN_AS_TEXT in shown(Text(HOSTILE))
    assert shown(Group(HOSTILE, Text(HOSTILE))).splitlines() == [SHOWN, SHOWN_AS_TEXT]


def test_a_tables_heads_and_cells_are_escaped() -> None:
    rows = Table(HOSTILE, title=HOSTILE)
    rows.add_row(HOSTILE)
    assert shown(rows).count(SHOWN) == 3


def test_a_live_view_is_escaped() -> None:
    file = io.StringIO()
    console = SafeConsole(file=file, width=200, force_terminal=True)
    with Live(Text(HOSTILE), console=console, auto_refresh=False) as live:
        live.update(Text(HOSTILE), refresh=True)
    assert SHOWN_AS_TEXT in file.getvalue()
    assert "\x1b]0;owned" not in file.getvalue()


def test_lines_stay_lines_and_styles_stay_styles() -> None:
    file = io.StringIO()
    SafeConsole(file=file, force_terminal=True, color_system="standard").print(Text("one\ntwo", style="red"))
    assert file.getvalue().count("\n") == 2
    assert "\x1b[31m" in file.getvalue()


def test_a_chaos_table_is_escaped() -> None:
    verdict = {"results": 1, "count": 0, "passed": True}
    run = {
        "began": "", "pipeline": HOSTILE, "seed": 1, "seconds": 1, "records": 1, "faults": 0, "kills": 0,
        "verdict": verdict, "books": None, "passed": True,
    }  # fmt: skip
    assert "\x1b" not in table([run])


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"1", b'{"aggregate":"a"}', b"[" * 100_000, b"\xff"])
def test_what_is_no_result_does_not_end_a_watch(value: bytes | None) -> None:
    closed = ClosedWindows()
    closed.add(value)
    closed.add(b'{"aggregate":"a","start":"s","count":2}')
    assert (closed.unreadable, closed.newest(1)) == (1, [("a", "s", 1, 2)])
