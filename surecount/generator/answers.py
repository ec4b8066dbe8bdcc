"""The answers to a run: what every full window holds.

The amounts of a key in a window add up to ``per_window * (per_window + 1) / 2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from surecount.config import format_duration
from surecount.generator.plan import FLOAT_STEP, Plan
from udfs import spec


@dataclass(frozen=True)
class Answer:
    """What every full window of one aggregate holds for each of its keys.

    ``sums`` is by field, in the field's own type. ``windows`` counts the full windows, from
    ``start_ms`` to ``end_ms``. Where windows don't all hold the same, ``unknown`` says why, and
    the rest is empty.
    """

    aggregate: str
    keys: int
    window_ms: int
    windows: int
    start_ms: int
    end_ms: int
    count: int
    sums: dict[str, int | Decimal | float]
    unknown: str = ""

    def __str__(self) -> str:
        head = f"{self.aggregate}: {self.keys:,} keys"
        if self.unknown:
            return f"{head}, {self.unknown}"
        what = f"windows of {format_duration(self.window_ms)}"
        if not self.windows:
            return f"{head}, no full {what}"
        start, end = (str(np.datetime64(ms, "ms"))[:19] + "Z" for ms in (self.start_ms, self.end_ms))
        sums = "".join(f", sum of {path} {_plain(total)}" for path, total in self.sums.items())
        return f"{head} × {self.windows:,} full {what} ({start} to {end}), each: count {self.count:,}{sums}"


def _plain(total: int | Decimal | float) -> str:
    return f"{total:f}" if isinstance(total, Decimal) else f"{total:,}"


@dataclass(frozen=True)
class Expected:
    """The answers, one an aggregate, over results and corrections and without duplicates."""

    answers: tuple[Answer, ...]

    def __str__(self) -> str:
        return "\n".join(str(answer) for answer in self.answers)


def expected(plan: Plan) -> Expected:
    """The answers to all events of a plan."""
    return Expected(tuple(_answer(plan, aggregate) for aggregate in plan.spec.aggregates))


def _answer(plan: Plan, aggregate: spec.Aggregate) -> Answer:
    keys = plan.keys
    first = plan.spec.aggregates[0].key[0]
    if first not in aggregate.key:
        keys = int(np.prod([plan.digits[field.path][1] for field in aggregate.key]))
    window = aggregate.window_ms
    if window % plan.window_ms:
        why = (
            f"windows of {format_duration(window)} are no multiple of {format_duration(plan.window_ms)}, "
            "so they don't all hold the same"
        )
        return Answer(aggregate.name, keys, window, 0, plan.start_ms, plan.start_ms, 0, {}, why)
    start = -(-plan.start_ms // window) * window
    # Windows of the first aggregate that are complete.
    covered_ms = plan.start_ms + plan.events // plan.events_per_window * plan.window_ms
    windows = max(0, (covered_ms - start) // window)
    times = window // plan.window_ms * (plan.keys // keys)
    amounts = times * (plan.per_window * (plan.per_window + 1) // 2)
    return Answer(
        aggregate=aggregate.name,
        keys=keys,
        window_ms=window,
        windows=windows,
        start_ms=start,
        end_ms=start + windows * window,
        count=times * plan.per_window,
        sums={field.path: _total(field, amounts * plan.factors[field.path]) for field in aggregate.sums},
    )


def _total(field: spec.Field, amounts: int) -> int | Decimal | float:
    match field.type:
        case "decimal":
            return Decimal(amounts).scaleb(-field.scale)
        case "float":
            return amounts * FLOAT_STEP
    return amounts
