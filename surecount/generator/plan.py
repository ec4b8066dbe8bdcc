"""Which event is where.

Event ``i`` belongs to key ``i % keys`` in round ``i // keys``. A window of the first aggregate holds
``per_window`` whole rounds, so every key has that many events in it. The amount is the round's place
in its window, from 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from surecount.config import Pipeline, format_duration
from surecount.errors import SurecountError
from surecount.generator.domain import Domain, domains
from surecount.generator.options import Options
from udfs import spec

Ints = NDArray[np.int64]
Times = TypeVar("Times", int, Ints)

_CARDINALITY = 10
# An amount of 1 stands for this: exact in a double, and with a fraction.
FLOAT_STEP = 0.25


@dataclass(frozen=True)
class Plan:
    """The events of one run as functions of their number; times are in ms since 1970.

    ``stride`` and ``values`` give each key field but the first of the first aggregate: it takes the
    value ``key // stride % values``. ``domains`` are the values that pass the checks, by field.
    ``notes`` are for people: what was adapted, or may surprise.
    """

    spec: spec.Spec
    events: int
    keys: int
    per_window: int
    start_ms: int
    out_of_orderness_ms: int
    disorder_ms: int
    digits: dict[str, tuple[int, int]]
    domains: dict[str, Domain]
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

    @property
    def ids(self) -> tuple[str, ...]:
        """The fields whose value is another one for each event."""
        return _free_ids(self.spec, self.domains)


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
    passing = domains(data)
    _check_ids(data, passing, options.events)
    notes: list[str] = []
    keys = _keys(options, window, passing[data.aggregates[0].key[0].path])
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
    notes += _copy_notes(pipeline, options)
    _check_skew(pipeline, options)
    run = Plan(
        spec=data,
        events=options.events,
        keys=keys,
        per_window=per_window,
        start_ms=start,
        out_of_orderness_ms=pipeline.source.out_of_orderness,
        disorder_ms=options.disorder_ms,
        digits=_digits(data, keys, passing),
        domains=passing,
        notes=tuple(notes),
    )
    _check_values(run)
    if pipeline.has_ingest:
        _check_horizon(run, options, pipeline.source.horizon)
    return run


def _check_skew(pipeline: Pipeline, options: Options) -> None:
    if not options.skew_ms:
        return
    if pipeline.source.event_time == "kafka":
        raise SurecountError(
            "--skew: the clocks of producers are the event times of this pipeline, and its answers would be others",
            "leave it out, or name a field as source.event_time",
        )
    if options.skew_ms + options.disorder_ms >= pipeline.source.max_ahead:
        raise SurecountError(
            f"--skew {format_duration(options.skew_ms)} is not below source.max_ahead = "
            f"{format_duration(pipeline.source.max_ahead)}: events would be rejected as ahead of their producers",
            "give less",
        )


def _copy_notes(pipeline: Pipeline, options: Options) -> Iterator[str]:
    several = len(pipeline.pathways) > 1
    if pipeline.source.event_id is None and options.duplicates:
        yield "without source.event_id nothing can tell duplicates: they will count twice"
    if pipeline.source.event_id is None and several:
        yield "without source.event_id an event counts once for each pathway that it is sent on"
    if several and options.pathway and options.start_ms is None:
        yield "without --start a run on another pathway makes other events"


def in_unit(ms: Times, unit: spec.TimeUnit) -> Times:
    """Event times as integers in their unit; RFC 3339 texts are made of milliseconds."""
    match unit:
        case "s":
            return ms // 1_000
        case "us":
            return ms * 1_000
        case "ns":
            return ms * 1_000_000
    return ms


def _in_roles(data: spec.Spec) -> list[str]:
    """Event time, keys and sums, by path, each once in each of these roles."""
    time = [data.event_time.path] if data.event_time.path else []
    keys = {f.path for aggregate in data.aggregates for f in aggregate.key}
    sums = {f.path for aggregate in data.aggregates for f in aggregate.sums}
    return [*time, *keys, *sums]


def _check_roles(data: spec.Spec) -> None:
    """A value that is a key here and a sum there can't follow both rules."""
    paths = _in_roles(data)
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise SurecountError(
            f"field {twice!r} is used in two ways (event time, key or sum): its events have no simple answer",
            "generate events for a pipeline that uses a field in one way",
        )


def _free_ids(data: spec.Spec, passing: Mapping[str, Domain]) -> tuple[str, ...]:
    """The fields of the event id that neither a role nor a list of allowed values ties down."""
    tied = _in_roles(data)
    return tuple(f.path for f in data.event_id if f.path not in tied and passing[f.path].allowed is None)


def _check_ids(data: spec.Spec, passing: Mapping[str, Domain], events: int) -> None:
    """Another id for each event, or deduplication would change the answers."""
    free = _free_ids(data, passing)
    if data.event_id and not free:
        named = ", ".join(field.path for field in data.event_id)
        raise SurecountError(
            f"source.event_id = {named}: each of these is the event time, a key, a sum or has a one_of, so the "
            "ids of generated events would repeat",
            "generate events for a pipeline whose event_id has a field of its own",
        )
    if few := next((passing[path] for path in free if passing[path].size < events), None):
        raise SurecountError(
            f"--events {events:,}: the checks of {few.field.path!r}, an event id, let {few.size:,} values pass",
            f"give at most --events {few.size}",
        )


def _check_values(run: Plan) -> None:
    """The answers rest on event times and amounts, so these can't be fitted to the pipeline's checks."""
    time = run.spec.event_time
    if time.path:
        first, last = (in_unit(int(run.times(np.array([event]))[0]), time.unit) for event in (0, run.events - 1))
        _check_range(run.domains[time.path], range(first, last + 1))
    for path, factor in run.factors.items():
        _check_range(run.domains[path], range(factor, factor * run.per_window + 1, factor))


def _check_range(domain: Domain, made: range) -> None:
    step = FLOAT_STEP if domain.field.type == "float" else 1
    low, high = made[0] * step, made[-1] * step
    all_pass = low in domain and high in domain
    if not all_pass or (domain.allowed is not None and any(value not in domain for value in made)):
        raise SurecountError(
            f"the check of {domain.field.path!r} does not go with generated events, whose values there are "
            f"{domain.text(low)} to {domain.text(high)}",
            "widen it, or change the values with --per-window (sums) or --start (event times)",
        )


def _check_horizon(run: Plan, options: Options, horizon_ms: int) -> None:
    behind = (run.hold_ms if options.late else run.disorder_ms) - run.out_of_orderness_ms
    if behind > horizon_ms:
        raise SurecountError(
            f"--{'late' if options.late else 'disorder'}: events up to {format_duration(behind)} behind the "
            f"watermark are beyond source.horizon = {format_duration(horizon_ms)}, and would be rejected",
            "give a longer horizon, or shorter windows",
        )


def _keys(options: Options, window_ms: int, domain: Domain) -> int:
    """How many keys the first key field tells apart."""
    keys = options.keys or int(min(_default_keys(options, window_ms), domain.size))
    if keys > domain.size:
        raise SurecountError(
            f"--keys {keys:,}: the checks of {domain.field.path!r} let {domain.size:,} values pass",
            f"give at most --keys {domain.size}",
        )
    return keys


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


def _digits(data: spec.Spec, keys: int, passing: Mapping[str, Domain]) -> dict[str, tuple[int, int]]:
    """Each further key field is one digit of the key's number, in bases whose product divides ``keys``.

    So every combination of values has the same number of keys.
    """
    first = data.aggregates[0].key[0].path
    paths = dict.fromkeys(f.path for aggregate in data.aggregates for f in aggregate.key if f.path != first)
    digits = {}
    stride = 1
    for path in paths:
        left = keys // stride
        most = int(min(_CARDINALITY, passing[path].size))
        values = max(base for base in range(1, most + 1) if left % base == 0)
        digits[path] = (stride, values)
        stride *= values
    return digits
