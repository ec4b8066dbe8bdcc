"""An event's bytes: JSON with the fields that the pipeline names, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from surecount.generator.plan import FLOAT_STEP, Ints, Plan, in_unit
from udfs import spec

Path = tuple[str, ...]
Column = Callable[[Ints], list[str]]
T = TypeVar("T")

_TABLE = 100_000


class Layout:
    """Turns numbers of events into keys and values; ``seed`` makes event ids differ between runs.

    A field that a record may lack is in every second event.
    """

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan = plan
        self.time = plan.spec.event_time
        self._seed = seed
        self._first = plan.spec.aggregates[0].key[0]
        self._width = max(6, len(str(plan.keys - 1)))
        self._optional = {field.path for field in plan.spec.optional}
        fields = {field.path: field for field in (*plan.spec.fields, *plan.spec.optional)}
        self._columns = {path: self._column(fields[path]) for path in _in_order(dict.fromkeys([*plan.ids, *fields]))}
        self._whole = _Template(self._columns)
        self._short = _Template({p: column for p, column in self._columns.items() if p not in self._optional})
        self._message_keys = _by_table(self._message_key, plan.keys)

    @property
    def first_key(self) -> spec.Field:
        """The first key field of the first aggregate: the one with a value for each key."""
        return self._first

    def values(self, index: Ints) -> list[bytes]:
        """The JSON of each event."""
        if not self._optional:
            return self._whole.values(index)
        values = np.empty(len(index), dtype=object)
        for template, events in ((self._whole, index % 2 == 0), (self._short, index % 2 == 1)):
            values[events] = template.values(index[events])
        return list(values)

    def keys(self, index: Ints) -> list[bytes]:
        """The message key of each event: the first aggregate's key, several fields joined by ``|``."""
        return self._message_keys(index % self.plan.keys)

    def texts(self, event: int) -> dict[str, str]:
        """The JSON text of each field of one event, by path."""
        index = np.array([event])
        template = self._short if event % 2 else self._whole
        return {path: column(index)[0] for path, column in template.columns.items()}

    def _column(self, field: spec.Field) -> Column:
        """What makes a field's JSON texts for events."""
        path, keys, per_window = field.path, self.plan.keys, self.plan.per_window
        if path in self.plan.ids:
            return self._id_column(field)
        if path == self.time.path:
            return self._time_column
        if path in self.plan.factors:
            amounts = _by_table(lambda places: self._amount_column(field, places), per_window)
            return lambda index: amounts(index // keys % per_window)
        if path == self._first.path or path in self.plan.digits:
            texts = _by_table(lambda numbers: self._key_column(field, numbers), keys)
            return lambda index: texts(index % keys)
        samples = self.plan.domains[path].samples()
        every = 2 if path in self._optional else 1
        return lambda index: [samples[place] for place in (index // every % len(samples)).tolist()]

    def _id_column(self, field: spec.Field) -> Column:
        """Ids that another start or seed makes others; the same run once more has the same.

        Texts are START-SEED-EVENT. Ints count from a number that is drawn, by start and seed, from all
        from which that many ids pass: two runs of a billion events have one in common in less than one
        case of a billion.
        """
        plan = self.plan
        if field.type == "string":
            prefix = f'"{plan.start_ms // 1_000:x}-{self._seed}-'
            return lambda index: [f'{prefix}{event}"' for event in index.tolist()]
        domain = plan.domains[field.path]
        lowest, highest = domain.first(plan.events), int(domain.high) - plan.events + 1
        first = int(np.random.default_rng((plan.start_ms, self._seed)).integers(lowest, highest, endpoint=True))
        return lambda index: [str(first + event) for event in index.tolist()]

    def _time_column(self, index: Ints) -> list[str]:
        times = self.plan.times(index)
        if self.time.unit == "rfc3339":
            return [f'"{text}Z"' for text in np.datetime_as_string(times.astype("datetime64[ms]"))]
        return [str(time) for time in in_unit(times, self.time.unit).tolist()]

    def _key_column(self, field: spec.Field, numbers: Ints) -> list[str]:
        domain = self.plan.domains[field.path]
        if field == self._first:
            values, width = self.plan.keys, self._width
        else:
            stride, values = self.plan.digits[field.path]
            numbers, width = numbers // stride % values, 1
        if domain.allowed is not None:
            texts = domain.samples()
            return [texts[number] for number in numbers.tolist()]
        if field.type == "int":
            first = domain.first(values)
            return [str(first + number) for number in numbers.tolist()]
        name = json.dumps(field.parts[-1], ensure_ascii=False)[:-1]
        return [f'{name}-{number:0{width}d}"' for number in numbers.tolist()]

    def _amount_column(self, field: spec.Field, places: Ints) -> list[str]:
        """Amounts as JSON: whole, in the decimal's smallest unit, or in quarters."""
        amounts = ((places + 1) * self.plan.factors[field.path]).tolist()
        step = FLOAT_STEP if field.type == "float" else 1
        return [self.plan.domains[field.path].text(amount * step) for amount in amounts]

    def _message_key(self, numbers: Ints) -> list[bytes]:
        columns = [self._key_column(field, numbers) for field in self.plan.spec.aggregates[0].key]
        return ["|".join(text.strip('"') for text in row).encode() for row in zip(*columns, strict=True)]


class _Template:
    """One JSON object, with a place for each column's text."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self.columns = columns
        self._text = render([(path, "%s") for path in columns], escape=_escape_percent)

    def values(self, index: Ints) -> list[bytes]:
        """The objects of some events."""
        texts = [column(index) for column in self.columns.values()]
        return [(self._text % row).encode() for row in zip(*texts, strict=True)]


def _by_table(make: Callable[[Ints], list[T]], size: int) -> Callable[[Ints], list[T]]:
    """``make`` for numbers below ``size``, looked up where that many fit in memory: 5 times as fast."""
    if size > _TABLE:
        return make
    table = make(np.arange(size, dtype=np.int64))
    return lambda numbers: list(map(table.__getitem__, numbers.tolist()))


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
