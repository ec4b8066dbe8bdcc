"""The books: what came in, and where every record of it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

Kind = Literal[
    "uneven",
    "doubled",
    "out_of_order",
    "malformed",
    "reject_missing",
    "reject_unexpected",
    "reject_changed",
]
Sums = Mapping[str, Any]
"""Per summed field its sum as the outputs write it: an int, a decimal's text, a float."""

NAMED = 20
"""How many differences of a kind are named; all are counted."""


@dataclass(frozen=True)
class Amount:
    """Records, and their sums by field."""

    count: int
    sums: Sums

    def __str__(self) -> str:
        sums = ", ".join(f"{field} {value}" for field, value in self.sums.items())
        return f"{self.count:,} ({sums})" if sums else f"{self.count:,}"


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it has to be.

    ``where`` is ``topic-partition@offset``, of the output or, for a reject, of the input record. A window is
    named by ``aggregate``, ``key`` and ``start`` (RFC 3339); ``expected`` is what the input says about it,
    ``found`` what results and corrections say together.
    """

    kind: Kind
    detail: str
    where: str = ""
    aggregate: str = ""
    key: Mapping[str, Any] | None = None
    start: str = ""
    expected: Amount | None = None
    found: Amount | None = None

    def __str__(self) -> str:
        key = orjson.dumps(self.key).decode() if self.key is not None else ""
        place = " ".join(part for part in (self.where, self.aggregate, key, self.start) if part)
        return f"{place}: {self.detail}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON; what does not apply is left out."""
        amounts = {"expected": self.expected, "found": self.found}
        texts = {name: getattr(self, name) for name in ("kind", "where", "aggregate", "key", "start", "detail")}
        return {name: value for name, value in texts.items() if value} | {
            name: {"count": amount.count, "sum": dict(amount.sums)}
            for name, amount in amounts.items()
            if amount is not None
        }


@dataclass(frozen=True)
class Books:
    """One aggregate's books, in records. ``sums`` has the sums of accepted records on the same accounts:
    ``accepted``, ``results``, ``corrections`` and ``open``."""

    aggregate: str
    records_in: int
    results: int
    corrections: int
    rejected: int
    duplicates: int
    open: int
    open_windows: int
    sums: Mapping[str, Sums]

    @property
    def accounted(self) -> int:
        """Records that are somewhere."""
        return self.results + self.corrections + self.rejected + self.duplicates + self.open

    @property
    def balanced(self) -> bool:
        """Whether all records are somewhere; that each is in the right place, the differences say."""
        return self.records_in == self.accounted

    def equation(self) -> str:
        """The books in one line."""
        sign = "=" if self.balanced else "≠"
        return (
            f"{self.records_in:,} records in {sign} {self.results:,} in results"
            f" + {self.corrections:,} in corrections + {self.rejected:,} rejected"
            f" + {self.duplicates:,} duplicates + {self.open:,} in open windows"
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "aggregate": self.aggregate,
            "records_in": self.records_in,
            "results": self.results,
            "corrections": self.corrections,
            "rejected": self.rejected,
            "duplicates": self.duplicates,
            "open": self.open,
            "open_windows": self.open_windows,
            "balanced": self.balanced,
            "sums": {account: dict(sums) for account, sums in self.sums.items()},
        }


@dataclass(frozen=True)
class Report:
    """What an audit found.

    ``differences`` has the first of each kind, ``difference_count`` counts all. ``rejected_by_reason``
    is from the input. ``notes`` say what limits the audit. ``seconds`` is how long reading took.
    """

    pipeline: str
    books: tuple[Books, ...]
    differences: tuple[Difference, ...]
    difference_count: int
    rejected_by_reason: Mapping[str, int]
    notes: tuple[str, ...]
    seconds: float

    @property
    def balanced(self) -> bool:
        """True where all books balance and nothing differs."""
        return not self.difference_count and all(books.balanced for books in self.books)

    def summary(self) -> str:
        """The verdict: one line, or one for each aggregate where their books differ."""
        equations = [books.equation() for books in self.books]
        if len(set(equations)) == 1:
            lines = [("", equations[0])]
        else:
            lines = [(f"{books.aggregate}: ", books.equation()) for books in self.books]
        if self.balanced:
            return "\n".join(f"{prefix}books balance: {equation}" for prefix, equation in lines)
        found = ""
        if self.difference_count:
            named = "; ".join(str(difference) for difference in self.differences[:3])
            more = self.difference_count - min(3, len(self.differences))
            found = f"; {self.difference_count:,} differ: {named}" + (f"; and {more:,} more" if more else "")
        texts = [f"{prefix}books do not balance: {equation}" for prefix, equation in lines]
        return "\n".join(texts) + found

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "pipeline": self.pipeline,
            "balanced": self.balanced,
            "books": [books.to_dict() for books in self.books],
            "rejected_by_reason": dict(self.rejected_by_reason),
            "difference_count": self.difference_count,
            "differences": [difference.to_dict() for difference in self.differences],
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
        }

    def print(self, console: Console) -> None:
        """Show the books as a table, then what differs, then the summary, whose lines are never wrapped."""
        console.print(self._table())
        for note in self.notes:
            console.print(Text(f"note: {note}", style="yellow"))
        for difference in self.differences:
            console.print(Text(str(difference), style="red"))
        style = "green" if self.balanced else "bold red"
        console.print(Text(self.summary(), style=style), soft_wrap=True)

    def _table(self) -> Table:
        """Accounts downwards, so that no number is cut on a narrow terminal."""
        table = Table("")
        for books in self.books:
            table.add_column(books.aggregate, justify="right")
        for account in ("records in", "results", "corrections", "rejected", "duplicates", "open", "open windows"):
            name = account.replace(" ", "_")
            table.add_row(account, *(f"{getattr(books, name):,}" for books in self.books))
        return table
