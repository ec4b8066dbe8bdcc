"""What a pipeline reads: clusters, pathways, event times and ids, and what records must hold."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from surecount.config.units import duration, size_between
from udfs import numbers
from udfs import spec as specs

PipelineName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
# No dot: it ends a name in topics and transactional ids.
PathwayName = PipelineName
AggregateName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
TopicName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
# A dot reaches into a nested object. Quotes and brackets would change the meaning of a JSON path.
FieldPath = Annotated[str, Field(pattern=r"^[^.'\"\[\]\\`\s]+(\.[^.'\"\[\]\\`\s]+)*$")]
ImportPath = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]


class Model(BaseModel):
    """What all tables of a pipeline file share: no unknown settings, no guessed types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Kafka(Model):
    """The cluster that holds the topics, and any further client properties."""

    bootstrap_servers: str = Field("localhost:9092", min_length=1)
    properties: dict[str, str] = Field(default_factory=dict)


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


class Check(Model):
    """What a field's value must be. A bound of a decimal may be a string, which keeps it exact."""

    field: FieldPath
    type: Literal["string", "int", "decimal", "float"] | None = None
    scale: int = Field(0, ge=0, le=specs.MAX_DIGITS)
    required: bool = True
    min: int | float | str | None = None
    max: int | float | str | None = None
    one_of: list[str | int] | None = Field(None, min_length=1)

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
            raise ValueError(f"the check of {self.field!r} lets nothing pass: min is above max")
        wanted = {"string": str, "int": int}.get(field.type)
        if self.one_of is not None and any(type(value) is not wanted for value in self.one_of):
            raise ValueError(
                f"one_of of {self.field!r} must list values of its type, {field.type}, and strings or ints only"
            )
        return specs.Check(field, self.required, low, high, tuple(self.one_of) if self.one_of is not None else None)

    def _bound(self, name: str, value: int | float | str | None, field: specs.Field) -> int | float | None:
        if value is None:
            return None
        where = f"{name} = {value!r} of {self.field!r}"
        if field.type == "string" or (field.type == "int" and type(value) is not int):
            raise ValueError(f"{where} does not go with type {field.type!r}")
        if field.type == "int":
            return int(value)
        try:
            number = Decimal(str(value))
        except InvalidOperation as error:
            raise ValueError(f"{where} is no number") from error
        if not number.is_finite():
            raise ValueError(f"{where} is not finite")
        if field.type == "float":
            return float(number)
        unscaled = numbers.unscaled(number, field.scale)
        if unscaled is None:
            raise ValueError(f"{where} has more than {field.scale} decimals")
        return unscaled


class Pathway(Model):
    """One way on which events come: raw topics on a Kafka cluster, the pipeline's own where none is named."""

    name: PathwayName
    topics: list[TopicName] = Field(min_length=1)
    bootstrap_servers: str | None = Field(None, min_length=1)
    properties: dict[str, str] = Field(default_factory=dict)


class Source(Model):
    """What is read, and how far its clocks are trusted."""

    topics: list[TopicName] = Field(default_factory=list)
    pathway: list[Pathway] = Field(default_factory=list)
    format: Literal["json", "cloudevents"] = "json"
    decode: ImportPath | None = None
    event_time: EventTimeField | Literal["kafka"] = "kafka"
    event_id: FieldPath | KeyField | list[FieldPath | KeyField] | None = None
    horizon: duration("1 s", "30 d") = 3_600_000  # type: ignore[valid-type]
    check: list[Check] = Field(default_factory=list)
    out_of_orderness: duration("0 s", "7 d") = 5_000  # type: ignore[valid-type]
    idle_after: duration("1 s", "1 d") = 30_000  # type: ignore[valid-type]
    max_ahead: duration("0 s", "365 d") = 60_000  # type: ignore[valid-type]
    max_value: size_between("1 KiB", "64 MiB") = 1 << 20  # type: ignore[valid-type]
    discover_partitions_every: duration("1 s", "1 d") = 10_000  # type: ignore[valid-type]

    @model_validator(mode="before")
    @classmethod
    def _cloudevents(cls, data: Any) -> Any:
        """A structured CloudEvent says itself when it was, and which one it is."""
        if not isinstance(data, dict) or data.get("format") != "cloudevents":
            return data
        known = {"field": "specversion", "type": "string", "one_of": ["1.0"]}
        checks = data.get("check", [])
        return {
            "event_time": {"field": "time", "unit": "rfc3339"},
            "event_id": ["source", "id"],
            **data,
            "check": [known, *checks] if isinstance(checks, list) else checks,
        }

    @model_validator(mode="after")
    def _topics_or_pathways(self) -> Self:
        if bool(self.topics) == bool(self.pathway):
            both = "both are given" if self.topics else "neither is given"
            raise ValueError(f"name what is read in source.topics, or in [[source.pathway]] tables: {both}")
        names = [pathway.name for pathway in self.pathway]
        if twice := next((n for n in names if names.count(n) > 1), None):
            raise ValueError(f"two pathways are named {twice!r}")
        return self

    @property
    def id_fields(self) -> tuple[specs.Field, ...]:
        """The fields of ``event_id``, as they are to be read."""
        given = self.event_id if isinstance(self.event_id, list) else [self.event_id] if self.event_id else []
        return tuple(key_field(field) for field in given)
