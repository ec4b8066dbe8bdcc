"""Which event is where, and the answers that follow from it.

Event ``i`` belongs to key ``i % keys`` in round ``i // keys``. A window of the first aggregate holds
``per_window`` whole rounds, so every key has that many events in it. The amount is the round's place
in its window, from 1: amounts add up to ``per_window * (per_window + 1) / 2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from surecount.config import Pipeline, format_duration
from surecount.errors import SurecountError
from surecount.generator.options import Options
from udfs import spec

Ints = NDArray[np.int64]

_CARDINALITY = 10
# An amount of 1 stands for this: exact in a double, and with a fraction.
FLOAT_STEP = 0.25


@dataclass(frozen=True)
class Plan:
    """The events of one run as functions of their number; times are in ms since 1970.

    ``stride`` and ``values`` give each key field but the first of the first aggregate: it takes the
    value ``key // stride % values``. ``notes`` are for people: what was adapted, or may surprise.
    """

    spec: spec.Spec
    events: int
    keys: int
    per_window: int
    start_ms: int
    out_of_orderness_ms: int
    disorder_ms: int
    digits: dict[str, tuple[int, int]]
    notes: tuple[str, ...]

    @property
    def window_ms(self) -> int:
        """The first aggregate's window."""
        return self.spec.aggregates[0].window_ms

    @property
    def events_per_window(self) -> int:
        """Events of all keys in one window of the first aggregate."""
        return self.per_window * self.keys

    def times(self, index: Ints) -> Ints:
        """Event times: evenly spaced, never decreasing, each window's first at the window's start."""
        windows, place = np.divmod(index, self.events_per_window)
        return self.start_ms + windows * self.window_ms + place * self.window_ms // self.events_per_window

    @property
    def end_ms(self) -> int:
        """Where the event after the last one would be."""
        return int(self.times(np.array([self.events]))[0])

    @property
    def hold_ms(self) -> int:
        """How far in event time a late event is held back, so that its window has surely closed.

        A source may take the event time of every 16th record of a partition only, so the watermark
        can be some records behind.
        """
        some_records = 64 * self.window_ms // self.events_per_window
        later = max(1_000, self.window_ms // 10) + some_records
        return self.window_ms + self.out_of_orderness_ms + self.disorder_ms + later

    @property
    def copy_within_ms(self) -> int:
        """How far behind its original a duplicate may be: it is never late for that alone."""
        return max(0, self.out_of_orderness_ms - self.disorder_ms)

    @cached_property
    def factors(self) -> dict[str, int]:
        """What each summed field's amount is multiplied with, so that no two have the same sums."""
        paths = dict.fromkeys(field.path for aggregate in self.spec.aggregates for field in aggregate.sums)
        return {path: number for number, path in enumerate(paths, start=1)}


def plan(pipeline: Pipeline, options: Options, now_ms: int) -> Plan:
    """Fit a run to the pipeline; raises SurecountError where the answers would not be known."""
    data = pipeline.spec()
    window = data.aggregates[0].window_ms
    if pipeline.source.decode is not None:
        raise SurecountError(
            f"source.decode = {pipeline.source.decode!r}: only that function knows what records look like",
            "generate events for a pipeline that reads JSON",
        )
    if data.event_time.unit == "s" and data.event_time.path and window % 1_000:
        raise SurecountError(
            f"event times in whole seconds don't fit windows of {format_duration(window)}",
            "use windows of whole seconds, or an event time in ms",
        )
    _check_roles(data)
    notes: list[str] = []
    keys = options.keys or _default_keys(options, window)
    per_window = options.per_window if options.rate is None else _per_window(options.rate, keys, window, notes)
    if per_window * keys * window >= 2**62:
        raise SurecountError(
            f"{per_window * keys:,} events in a window of {format_duration(window)} are too many",
            "give fewer --keys or a lower --rate",
        )
    span = -(-options.events * window // (per_window * keys))
    start = _start(options, window, span, now_ms, notes)
    if options.disorder_ms and options.disorder_ms >= pipeline.source.out_of_orderness:
        notes.append(
            f"--disorder {format_duration(options.disorder_ms)} is not below source.out_of_orderness = "
            f"{format_duration(pipeline.source.out_of_orderness)}: some events will be late"
        )
    if options.duplicates and pipeline.source.event_id is None:
        notes.append("without source.event_id nothing can tell duplicates: they will count twice")
    return Plan(
        spec=data,
        events=options.events,
        keys=keys,
        per_window=per_window,
        start_ms=start,
        out_of_orderness_ms=pipeline.source.out_of_orderness,
        disorder_ms=options.disorder_ms,
        digits=_digits(data, keys),
        notes=tuple(notes),
    )


def _check_roles(data: spec.Spec) -> None:
    """A value that is a key here and a sum there can't follow both rules."""
    time = [data.event_time.path] if data.event_time.path else []
    keys = [*{f.path for aggregate in data.aggregates for f in aggregate.key}]
    sums = [*{f.path for aggregate in data.aggregates for f in aggregate.sums}]
    paths = [*time, *keys, *sums]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise SurecountError(
            f"field {twice!r} is used in two ways (event time, key or sum): its events have no simple answer",
            "generate events for a pipeline that uses a field in one way",
        )


def _default_keys(options: Options, window_ms: int) -> int:
    """A power of ten up to 1,000 that leaves some windows, and an event of each key in each."""
    most = options.events // (5 * options.per_window)
    if options.rate is not None:
        most = min(options.events, int(options.rate * window_ms / 1_000))
    return max(keys for keys in (1, 10, 100, 1_000) if keys <= max(1, most))


def _per_window(rate: float, keys: int, window_ms: int, notes: list[str]) -> int:
    in_window = rate * window_ms / 1_000
    # The tolerance is for a product such as 0.1 * 30.
    per_window = int(in_window / keys + 1e-9)
    if per_window < 1:
        most, least = max(1, int(in_window)), keys * 1_000 / window_ms
        raise SurecountError(
            f"--rate {rate:g} gives {in_window:g} events in a window of {format_duration(window_ms)}: "
            f"too few for each of --keys {keys:,} to have one",
            f"give at most --keys {most:,}, or at least --rate {least:.6g}",
        )
    even = per_window * keys * 1_000 / window_ms
    if abs(even - rate) > 1e-6 * rate:
        notes.append(f"{even:.6g} events a second instead of {rate:g}, so that a window holds whole rounds")
    return per_window


def _start(options: Options, window_ms: int, span_ms: int, now_ms: int, notes: list[str]) -> int:
    if options.start_ms is None:
        start = now_ms // window_ms * window_ms
        if options.rate is None:
            start -= -(-span_ms // window_ms) * window_ms
        if start < 0:
            raise SurecountError(
                f"{options.events:,} events would reach back over {format_duration(span_ms)}, to before 1970",
                "give more --keys or fewer --events",
            )
        return start
    start = options.start_ms // window_ms * window_ms
    if start != options.start_ms:
        notes.append(f"starts {format_duration(options.start_ms - start)} before --start, where a window begins")
    end = start if options.rate is not None else start + span_ms
    if end > now_ms:
        raise SurecountError(
            f"--start and {options.events:,} events over {format_duration(span_ms)} would end "
            f"{format_duration(end - now_ms)} from now, and event times ahead of the clock are rejected",
            "give an earlier --start, more --keys or fewer --events",
        )
    return start


def _digits(data: spec.Spec, keys: int) -> dict[str, tuple[int, int]]:
    """Each further key field is one digit of the key's number, in bases whose product divides ``keys``.

    So every combination of values has the same number of keys.
    """
    first = data.aggregates[0].key[0].path
    paths = dict.fromkeys(f.path for aggregate in data.aggregates for f in aggregate.key if f.path != first)
    digits = {}
    stride = 1
    for path in paths:
        left = keys // stride
        values = max(base for base in range(1, _CARDINALITY + 1) if left % base == 0)
        digits[path] = (stride, values)
        stride *= values
    return digits


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
