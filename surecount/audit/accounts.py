"""What a reading fills: first the books of all, then a closer look at what differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from confluent_kafka import Message

from surecount.audit import exact, times
from surecount.audit.epochs import Plans
from surecount.audit.ledger import NOTHING, AggregateLedger, Closing, Part, Total, WindowRecount
from surecount.audit.outputs import Found
from surecount.audit.pacing import Place
from surecount.audit.reader import appended_at, partition_of, where
from surecount.audit.rejects import Reject, RejectLedger, RejectRecount
from surecount.audit.report import Amount, Books, Difference, Differences, Span
from surecount.audit.retention import FirstCounted, Reach, trimmed
from surecount.audit.rules import Row
from surecount.audit.times import NEVER
from surecount.audit.truth import AggregatePlan, Key
from surecount.config import format_duration

RECOUNTED = 10_000
"""How many uneven windows of an aggregate are looked at again."""

NO_PLACES: Mapping[Place, tuple[int, int]] = {}


class Accounts(Protocol):
    """What one reading fills."""

    def accept(self, rows: Sequence[Row], epoch: int, place: Place) -> None:
        """Accepted input records of an epoch, all of one partition."""

    def reject(self, reject: Reject, epoch: int, timestamp_ms: int) -> None:
        """A rejected input record, and its Kafka timestamp."""

    def result(self, found: Found, message: Message) -> None:
        """A result, and the record that it stands in."""

    def correction(self, found: Found, message: Message) -> None:
        """A correction, and the record that it stands in."""

    def find_reject(self, reject: Reject, epoch: int, timestamp_ms: int) -> None:
        """A record of the rejects topic; the epoch and the Kafka timestamp of the one that it was."""

    def malformed(self, message: Message, detail: str) -> None:
        """An output that can't be read."""

    def unknown(self, aggregate: str) -> None:
        """An output of an aggregate that the pipeline doesn't have."""


class FirstReading:
    """The books of all aggregates, in memory for what is open.

    ``sources`` are the ranges of offsets of the input, and rejects of records of up to ``rejects_deleted`` (ms since
    1970) may be deleted.
    """

    def __init__(
        self,
        plans: Plans,
        sources: Mapping[Place, tuple[int, int]] = NO_PLACES,
        rejects_deleted: int = NEVER,
    ) -> None:
        self._plans = plans
        self.begin = {place: begin for place, (begin, _) in sources.items()}
        self.rejects_deleted = rejects_deleted
        self.first_counted = FirstCounted(trimmed(sources))
        self.records: Counter[str] = Counter()
        """How many records were read, by topic."""
        self.ledgers = [AggregateLedger(plan) for plan in plans.all]
        self.rejects = RejectLedger()
        self.reasons: Counter[str] = Counter()
        # By epoch: an aggregate's books have those of its own epochs.
        self._rejects_expected: Counter[int] = Counter()
        self._rejects_found: Counter[int] = Counter()
        self._rejects_before_cut: Counter[int] = Counter()
        # Of records whose reject may be deleted: the rejects that have to be less those that are.
        self._rejects_gone: Counter[int] = Counter()
        self.unknown_aggregates: Counter[str] = Counter()
        self.differences = Differences()

    def accept(self, rows: Sequence[Row], epoch: int, place: Place) -> None:
        plans = self._plans.by_epoch[epoch]
        self.records[place[0]] += len(rows)
        for index, plan in plans:
            self.ledgers[index].add_rows(rows, plan)
        if self.first_counted.wants(place):
            windows = {(index, row[0] - row[0] % plan.window_ms) for index, plan in plans for row in rows}
            self.first_counted.read(place, len(rows), windows)

    def reject(self, reject: Reject, epoch: int, timestamp_ms: int) -> None:
        self.reasons[reject.reason] += 1
        self.records[reject.topic] += 1
        self._rejects_expected[epoch] += 1
        if timestamp_ms <= self.rejects_deleted:
            self._rejects_gone[epoch] += 1
        else:
            self.rejects.expect(reject)

    def result(self, found: Found, message: Message) -> None:
        ledger = self.ledgers[found.aggregate]
        self.first_counted.written((found.aggregate, found.start), appended_at(message))
        disorder = ledger.add_result(found, partition_of(message))
        if disorder is not None:
            details = {
                "doubled": "the result of this window stands twice",
                "out_of_order": "this result comes after that of a later window: doubled, or out of order",
            }
            name = _name_window(ledger.plan, found.start, found.key)
            self.differences.add(Difference(disorder, details[disorder], where(message), **name))

    def correction(self, found: Found, message: Message) -> None:
        self.first_counted.written((found.aggregate, found.start), appended_at(message))
        self.ledgers[found.aggregate].add_correction(found)

    def find_reject(self, reject: Reject, epoch: int, timestamp_ms: int) -> None:
        self._rejects_found[epoch] += 1
        if reject.offset < self.begin.get(reject[:2], 0):
            self._rejects_before_cut[epoch] += 1
        elif timestamp_ms <= self.rejects_deleted:
            self._rejects_gone[epoch] -= 1
        else:
            self.rejects.find(reject)

    def malformed(self, message: Message, detail: str) -> None:
        self.differences.add(Difference("malformed", detail, where(message)))

    def unknown(self, aggregate: str) -> None:
        self.unknown_aggregates[aggregate] += 1

    def close(self, *, bounded: bool, reach: Reach = NOTHING) -> list[Closing]:
        """What is left of each aggregate; with ``bounded`` nothing may be open, but for one that has ended."""
        return [
            ledger.close(bounded=bounded and not self._plans.ended(index), limit=RECOUNTED, reach=reach)
            for index, ledger in enumerate(self.ledgers)
        ]

    def books(self, closings: Sequence[Closing]) -> tuple[Books, ...]:
        """The books of each aggregate. What they have too much is among the differences after that."""
        books = tuple(map(self._books, range(len(self.ledgers)), closings))
        deleted = sum(self.begin.values())
        for one in books:
            if one.before_cut > deleted:
                detail = (
                    f"outputs have {one.before_cut:,} records more than the input, of which {deleted:,} are deleted"
                )
                self.differences.add(Difference("doubled", detail, aggregate=one.aggregate))
        if (more := -sum(self._rejects_gone.values())) > 0:
            detail = f"rejects have {more:,} records more than there can be of what was rejected"
            self.differences.add(Difference("reject_unexpected", detail))
        return books

    def _books(self, index: int, closing: Closing) -> Books:
        ledger, epochs = self.ledgers[index], self._plans.epochs_of(index)
        totals = {
            "accepted": ledger.input,
            "results": ledger.results,
            "corrections": ledger.corrections,
            "open": closing.open,
            "before_cut": closing.before_cut.total,
            "outputs_deleted": closing.outputs_deleted.total,
        }
        return Books(
            aggregate=self._name(ledger.plan),
            records_in=ledger.input.count + sum(self._rejects_expected[epoch] for epoch in epochs),
            results=ledger.results.count,
            corrections=ledger.corrections.count,
            rejected=sum(self._rejects_found[epoch] for epoch in epochs),
            duplicates=0,
            open=closing.open.count,
            open_windows=closing.open_windows,
            before_cut=closing.before_cut.total.count + sum(self._rejects_before_cut[epoch] for epoch in epochs),
            outputs_deleted=closing.outputs_deleted.total.count + sum(self._rejects_gone[epoch] for epoch in epochs),
            before_cut_windows=_span(closing.before_cut),
            outputs_deleted_windows=_span(closing.outputs_deleted),
            sums={account: _amount(ledger.plan, total).sums for account, total in totals.items()},
        )

    def _name(self, plan: AggregatePlan) -> str:
        """The aggregate's name, with its window where it had several."""
        several = sum(other.name == plan.name for other in self._plans.all) > 1
        return f"{plan.name} by {format_duration(plan.window_ms)}" if several else plan.name


class SecondReading:
    """The whole truth about some windows of each aggregate, by start and key, and about uneven chunks of rejects."""

    def __init__(self, plans: Plans, first: FirstReading, windows: Sequence[list[tuple[int, Key]]]) -> None:
        self._plans = plans
        self.recounted = sum(map(len, windows))
        self.windows = [
            WindowRecount(ledger.plan, chosen) for ledger, chosen in zip(first.ledgers, windows, strict=True)
        ]
        self.rejects = RejectRecount(first.rejects.uneven())
        self._begin, self._rejects_deleted = first.begin, first.rejects_deleted

    def accept(self, rows: Sequence[Row], epoch: int, place: Place) -> None:  # noqa: ARG002
        for index, plan in self._plans.by_epoch[epoch]:
            self.windows[index].add_rows(rows, plan)

    def reject(self, reject: Reject, epoch: int, timestamp_ms: int) -> None:  # noqa: ARG002
        if timestamp_ms > self._rejects_deleted:
            self.rejects.expect(reject)

    def result(self, found: Found, message: Message) -> None:  # noqa: ARG002
        self.windows[found.aggregate].add_output(found)

    def correction(self, found: Found, message: Message) -> None:  # noqa: ARG002
        self.windows[found.aggregate].add_output(found)

    def find_reject(self, reject: Reject, epoch: int, timestamp_ms: int) -> None:  # noqa: ARG002
        if timestamp_ms > self._rejects_deleted and reject.offset >= self._begin.get(reject[:2], 0):
            self.rejects.find(reject)

    def malformed(self, message: Message, detail: str) -> None:
        """The first reading has named it."""

    def unknown(self, aggregate: str) -> None:
        """The first reading has counted it."""

    def windows_that_differ(self) -> list[Difference]:
        """The windows, by aggregate and start."""
        return [_uneven(recount.plan, *window) for recount in self.windows for window in recount.uneven()]

    def rejects_that_differ(self) -> list[Difference]:
        """All rejects that are not as they have to be, by offset."""
        return [_reject_difference(*item) for item in self.rejects.differences()]


def _span(part: Part) -> Span | None:
    return Span(part.windows, times.format_rfc3339(part.latest)) if part.windows else None


def _amount(plan: AggregatePlan, total: Total) -> Amount:
    sums: dict[str, Any] = {}
    for field, value in zip(plan.sums, total.sums, strict=True):
        match field.type:
            case "decimal":
                sums[field.path] = exact.decimal_text(value, field.scale)
            case "float":
                sums[field.path] = exact.nearest_float(value)
            case _:
                sums[field.path] = value
    return Amount(total.count, sums)


def _name_window(plan: AggregatePlan, start: int, key: Key) -> dict[str, Any]:
    named = {field.path: value for field, value in zip(plan.keys, key, strict=True)}
    return {"aggregate": plan.name, "key": named, "start": times.format_rfc3339(start)}


def _uneven(plan: AggregatePlan, window: tuple[int, Key], expected: Total, found: Total) -> Difference:
    said, wrote = _amount(plan, expected), _amount(plan, found)
    detail = f"expected {said}, found {wrote if found.count else 'none'}"
    return Difference("uneven", detail, expected=said, found=wrote, **_name_window(plan, *window))


def _reject_difference(place: tuple[str, int, int], expected: Reject | None, found: Sequence[Reject]) -> Difference:
    where = f"{place[0]}-{place[1]}@{place[2]}"
    if expected is None:
        return Difference("reject_unexpected", f"is in rejects as {found[0].reason}, and no reject", where)
    if not found:
        return Difference("reject_missing", f"is {expected.reason}, and not in rejects", where)
    if len(found) > 1:
        return Difference("reject_unexpected", f"is {expected.reason}, and {len(found)} times in rejects", where)
    if found[0].reason != expected.reason:
        detail = f"is {expected.reason}, and in rejects as {found[0].reason}"
    else:
        detail = f"is {expected.reason}, and in rejects with another key or value"
    return Difference("reject_changed", detail, where)
