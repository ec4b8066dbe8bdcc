"""One reading of input and outputs side by side, and a second one that looks closer where they differ."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from confluent_kafka import Message

from surecount.audit import exact, times
from surecount.audit.cut import Cut
from surecount.audit.ledger import AggregateLedger, Closing, Total, WindowRecount
from surecount.audit.outputs import Found, MalformedError, OutputReader, UnknownAggregateError
from surecount.audit.reader import Place, Run, TopicReader
from surecount.audit.rejects import Reject, RejectLedger, RejectRecount, digest, parse_reject
from surecount.audit.report import NAMED, Amount, Books, Difference, Kind, Report
from surecount.audit.rules import Row
from surecount.audit.truth import AggregatePlan, Key, Truth

if TYPE_CHECKING:
    from surecount.config import Pipeline

Progress = Callable[[int, int], None]


class Accounts(Protocol):
    """What one reading fills."""

    def accept(self, rows: list[Row]) -> None:
        """Accepted input records."""

    def reject(self, reject: Reject) -> None:
        """A rejected input record."""

    def result(self, found: Found, place: Place, offset: int) -> None:
        """A result."""

    def correction(self, found: Found) -> None:
        """A correction."""

    def find_reject(self, reject: Reject) -> None:
        """A record of the rejects topic."""

    def malformed(self, where: str, detail: str) -> None:
        """An output that can't be read."""

    def unknown(self, aggregate: str) -> None:
        """An output of an aggregate that the pipeline doesn't have."""


class FirstReading:
    """The books of all aggregates, in memory for what is open."""

    def __init__(self, plans: tuple[AggregatePlan, ...]) -> None:
        self.ledgers = [AggregateLedger(plan) for plan in plans]
        self.rejects = RejectLedger()
        self.reasons: Counter[str] = Counter()
        self.unknown_aggregates: Counter[str] = Counter()
        self.differences: dict[Kind, list[Difference]] = {}
        self.counts: Counter[Kind] = Counter()

    def accept(self, rows: list[Row]) -> None:
        for ledger in self.ledgers:
            ledger.add_rows(rows)

    def reject(self, reject: Reject) -> None:
        self.rejects.expect(reject)
        self.reasons[reject.reason] += 1

    def result(self, found: Found, place: Place, offset: int) -> None:
        ledger = self.ledgers[found.aggregate]
        disorder = ledger.add_result(found, place[1])
        if disorder is not None:
            details = {
                "doubled": "the result of this window stands twice",
                "out_of_order": "this result comes after that of a later window: doubled, or out of order",
            }
            name = _name_window(ledger.plan, found.start, found.key)
            self._differ(Difference(disorder, details[disorder], f"{place[0]}-{place[1]}@{offset}", **name))

    def correction(self, found: Found) -> None:
        self.ledgers[found.aggregate].add_correction(found)

    def find_reject(self, reject: Reject) -> None:
        self.rejects.find(reject)

    def malformed(self, where: str, detail: str) -> None:
        self._differ(Difference("malformed", detail, where))

    def unknown(self, aggregate: str) -> None:
        self.unknown_aggregates[aggregate] += 1

    def _differ(self, difference: Difference) -> None:
        self.counts[difference.kind] += 1
        named = self.differences.setdefault(difference.kind, [])
        if len(named) < NAMED:
            named.append(difference)


class SecondReading:
    """The whole truth about some windows and some chunks of rejects."""

    def __init__(self, first: FirstReading, closings: list[Closing]) -> None:
        self.windows = [
            WindowRecount(ledger.plan, closing.uneven)
            for ledger, closing in zip(first.ledgers, closings, strict=True)
        ]
        self.rejects = RejectRecount(first.rejects.uneven())

    def accept(self, rows: list[Row]) -> None:
        for recount in self.windows:
            recount.add_rows(rows)

    def reject(self, reject: Reject) -> None:
        self.rejects.expect(reject)

    def result(self, found: Found, place: Place, offset: int) -> None:  # noqa: ARG002
        self.windows[found.aggregate].add_output(found)

    def correction(self, found: Found) -> None:
        self.windows[found.aggregate].add_output(found)

    def find_reject(self, reject: Reject) -> None:
        self.rejects.find(reject)

    def malformed(self, where: str, detail: str) -> None:
        """The first reading has named it."""

    def unknown(self, aggregate: str) -> None:
        """The first reading has counted it."""

    def differences(self) -> list[Difference]:
        """What differs: windows by aggregate and start, then rejects by offset."""
        found = [_uneven(recount.plan, *item) for recount in self.windows for item in recount.windows.items()]
        return found + [_reject_difference(*item) for item in self.rejects.differences()]


def audit_cut(pipeline: Pipeline, truth: Truth, cut: Cut, bounded: bool, recount: Recount) -> Report:
    raise NotImplementedError
