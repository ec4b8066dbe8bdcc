"""What a job does, as plain values: the pipeline file's data path without its deployment.

``surecount.config`` makes these from TOML; the Python workers receive them. No Flink, no pydantic.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

KeyType = Literal["string", "int"]
SumType = Literal["int", "decimal", "float"]
TimeUnit = Literal["s", "ms", "us", "ns", "rfc3339"]

MAX_DIGITS = 38
MAX_EVENT_TIME_MS = 253_370_764_799_999
"""The last millisecond of the year 9998, UTC: the end of a window is then a time that can be written, too."""
MIN_KAFKA_MS = 31_536_000_000
"""The year 1971. An earlier Kafka timestamp is missing (-1), 0, or a number of seconds."""


@dataclass(frozen=True)
class Field:
    """A value inside a record: ``path`` is dotted for nested objects, ``scale`` counts decimals."""

    path: str
    type: Literal["string", "int", "decimal", "float"]
    scale: int = 0

    @property
    def parts(self) -> tuple[str, ...]:
        """The names from the outermost object inwards."""
        return tuple(self.path.split("."))


@dataclass(frozen=True)
class EventTime:
    """Where a record's event time stands; without a ``path`` it is Kafka's own timestamp."""

    path: str | None = None
    unit: TimeUnit = "ms"

    @property
    def field(self) -> Field | None:
        """The field to read, or None for Kafka's timestamp."""
        if self.path is None:
            return None
        return Field(self.path, "string" if self.unit == "rfc3339" else "int")


@dataclass(frozen=True)
class Aggregate:
    """One count and any number of sums per key and tumbling window of ``window_ms``."""

    name: str
    key: tuple[Field, ...]
    sums: tuple[Field, ...]
    window_ms: int


@dataclass(frozen=True)
class Check:
    """What a field's value must be; one that is not ``required`` may be missing or null.

    ``low`` and ``high`` are inclusive, for decimals as integers at the field's scale. ``allowed`` lists
    values of a string or an int.
    """

    field: Field
    required: bool = True
    low: int | float | None = None
    high: int | float | None = None
    allowed: tuple[str | int, ...] | None = None


@dataclass(frozen=True)
class Inlet:
    """Where records that ingest reads come from: a topic of a pathway.

    ``relay`` is the topic of a relay's copies, or None where the pathway's own topic is read. A ``topic`` of
    None is for what a relay copied from topics that the pathway has no longer; headers say which.
    """

    pathway: str
    topic: str | None
    relay: str | None = None


@dataclass(frozen=True)
class Spec:
    """All that decoding, deduplicating, combining and closing windows need to know.

    ``max_ahead_ms`` is how far a record's event time may be ahead of its Kafka timestamp,
    ``max_value_bytes`` how large a value may be, ``decode`` an import path ``package.module:name``
    of a user's function, ``buckets`` the number of pieces that keys and ids are hashed into.
    ``event_id`` are the fields that tell one event from another; without any it is the record's origin.
    """

    aggregates: tuple[Aggregate, ...]
    event_time: EventTime
    max_ahead_ms: int
    max_value_bytes: int
    buckets: int
    decode: str | None = None
    event_id: tuple[Field, ...] = ()
    checks: tuple[Check, ...] = ()

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """Every distinct field that a record must have: event time, the aggregates', event id, checks."""
        time = self.event_time.field
        wanted = [time] if time else []
        for aggregate in self.aggregates:
            wanted += [*aggregate.key, *aggregate.sums]
        wanted += [*self.event_id, *(check.field for check in self.checks if check.required)]
        return tuple(dict.fromkeys(wanted))

    @cached_property
    def optional(self) -> tuple[Field, ...]:
        """The fields that a record may lack, and that are checked where it has them."""
        wanted = [check.field for check in self.checks]
        return tuple(field for field in dict.fromkeys(wanted) if field not in self.fields)

    @cached_property
    def narrow(self) -> frozenset[str]:
        """Paths of the ints that are keys or ids, and so have 64 bits at most."""
        keys = [field for aggregate in self.aggregates for field in aggregate.key]
        return frozenset(field.path for field in (*keys, *self.event_id) if field.type == "int")

    @cached_property
    def by_name(self) -> dict[str, Aggregate]:
        """The aggregates by their names."""
        return {aggregate.name: aggregate for aggregate in self.aggregates}
