"""An event's bytes: JSON with the fields that the pipeline names, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.generator.plan import FLOAT_STEP, Ints, Plan
from udfs import spec

Path = tuple[str, ...]
T = TypeVar("T")

_TABLE = 100_000

_NS_OF = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


class Layout:
    """Turns numbers of events into keys and values; ``seed`` makes event ids differ between runs."""

    def __init__(self, pipeline: Pipeline, plan: Plan, seed: int) -> None:
        self.plan = plan
        self.time = plan.spec.event_time
        self._seed = seed
        self._first = plan.spec.aggregates[0].key[0]
        self._width = max(6, len(str(plan.keys - 1)))
        self._fields = {field.path: field for field in plan.spec.fields}
        self._ids = _id_paths(pipeline, self._fields)
        self.paths = _in_order([*self._ids, *self._fields])
        self._columns = {path: self._column(path) for path in self.paths}
        self._message_keys = _by_table(self._message_key, plan.keys)
        self._template = render([(path, "%s") for path in self.paths], escape=_escape_percent)

    @property
    def first_key(self) -> spec.Field:
        """The first key field of the first aggregate: the one with a value for each key."""
        return self._first

    def values(self, index: Ints) -> list[bytes]:
        """The JSON of each event."""
        template = self._template
        columns = [column(index) for column in self._columns.values()]
        return [(template % row).encode() for row in zip(*columns, strict=True)]

    def keys(self, index: Ints) -> list[bytes]:
        """The message key of each event: the first aggregate's key, several fields joined by ``|``."""
        return self._message_keys(index % self.plan.keys)

    def texts(self, event: int) -> dict[str, str]:
        """The JSON text of each field of one event, by path."""
        index = np.array([event])
        return {path: column(index)[0] for path, column in self._columns.items()}

    def _column(self, path: str) -> Callable[[Ints], list[str]]:
        """What makes a field's JSON texts for events."""
        keys, per_window = self.plan.keys, self.plan.per_window
        if path in self._ids:
            return self._id_column
        if path == self.time.path:
            return self._time_column
        field = self._fields[path]
        if path in self.plan.factors:
            amounts = _by_table(lambda places: self._amount_column(field, places), per_window)
            return lambda index: amounts(index // keys % per_window)
        texts = _by_table(lambda numbers: self._key_column(field, numbers), keys)
        return lambda index: texts(index % keys)

    def _id_column(self, index: Ints) -> list[str]:
        # The start makes ids of another run differ; the same run once more has the same events.
        prefix = f'"{self.plan.start_ms // 1_000:x}-{self._seed}-'
        return [f'{prefix}{event}"' for event in index.tolist()]

    def _time_column(self, index: Ints) -> list[str]:
        times = self.plan.times(index)
        if self.time.unit == "rfc3339":
            return [f'"{text}Z"' for text in np.datetime_as_string(times.astype("datetime64[ms]"))]
        step = _NS_OF[self.time.unit]
        scaled = times // (step // 1_000_000) if step >= 1_000_000 else times * (1_000_000 // step)
        return [str(time) for time in scaled.tolist()]

    def _key_column(self, field: spec.Field, numbers: Ints) -> list[str]:
        name = json.dumps(field.parts[-1], ensure_ascii=False)[:-1]
        if field == self._first:
            if field.type == "int":
                return [str(number) for number in numbers.tolist()]
            width = self._width
            return [f'{name}-{number:0{width}d}"' for number in numbers.tolist()]
        stride, values = self.plan.digits[field.path]
        texts = [str(v) if field.type == "int" else f'{name}-{v}"' for v in range(values)]
        return [texts[digit] for digit in (numbers // stride % values).tolist()]

    def _amount_column(self, field: spec.Field, places: Ints) -> list[str]:
        """Amounts as JSON: whole, in the decimal's smallest unit, or in quarters."""
        amounts = ((places + 1) * self.plan.factors[field.path]).tolist()
        if field.type == "float":
            return [repr(amount * FLOAT_STEP) for amount in amounts]
        if field.scale == 0:
            return [str(amount) for amount in amounts]
        one, scale = 10**field.scale, field.scale
        return [f"{amount // one}.{amount % one:0{scale}d}" for amount in amounts]

    def _message_key(self, numbers: Ints) -> list[bytes]:
        columns = [self._key_column(field, numbers) for field in self.plan.spec.aggregates[0].key]
        return ["|".join(text.strip('"') for text in row).encode() for row in zip(*columns, strict=True)]


def _by_table(make: Callable[[Ints], list[T]], size: int) -> Callable[[Ints], list[T]]:
    """``make`` for numbers below ``size``, looked up where that many fit in memory: 5 times as fast."""
    if size > _TABLE:
        return make
    table = make(np.arange(size, dtype=np.int64))
    return lambda numbers: list(map(table.__getitem__, numbers.tolist()))


def _id_paths(pipeline: Pipeline, fields: Mapping[str, spec.Field]) -> list[str]:
    """The fields of the event id that aren't made already."""
    ids = [field.path for field in pipeline.source.id_fields if field.path not in fields]
    for path in ids:
        for other in (*fields, *ids):
            if path.startswith(other + ".") or other.startswith(path + "."):
                raise SurecountError(
                    f"source.event_id = {path!r}: a record has either a value or an object at "
                    f"{min(path, other, key=len)!r}, and the pipeline uses {other!r} too",
                    "name fields that don't lie inside one another",
                )
    return ids


def _in_order(paths: Iterable[str]) -> list[str]:
    """Fields of one object side by side, as :func:`render` writes them."""
    order: list[str] = []

    def walk(group: list[Path], prefix: Path) -> None:
        for name in dict.fromkeys(parts[0] for parts in group):
            inner = [parts[1:] for parts in group if parts[0] == name]
            if inner == [()]:
                order.append(".".join((*prefix, name)))
            else:
                walk(inner, (*prefix, name))

    walk([tuple(path.split(".")) for path in paths], ())
    return order


def _escape_percent(text: str) -> str:
    return text.replace("%", "%%")


def _as_is(text: str) -> str:
    return text


def render(fields: Sequence[tuple[str, str]], escape: Callable[[str], str] = _as_is) -> str:
    """One JSON object of (dotted path, JSON text) pairs; a path that comes twice is written twice."""
    return _object([(tuple(path.split(".")), text) for path, text in fields], escape)


def _object(fields: list[tuple[Path, str]], escape: Callable[[str], str]) -> str:
    members = []
    for name in dict.fromkeys(parts[0] for parts, _ in fields):
        label = escape(json.dumps(name, ensure_ascii=False))
        inner = [(parts[1:], text) for parts, text in fields if parts[0] == name and len(parts) > 1]
        members += [f"{label}:{text}" for parts, text in fields if parts == (name,)]
        if inner:
            members.append(f"{label}:{_object(inner, escape)}")
    return "{" + ",".join(members) + "}"
