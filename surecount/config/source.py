"""What a pipeline reads: clusters, pathways, event times and ids, and what records must hold."""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from surecount.config.base import Model
from surecount.config.names import FieldPath, ImportPath, PathwayName, TopicName
from surecount.config.security import Clients
from surecount.config.units import duration, size_between
from udfs import numbers
from udfs import spec as specs


class Kafka(Clients):
    """The cluster that holds the topics, and any further client properties."""

    bootstrap_servers: str = Field("localhost:9092", min_length=1)


class EventTimeField(Model):
    """A field of the record: an integer in ``unit`` since 1970, or an RFC 3339 string."""

    field: FieldPath
    unit: specs.TimeUnit = "ms"


class KeyField(Model):
    """A key field that is not a string."""

    field: FieldPath
    type: specs.KeyType = "string"


def key_field(key: str | KeyField) -> specs.Field:
    """A key or id as it is to be read."""
    return specs.Field(key, "string") if isinstance(key, str) else specs.Field(key.field, key.type)


def _one_of_types(what: str, *types: type) -> Any:
    """A validator for a union, whose own errors would name each of its types."""

    def check(value: object) -> object:
        if type(value) not in types:
            raise ValueError(f"{value!r} is not {what}")
        return value

    return BeforeValidator(check)


Bound = Annotated[int | float | str, _one_of_types("a number, or a string that holds one", int, float, str)]
Choice = Annotated[str | int, _one_of_types("a string or an integer", str, int)]


class Check(Model):
    """What a field's value must be. A bound of a decimal may be a string, which keeps it exact."""

    field: FieldPath
    type: Literal["string", "int", "decimal", "float"] | None = None
    scale: int = Field(0, ge=0, le=specs.MAX_DIGITS)
    required: bool = True
    min: Bound | None = None
    max: Bound | None = None
    one_of: list[Choice] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.scale and self.type != "decimal":
            raise ValueError(f'scale = {self.scale} goes with type = "decimal", not {self.type!r}')
        if not self.required and self.type is None and self.min is None and self.max is None and self.one_of is None:
            raise ValueError("says nothing: give type, min, max or one_of, or leave required = false out")
        return self

    def spec(self, declared: specs.Field | None) -> specs.Check:
        """The check of a field as it is ``declared`` elsewhere, if it is; raises ValueError."""
        field = specs.Field(self.field, self.type, self.scale) if self.type else declared
        if field is None and self.one_of is not None:
            kinds = {type(value) for value in self.one_of}
            field = specs.Field(self.field, "int" if kinds == {int} else "string")
        if field is None:
            raise ValueError(f"the check of {self.field!r} needs a type: string, int, decimal or float")
        low, high = (self._bound(name, value, field) for name, value in (("min", self.min), ("max", self.max)))
        if low is not None and high is not None and low > high:
            raise ValueError(f"min = {self.min!r} of {self.field!r} is above max = {self.max!r}: nothing could pass")
        return specs.Check(field, self.required, low, high, self._allowed(field))

    def _allowed(self, field: specs.Field) -> tuple[str | int, ...] | None:
        if self.one_of is None:
            return None
        if field.type not in ("string", "int"):
            raise ValueError(f"one_of of {self.field!r} goes with a string or an int, not with a {field.type}")
        wanted = str if field.type == "string" else int
        for value in self.one_of:
            if type(value) is not wanted:
                raise ValueError(f"one_of of {self.field!r} lists {value!r}, but the field's type is {field.type}")
        return tuple(self.one_of)

    def _bound(self, name: str, value: int | float | str | None, field: specs.Field) -> int | float | None:
        if value is None:
            return None
        where = f"{name} = {value!r} of {self.field!r}"
        if field.type == "string":
            raise ValueError(f"{where}: only numbers have bounds, and the field's type is string")
        if field.type == "int" and type(value) is not int:
            raise ValueError(f"{where} is no integer, and the field's type is int")
        try:
            number = Decimal(str(value))
        except InvalidOperation as error:
            raise ValueError(f"{where} is no number") from error
        if not number.is_finite():
            raise ValueError(f"{where} is not finite")
        if field.type == "float":
            if not math.isfinite(float(number)):
                raise ValueError(f"{where} is beyond a double's range")
            return float(number)
        unscaled = numbers.unscaled(number, field.scale)
        if unscaled is None or abs(unscaled) >= 10**specs.MAX_DIGITS:
            raise ValueError(f"{where} does not fit {specs.MAX_DIGITS} digits with {field.scale} decimals")
        return unscaled


class Pathway(Clients):
    """One way on which events come: raw topics on a Kafka cluster, the pipeline's own where none is named."""

    name: PathwayName
    topics: list[TopicName] = Field(min_length=1)
    bootstrap_servers: str | None = Field(None, min_length=1)


class Source(Model):
    """What is read, and how far its clocks are trusted."""

    topics: list[TopicName] = Field(default_factory=list)
    pathway: list[Pathway] = Field(default_factory=list)
    format: Literal["json", "cloudevents"] = "json"
    decode: ImportPath | None = None
    event_time: EventTimeField | Literal["kafka"] = "kafka"
    event_id: FieldPath | KeyField | Annotated[list[FieldPath | KeyField], Field(min_length=1)] | None = None
    horizon: duration("1 s", "30 d") = 3_600_000  # type: ignore[valid-type]
    check: list[Check] = Field(default_factory=list)
    out_of_orderness: duration("0 s", "7 d") = 5_000  # type: ignore[valid-type]
    idle_after: duration("1 s", "1 d") = 30_000  # type: ignore[valid-type]
    max_ahead: duration("0 s", "365 d") = 60_000  # type: ignore[valid-type]
    max_value: size_between("1 KiB", "31 MiB") = 1 << 20  # type: ignore[valid-type]
    discover_partitions_every: duration("1 s", "1 d") = 10_000  # type: ignore[valid-type]

    @model_validator(mode="before")
    @classmethod
    def _cloudevents(cls, data: Any) -> Any:
        """A structured CloudEvent says itself when it was, and which one it is."""
        if not isinstance(data, dict) or data.get("format") != "cloudevents":
            return data
        return {"event_time": {"field": "time", "unit": "rfc3339"}, "event_id": ["source", "id"], **data}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.topics) == bool(self.pathway):
            both = "both are given" if self.topics else "neither is given"
            raise ValueError(f"name what is read in source.topics, or in [[source.pathway]] tables: {both}")
        names = [pathway.name for pathway in self.pathway]
        if twice := next((n for n in names if names.count(n) > 1), None):
            raise ValueError(f"two pathways are named {twice!r}; records are told apart by that name")
        ids = [field.path for field in self.id_fields]
        if twice := next((path for path in ids if ids.count(path) > 1), None):
            raise ValueError(f"event_id names the field {twice!r} twice")
        return self

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks of the file, behind that of the CloudEvents version."""
        version = Check(field="specversion", type="string", one_of=["1.0"])
        return (version, *self.check) if self.format == "cloudevents" else tuple(self.check)

    @property
    def id_fields(self) -> tuple[specs.Field, ...]:
        """The fields of ``event_id``, as they are to be read."""
        given = self.event_id if isinstance(self.event_id, list) else [self.event_id] if self.event_id else []
        return tuple(key_field(field) for field in given)
