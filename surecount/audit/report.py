"""The books: what came in, and where every record of it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

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
    "clean_missing",
    "clean_doubled",
    "clean_unexpected",
    "clean_changed",
    "duplicate_missing",
    "duplicate_unexpected",
    "duplicate_changed",
    "relay_missing",
    "relay_doubled",
    "relay_unexpected",
    "relay_changed",
    "deleted_unread",
    "topic_made_anew",
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

    ``where`` is ``topic-partition@offset``, of the output or, for a reject, of the input record; what ingest and
    relays do is told of raw records, and the pathway and a slash stand before that. A window is named by
    ``aggregate``, ``key`` and ``start`` (RFC 3339); ``expected`` is what the input says about it, ``found`` what
    results and corrections say together.
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


class Differences:
    """Differences as they are found: the first of each kind are named, all are counted."""

    def __init__(self) -> None:
        self.count = 0
        self._named: dict[Kind, list[Difference]] = {}

    @property
    def named(self) -> tuple[Difference, ...]:
        """The first of each kind."""
        return tuple(difference for named in self._named.values() for difference in named)

    def add(self, difference: Difference) -> None:
        """One more."""
        self.count += 1
        named = self._named.setdefault(difference.kind, [])
        if len(named) < NAMED:
            named.append(difference)

    def add_all(self, places: Sequence[int], difference: Callable[[int], Difference]) -> None:
        """As many as there are ``places``, of one kind; only what is to be named is made."""
        for place in places[:NAMED]:
            self.add(difference(place))
        self.count += len(places[NAMED:])


@dataclass(frozen=True)
class Span:
    """How many windows (of a key each), and when the last of them starts (RFC 3339)."""

    windows: int
    latest: str

    def __str__(self) -> str:
        return f"{self.windows:,} windows that start up to {self.latest}"


@dataclass(frozen=True)
class Flow:
    """The books of what ingest reads, in records. ``before_cut`` are outputs of raw records that are deleted, and
    ``outputs_deleted`` raw records whose outputs may be deleted."""

    raw_in: int = 0
    clean: int = 0
    rejected: int = 0
    duplicates: int = 0
    before_cut: int = 0
    outputs_deleted: int = 0

    def __add__(self, other: Self) -> Flow:
        return Flow(
            self.raw_in + other.raw_in,
            self.clean + other.clean,
            self.rejected + other.rejected,
            self.duplicates + other.duplicates,
            self.before_cut + other.before_cut,
            self.outputs_deleted + other.outputs_deleted,
        )

    @property
    def balanced(self) -> bool:
        """Whether all records are somewhere."""
        accounted = self.clean + self.rejected + self.duplicates + self.outputs_deleted
        return self.raw_in + self.before_cut == accounted

    def equation(self) -> str:
        """The books in one line."""
        before = f" + {self.before_cut:,} before the cut" if self.before_cut else ""
        gone = f" + {self.outputs_deleted:,} with deleted outputs" if self.outputs_deleted else ""
        return (
            f"{self.raw_in:,} raw in{before} {'=' if self.balanced else '≠'} {self.clean:,} clean"
            f" + {self.rejected:,} rejected + {self.duplicates:,} duplicates{gone}"
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "balanced": self.balanced}


@dataclass(frozen=True)
class IngestBooks:
    """The books of ingest by pathway. ``duplicates`` are the accepted records whose event is in clean."""

    pathways: Mapping[str, Flow]

    @property
    def total(self) -> Flow:
        """All pathways together."""
        return sum(self.pathways.values(), Flow())

    @property
    def balanced(self) -> bool:
        """Whether all records of each pathway are somewhere."""
        return all(flow.balanced for flow in self.pathways.values())

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        pathways = {name: flow.to_dict() for name, flow in self.pathways.items()}
        return {**self.total.to_dict(), "balanced": self.balanced, "pathways": pathways}


@dataclass(frozen=True)
class Books:
    """One aggregate's books, in records.

    Where topics have lost their beginnings, ``before_cut`` are records that outputs have and the input has not any
    more, and ``outputs_deleted`` are records of the input whose outputs are not there any more, in so many windows.
    ``sums`` has the sums of accepted records by account: ``accepted``, ``results``, ``corrections``, ``open``,
    ``before_cut`` and ``outputs_deleted``.
    """

    aggregate: str
    records_in: int
    results: int
    corrections: int
    rejected: int
    duplicates: int
    open: int
    open_windows: int
    sums: Mapping[str, Sums]
    before_cut: int = 0
    outputs_deleted: int = 0
    before_cut_windows: Span | None = None
    outputs_deleted_windows: Span | None = None

    @property
    def accounted(self) -> int:
        """Records that are somewhere."""
        return self.results + self.corrections + self.rejected + self.duplicates + self.open + self.outputs_deleted

    @property
    def balanced(self) -> bool:
        """Whether all records are somewhere; that each is in the right place, the differences say."""
        return self.records_in + self.before_cut == self.accounted

    def equation(self) -> str:
        """The books in one line; accounts of what is deleted only where there is some."""
        sign = "=" if self.balanced else "≠"
        before = f" + {self.before_cut:,} before the cut" if self.before_cut else ""
        gone = f" + {self.outputs_deleted:,} in deleted outputs" if self.outputs_deleted else ""
        return (
            f"{self.records_in:,} records in{before} {sign} {self.results:,} in results"
            f" + {self.corrections:,} in corrections + {self.rejected:,} rejected"
            f" + {self.duplicates:,} duplicates + {self.open:,} in open windows{gone}"
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
            "before_cut": self.before_cut,
            "before_cut_windows": asdict(self.before_cut_windows) if self.before_cut_windows else None,
            "outputs_deleted": self.outputs_deleted,
            "outputs_deleted_windows": asdict(self.outputs_deleted_windows) if self.outputs_deleted_windows else None,
            "balanced": self.balanced,
            "sums": {account: dict(sums) for account, sums in self.sums.items()},
        }


@dataclass(frozen=True)
class Report:
    """What an audit found, of a whole pipeline or of one of its jobs.

    ``differences`` has the first of each kind, ``difference_count`` counts all. ``rejected_by_reason``
    is from the input. ``notes`` say what limits the audit. ``seconds`` is how long reading took. ``ingest``
    is None where there is none.
    """

    pipeline: str
    books: tuple[Books, ...]
    differences: tuple[Difference, ...]
    difference_count: int
    rejected_by_reason: Mapping[str, int]
    notes: tuple[str, ...]
    seconds: float
    ingest: IngestBooks | None = None

    @property
    def balanced(self) -> bool:
        """True where all books balance and nothing differs."""
        ingest = self.ingest is None or self.ingest.balanced
        return not self.difference_count and ingest and all(books.balanced for books in self.books)

    def summary(self) -> str:
        """The verdict: one line, or one for ingest and for each aggregate where their books differ."""
        lines = [("ingest: ", self.ingest.total.equation())] if self.ingest else []
        equations = [books.equation() for books in self.books]
        if len(set(equations)) == 1:
            lines.append(("aggregate: " if self.ingest else "", equations[0]))
        else:
            lines += [(f"{books.aggregate}: ", books.equation()) for books in self.books]
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
            "ingest": self.ingest.to_dict() if self.ingest else None,
            "books": [books.to_dict() for books in self.books],
            "rejected_by_reason": dict(self.rejected_by_reason),
            "difference_count": self.difference_count,
            "differences": [difference.to_dict() for difference in self.differences],
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
        }

    def print(self, console: Console) -> None:
        """Show the books as tables, then what differs, then the summary, whose lines are never wrapped."""
        if self.ingest:
            pathways = list(self.ingest.pathways.items())
            console.print(_table([*pathways, ("all", self.ingest.total)] if len(pathways) > 1 else pathways, _FLOW))
        console.print(_table([(books.aggregate, books) for books in self.books], _BOOKS))
        for note in self.notes:
            console.print(Text(f"note: {note}", style="yellow"))
        for difference in self.differences:
            console.print(Text(str(difference), style="red"))
        style = "green" if self.balanced else "bold red"
        console.print(Text(self.summary(), style=style), soft_wrap=True)


_FLOW = ("raw in", "clean", "rejected", "duplicates")
_BOOKS = ("records in", "results", "corrections", "rejected", "duplicates", "open", "open windows")
_DELETED = ("before cut", "outputs deleted")
"""Shown where there are some."""


def _table(columns: Sequence[tuple[str, object]], accounts: Sequence[str]) -> Table:
    """Accounts downwards, so that no number is cut on a narrow terminal."""
    table = Table("")
    for name, _ in columns:
        table.add_column(name, justify="right")
    for account in (*accounts, *_DELETED):
        numbers = [getattr(books, account.replace(" ", "_")) for _, books in columns]
        if account in accounts or any(numbers):
            table.add_row(account, *(f"{number:,}" for number in numbers))
    return table


def joined(reports: Sequence[Report], more: Sequence[Difference] = (), notes: Sequence[str] = ()) -> Report:
    """One report of the reports on a pipeline's jobs, with what else is wrong, and further notes."""
    reasons: Counter[str] = Counter()
    for report in reports:
        reasons.update(report.rejected_by_reason)
    return Report(
        pipeline=reports[-1].pipeline,
        books=tuple(books for report in reports for books in report.books),
        differences=(*more, *(difference for report in reports for difference in report.differences)),
        difference_count=len(more) + sum(report.difference_count for report in reports),
        rejected_by_reason=dict(sorted(reasons.items())),
        notes=tuple(dict.fromkeys([*(note for report in reports for note in report.notes), *notes])),
        seconds=sum(report.seconds for report in reports),
        ingest=next((report.ingest for report in reports if report.ingest), None),
    )
