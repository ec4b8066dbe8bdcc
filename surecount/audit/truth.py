"""What one input record is worth: its part in every aggregate, or the reason why it has none.

Almost all records are plain and valid. ``fastway`` takes those, some hundred at once; a batch that it is
not sure of is halved until the odd record stands alone, which goes to ``rules``. Rules are complete; the
fast way never rejects, so it has only to be right about what it accepts.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from surecount.audit import rules
from surecount.audit.fastway import fast_way
from surecount.audit.rules import Row
from surecount.errors import SurecountError

if TYPE_CHECKING:
    from surecount.config import Pipeline
    from udfs.spec import Aggregate, Field, Spec

_T = TypeVar("_T")
Key = tuple[Any, ...]
Verdict = Row | str
"""An accepted record, or the reason code of a rejected one."""

# One odd record costs a batch some further rounds; a batch costs a few microseconds.
_BATCH = 100


@dataclass(frozen=True)
class AggregatePlan:
    """One aggregate, and where its key and sums stand in a Row."""

    name: str
    window_ms: int
    keys: tuple[Field, ...]
    sums: tuple[Field, ...]
    key_of: Callable[[Row], Key]
    sums_at: tuple[int, ...]


def plan(spec: Spec) -> tuple[AggregatePlan, ...]:
    """The aggregates of a pipeline in the order of its file."""
    first = rules.first_field(spec)
    at = {field.path: index for index, field in enumerate(spec.fields, start=first)}
    return tuple(_plan_one(aggregate, at) for aggregate in spec.aggregates)


def _plan_one(aggregate: Aggregate, at: Mapping[str, int]) -> AggregatePlan:
    places = [at[field.path] for field in aggregate.key]
    first, end = places[0], places[0] + len(places)
    # A slice and an itemgetter of two or more both give tuples.
    key_of = itemgetter(slice(first, end)) if places == [*range(first, end)] else itemgetter(*places)
    sums_at = tuple(at[field.path] for field in aggregate.sums)
    return AggregatePlan(aggregate.name, aggregate.window_ms, aggregate.key, aggregate.sums, key_of, sums_at)


class Truth:
    """Judges the records of one pipeline."""

    def __init__(self, pipeline: Pipeline, *, spec: Spec | None = None) -> None:
        """``spec`` is that of the job whose records are judged: the aggregate job where none is given."""
        spec = spec or pipeline.aggregate_spec()
        self.plans = plan(spec)
        self._max_value = spec.max_value_bytes
        self._reader = rules.Reader(spec)
        self._fast = fast_way(spec)
        self._decode = None if spec.decode is None else _load(spec.decode)
        self._by_batch = getattr(self._decode, "surecount_batch", False) is True

    def judge(self, value: bytes | None, timestamp_ms: int) -> Verdict:
        """Judge one record: its value and its Kafka timestamp in ms."""
        return self.judge_all([value], [timestamp_ms])[0]

    def judge_all(self, values: Sequence[bytes | None], timestamps_ms: Sequence[int]) -> list[Verdict]:
        """Judge many records at once, one verdict for each."""
        if self._by_batch:
            return self._judge_batch(values, timestamps_ms)
        if self._decode is not None:
            return list(map(self._judge_decoded, values, timestamps_ms))
        verdicts: list[Verdict] = []
        for start in range(0, len(values), _BATCH):
            end = start + _BATCH
            verdicts += self._judge_json(values[start:end], timestamps_ms[start:end])
        return verdicts

    def _judge_json(self, values: Sequence[bytes | None], timestamps_ms: Sequence[int]) -> Sequence[Verdict]:
        rows = self._fast(values, timestamps_ms)
        if rows is not None:
            return rows
        if len(values) == 1:
            return [self.judge_strictly(values[0], timestamps_ms[0])]
        half = len(values) // 2
        return [
            *self._judge_json(values[:half], timestamps_ms[:half]),
            *self._judge_json(values[half:], timestamps_ms[half:]),
        ]

    def judge_strictly(self, value: bytes | None, timestamp_ms: int) -> Verdict:
        """Judge one JSON record by the complete rules."""
        try:
            return self._reader.read(rules.parse_json(self._sized(value)), timestamp_ms)
        except rules.RejectedError as rejected:
            return rejected.reason

    def _sized(self, value: bytes | None) -> bytes:
        if value is None:
            raise rules.RejectedError(rules.TOMBSTONE)
        if len(value) > self._max_value:
            raise rules.RejectedError(rules.VALUE_TOO_LARGE)
        return value

    def _judge_decoded(self, value: bytes | None, timestamp_ms: int) -> Verdict:
        assert self._decode is not None
        try:
            sized, decode = self._sized(value), self._decode
            return self._read(_of_user(lambda: decode(sized)), timestamp_ms)
        except rules.RejectedError as rejected:
            return rejected.reason

    def _judge_batch(self, values: Sequence[bytes | None], timestamps_ms: Sequence[int]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        wanted: list[int] = []
        for index, value in enumerate(values):
            try:
                self._sized(value)
            except rules.RejectedError as rejected:
                verdicts.append(rejected.reason)
            else:
                verdicts.append(rules.DECODE_FAILED)
                wanted.append(index)
        for index, record in zip(wanted, self._decode_batch([values[i] for i in wanted]), strict=True):
            if record is None:
                continue
            try:
                verdicts[index] = self._read(record, timestamps_ms[index])
            except rules.RejectedError as rejected:
                verdicts[index] = rejected.reason
        return verdicts

    def _decode_batch(self, values: list[bytes | None]) -> list[object]:
        """Each value decoded, or None for one that the user's function raises for.

        A batch that fails is halved until the values stand alone that it fails for.
        """
        if not values:
            return []
        decode = self._decode
        assert decode is not None

        def records() -> list[object] | None:
            table = decode(pa.array(values, pa.binary()))
            if not isinstance(table, pa.Table | pa.RecordBatch) or table.num_rows != len(values):
                return None
            return [_nest(record) for record in table.to_pylist()]

        with suppress(rules.RejectedError):
            if (found := _of_user(records)) is not None:
                return found
        if len(values) == 1:
            return [None]
        half = len(values) // 2
        return self._decode_batch(values[:half]) + self._decode_batch(values[half:])

    def _read(self, record: object, timestamp_ms: int) -> Row:
        def row() -> Row:
            if not isinstance(record, Mapping):
                raise rules.RejectedError(rules.NOT_AN_OBJECT)
            return self._reader.read(record, timestamp_ms)

        # A mapping may be of the user's own making, too.
        return _of_user(row, rules.RejectedError)


def _of_user(call: Callable[[], _T], *passing: type[Exception]) -> _T:
    """What a call of a user's code returns; RejectedError where it raises anything but ``passing``, be it what ends
    programs. What an operator presses is heard in the main thread, and ends this one."""
    try:
        return call()
    except passing:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and current_thread() is main_thread():
            raise
        raise rules.RejectedError(rules.DECODE_FAILED) from error


def _nest(flat: Mapping[str, object]) -> Mapping[str, object]:
    """A row of a table whose columns may be named by dotted paths, which go before other columns."""
    record: dict[str, Any] = {}
    # The shorter names first: what a dotted one reaches into is there by then, or is no object.
    for path in sorted(flat, key=len):
        *outer, name = path.split(".")
        level = record
        for part in outer:
            if not isinstance(level.get(part), dict):
                level[part] = {}
            level = level[part]
        level[name] = flat[path]
    return record


def _load(path: str) -> Callable[[Any], object]:
    module_name, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise SurecountError(
            f"source.decode = {path!r} cannot be loaded: {error}",
            "keep its module beside the pipeline file, also for the records of earlier runs",
        ) from error
    if not callable(function):
        raise SurecountError(f"source.decode = {path!r} is {function!r}, not a function")
    return function  # type: ignore[no-any-return]
