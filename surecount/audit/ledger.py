"""The residual ledger: what the input says, less what results and corrections say.

Entries come and go. One that is even (no records and no sums left) is dropped, so memory is for the
windows that are open, or read on one side only so far, and not for records.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from operator import itemgetter
from typing import Any, Literal

from surecount.audit import exact
from surecount.audit.outputs import Found
from surecount.audit.retention import Reach
from surecount.audit.rules import Row
from surecount.audit.times import NEVER
from surecount.audit.truth import AggregatePlan, Key

_TIME = itemgetter(0)

NOTHING = Reach()
"""Nothing is deleted."""

Disorder = Literal["doubled", "out_of_order"]


@dataclass
class Total:
    """Records, and the exact sum of each summed field."""

    count: int
    sums: list[int]

    @classmethod
    def zero(cls, plan: AggregatePlan) -> Total:
        """Nothing yet."""
        return cls(0, [0] * len(plan.sums))

    def add(self, count: int, sums: Sequence[int]) -> None:
        """Add ``count`` records with these sums."""
        self.count += count
        for index, value in enumerate(sums):
            self.sums[index] += value


@dataclass
class Part:
    """What deletions explain in some windows, the last of which starts at ``latest`` (ms since 1970)."""

    total: Total
    windows: int = 0
    latest: int = NEVER

    def add(self, start: int, count: int, sums: Sequence[int]) -> None:
        """One window, by as much as its input and outputs differ."""
        self.total.add(count, sums)
        self.windows += 1
        self.latest = max(start, self.latest)


@dataclass
class Closing:
    """What is left at the end: the windows that are still open, and the closed ones that are uneven.

    ``uneven`` has the earliest as ``(window start, key)``; ``uneven_count`` counts them all. Where topics have lost
    their beginnings, ``before_cut`` is what outputs have more than the input, and ``outputs_deleted`` what they have
    less, in windows in which that can be.
    """

    open: Total
    before_cut: Part
    outputs_deleted: Part
    open_windows: int = 0
    uneven: list[tuple[int, Key]] = field(default_factory=list)
    uneven_count: int = 0


def units(plan: AggregatePlan, found: Found) -> list[int]:
    """The sums of an output as exact ints, floats too."""
    return [
        exact.float_units(value) if sum_.type == "float" else int(value)
        for sum_, value in zip(plan.sums, found.sums, strict=True)
    ]


class AggregateLedger:
    """The ledger of one aggregate. Records, results and corrections may come in any order."""

    def __init__(self, plan: AggregatePlan) -> None:
        self.plan = plan
        self.input = Total.zero(plan)
        self.results = Total.zero(plan)
        self.corrections = Total.zero(plan)
        # Window start → key → [count, sum …] of the input less the outputs.
        self._windows: dict[int, dict[Key, list[int]]] = {}
        # For float sums, the parts that were written for an entry, per field: each is rounded.
        self._parts: dict[tuple[int, Key], list[list[float | int]]] = {}
        self._floats = [index for index, sum_ in enumerate(plan.sums) if sum_.type == "float"]
        self._exact = [index for index, sum_ in enumerate(plan.sums) if sum_.type != "float"]
        # Partition of the results → key → newest window start.
        self._newest: defaultdict[int, dict[Key, int]] = defaultdict(dict)
        self._closed_through = 0

    @property
    def entries(self) -> int:
        """How many (window, key) are held in memory."""
        return sum(map(len, self._windows.values()))

    def add_rows(self, rows: Sequence[Row], plan: AggregatePlan | None = None) -> None:
        """Count accepted records; ``plan`` says where their values stand, if not where those of the ledger's own do."""
        plan = plan or self.plan
        windows, size = self._windows, plan.window_ms
        columns = [list(map(itemgetter(at), rows)) for at in plan.sums_at]
        # Each record's sums, where they are not just one.
        sums: Iterable[Any] = columns[0] if len(columns) == 1 else zip(*columns, strict=True) if columns else repeat(())
        alone = len(columns) == 1
        start = end = 0
        window: dict[Key, list[int]] = {}
        # This runs for every record and aggregate: what can be is done in C, or once for a window.
        for time, key, values in zip(map(_TIME, rows), map(plan.key_of, rows), sums, strict=False):
            if not start <= time < end:
                start = time - time % size
                end = start + size
                window = windows.setdefault(start, {})
            entry = window.get(key)
            if entry is None:
                window[key] = [1, values] if alone else [1, *values]
                continue
            entry[0] += 1
            if alone:
                entry[1] += values
            else:
                for slot, value in enumerate(values, start=1):
                    entry[slot] += value
            if not entry[0]:
                self._drop_if_even(start, key, entry)
                end = start  # The window may be gone with it.
        self.input.add(len(rows), list(map(sum, columns)))

    def add_result(self, found: Found, partition: int) -> Disorder | None:
        """Book a result that stands in ``partition`` of the results.

        One producer at a time writes the results of a key, in the order of their windows, so within a
        partition a window that does not come after the newest one is doubled or out of order.
        """
        newest = self._newest[partition]
        before = newest.get(found.key, -1)
        disorder: Disorder | None = None
        if found.start > before:
            newest[found.key] = found.start
        else:
            disorder = "doubled" if found.start == before else "out_of_order"
        self._subtract(found, self.results)
        return disorder

    def add_correction(self, found: Found) -> None:
        """Book a correction."""
        self._subtract(found, self.corrections)

    def _subtract(self, found: Found, total: Total) -> None:
        # Without floats, all sums are ints.
        sums: Sequence[int] = units(self.plan, found) if self._floats else found.sums  # type: ignore[assignment]
        total.add(found.records, sums)
        # All buckets close at one watermark: what is written for a window says that those before are closed.
        self._closed_through = max(self._closed_through, found.start + self.plan.window_ms)
        window = self._windows.setdefault(found.start, {})
        entry = window.get(found.key)
        if entry is None:
            entry = window[found.key] = [0] * (len(sums) + 1)
        entry[0] -= found.records
        for slot, value in enumerate(sums, start=1):
            entry[slot] -= value
        if self._floats:
            parts = self._parts.setdefault((found.start, found.key), [[] for _ in self._floats])
            for written, index in zip(parts, self._floats, strict=True):
                written.append(found.sums[index])
        if not entry[0]:
            self._drop_if_even(found.start, found.key, entry)

    def _drop_if_even(self, start: int, key: Key, entry: list[int]) -> None:
        if any(entry[index + 1] for index in self._exact):
            return
        if self._floats:
            parts = self._parts[start, key]
            if not all(
                exact.explains(entry[index + 1], written) for index, written in zip(self._floats, parts, strict=True)
            ):
                return
            del self._parts[start, key]
        window = self._windows[start]
        del window[key]
        if not window:
            del self._windows[start]

    def close(self, *, bounded: bool, limit: int, reach: Reach = NOTHING) -> Closing:
        """Judge what is left: with ``bounded`` nothing may be open. The ``limit`` earliest are named."""
        closing = Closing(Total.zero(self.plan), Part(Total.zero(self.plan)), Part(Total.zero(self.plan)))
        for start in sorted(self._windows):
            window = self._windows[start]
            end = start + self.plan.window_ms
            if not bounded and end > self._closed_through:
                closing.open_windows += len(window)
                for count, *sums in window.values():
                    closing.open.add(count, sums)
                continue
            keys = list(window)
            if start <= reach.input or end <= reach.outputs:
                keys = [key for key in keys if not self._explained(closing, start, window[key], reach)]
            closing.uneven_count += len(keys)
            if len(closing.uneven) < limit:
                closing.uneven += [(start, key) for key in heapq.nsmallest(limit - len(closing.uneven), keys)]
        return closing

    def _explained(self, closing: Closing, start: int, entry: list[int], reach: Reach) -> bool:
        """Book an uneven window as what deletions explain, where they can."""
        count, *sums = entry
        may_lack_input, may_lack_outputs = start <= reach.input, start + self.plan.window_ms <= reach.outputs
        if count < 0 and may_lack_input:
            closing.before_cut.add(start, -count, [-value for value in sums])
        elif (count > 0 and may_lack_outputs) or (may_lack_input and may_lack_outputs):
            closing.outputs_deleted.add(start, count, sums)
        else:
            return False
        return True


class WindowRecount:
    """A second look at some windows of one aggregate: all that the input and the outputs say about each.

    It has the last word on floats: in the ledger, where records and parts come in any order, an entry may
    look even for a moment when only rounding made it so, and leave the rest of it uneven.
    """

    def __init__(self, plan: AggregatePlan, windows: Sequence[tuple[int, Key]]) -> None:
        self.plan = plan
        self._input = {window: Total.zero(plan) for window in windows}
        self._outputs: dict[tuple[int, Key], list[Found]] = {window: [] for window in windows}

    def add_rows(self, rows: Sequence[Row], plan: AggregatePlan | None = None) -> None:
        """Count accepted records, as :meth:`AggregateLedger.add_rows` does."""
        plan = plan or self.plan
        for row in rows if self._input else ():
            total = self._input.get((row[0] - row[0] % plan.window_ms, plan.key_of(row)))
            if total is not None:
                total.add(1, [row[at] for at in plan.sums_at])

    def add_output(self, found: Found) -> None:
        """Book a result or a correction."""
        if (outputs := self._outputs.get((found.start, found.key))) is not None:
            outputs.append(found)

    def uneven(self) -> list[tuple[tuple[int, Key], Total, Total]]:
        """``((window start, key), expected, found)`` where they differ, in the order that was asked for."""
        differing = []
        for window, expected in self._input.items():
            outputs = self._outputs[window]
            found = Total.zero(self.plan)
            for output in outputs:
                found.add(output.records, units(self.plan, output))
            if expected.count != found.count or not all(
                exact.explains(one - other, [output.sums[index] for output in outputs])
                if field.type == "float"
                else one == other
                for index, (field, one, other) in enumerate(zip(self.plan.sums, expected.sums, found.sums, strict=True))
            ):
                differing.append((window, expected, found))
        return differing
