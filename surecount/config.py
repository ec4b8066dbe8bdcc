"""A pipeline is one TOML file: its model, its defaults, and errors that say what would be right."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from surecount.errors import SurecountError
from udfs import spec

_UNITS_MS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d+)\s*(ms|s|min|h|d)")
_SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)")


def parse_duration(value: object) -> int:
    """Milliseconds of a duration such as ``"5 s"``; raises ValueError that names the units."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a duration; write a number and ms, s, min, h or d, such as '5 s'")
    return int(match[1]) * _UNITS_MS[match[2]]


def parse_size(value: object) -> int:
    """Bytes of a size such as ``"1 MiB"``; raises ValueError that names the units."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a size; write a number and B, KiB, MiB or GiB, such as '1 MiB'")
    return int(match[1]) * _SIZES[match[2]]


def format_duration(ms: int) -> str:
    """The shortest way to write a duration, such as ``"90 s"`` for 90000."""
    unit = next(u for u in ("d", "h", "min", "s", "ms") if ms % _UNITS_MS[u] == 0 and (ms or u == "ms"))
    return f"{ms // _UNITS_MS[unit]} {unit}"


def _duration(low: str, high: str) -> Any:
    def check(value: object) -> int:
        ms = parse_duration(value)
        if not parse_duration(low) <= ms <= parse_duration(high):
            raise ValueError(f"{value!r} is outside of {low} to {high}")
        return ms

    schema = {"type": "string", "pattern": r"^\d+\s*(ms|s|min|h|d)$", "description": f"{low} to {high}"}
    return Annotated[int, BeforeValidator(check), WithJsonSchema(schema)]


def _size(low: str, high: str) -> Any:
    def check(value: object) -> int:
        size = parse_size(value)
        if not parse_size(low) <= size <= parse_size(high):
            raise ValueError(f"{value!r} is outside of {low} to {high}")
        return size

    schema = {"type": "string", "pattern": r"^\d+\s*(B|KiB|MiB|GiB)$", "description": f"{low} to {high}"}
    return Annotated[int, BeforeValidator(check), WithJsonSchema(schema)]


PipelineName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
AggregateName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
TopicName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
# A dot reaches into a nested object. Quotes and brackets would change the meaning of a JSON path.
FieldPath = Annotated[str, Field(pattern=r"^[^.'\"\[\]\\`\s]+(\.[^.'\"\[\]\\`\s]+)*$")]
ImportPath = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Kafka(_Model):
    """The cluster that holds the topics, and any further client properties."""

    bootstrap_servers: str = Field("localhost:9092", min_length=1)
    properties: dict[str, str] = Field(default_factory=dict)


class EventTimeField(_Model):
    """A field of the record: an integer in ``unit`` since 1970, or an RFC 3339 string."""

    field: FieldPath
    unit: spec.TimeUnit = "ms"


class Source(_Model):
    """What is read, and how far its clocks are trusted."""

    topics: list[TopicName] = Field(min_length=1)
    format: Literal["json"] = "json"
    decode: ImportPath | None = None
    event_time: EventTimeField | Literal["kafka"] = "kafka"
    event_id: FieldPath | list[FieldPath] | None = None
    out_of_orderness: _duration("0 s", "7 d") = 5_000  # type: ignore[valid-type]
    idle_after: _duration("1 s", "1 d") = 30_000  # type: ignore[valid-type]
    max_ahead: _duration("0 s", "365 d") = 60_000  # type: ignore[valid-type]
    max_value: _size("1 KiB", "64 MiB") = 1 << 20  # type: ignore[valid-type]
    discover_partitions_every: _duration("1 s", "1 d") = 10_000  # type: ignore[valid-type]


class KeyField(_Model):
    """A key field that is not a string."""

    field: FieldPath
    type: spec.KeyType = "string"


class SumField(_Model):
    """A summed field: an int where nothing is said; a decimal keeps its ``scale``."""

    field: FieldPath
    type: spec.SumType = "int"
    scale: int = Field(0, ge=0, le=spec.MAX_DIGITS)

    @model_validator(mode="after")
    def _scale_goes_with_decimal(self) -> Self:
        if self.scale and self.type != "decimal":
            raise ValueError(f'scale = {self.scale} goes with type = "decimal", not {self.type!r}')
        return self


class Aggregate(_Model):
    """Count, and sums, per key and tumbling window."""

    name: AggregateName
    key: list[FieldPath | KeyField] = Field(min_length=1)
    sum: list[FieldPath | SumField] = Field(default_factory=list)
    window: _duration("1 s", "30 d")  # type: ignore[valid-type]

    def spec(self) -> spec.Aggregate:
        """The same without its deployment."""
        return spec.Aggregate(
            self.name,
            tuple(_key_field(k) for k in self.key),
            tuple(_sum_field(s) for s in self.sum),
            self.window,
        )


class Checkpoint(_Model):
    """How often state is made durable and results become readable."""

    interval: _duration("100 ms", "1 h") = 10_000  # type: ignore[valid-type]
    timeout: _duration("1 s", "6 h") = 300_000  # type: ignore[valid-type]


class State(_Model):
    """What can't change while state is kept."""

    buckets: int = Field(16, ge=1, le=4096)
    max_parallelism: int = Field(128, ge=1, le=32768)


class Topics(_Model):
    """Output topics; the default is the pipeline's name, a dot, and the kind."""

    results: TopicName
    corrections: TopicName
    rejects: TopicName

    @property
    def all(self) -> tuple[str, str, str]:
        """Results, corrections and rejects."""
        return self.results, self.corrections, self.rejects


class Sink(_Model):
    """How the outputs are written."""

    transaction_timeout: _duration("1 min", "7 d") = 900_000  # type: ignore[valid-type]


class Performance(_Model):
    """Speed against memory and latency."""

    batch_records: int = Field(50_000, ge=1, le=1_000_000)
    batch_time: _duration("10 ms", "10 s") = 250  # type: ignore[valid-type]


class Pipeline(_Model):
    """One pipeline file."""

    name: PipelineName
    kafka: Kafka = Field(default_factory=lambda: Kafka())
    source: Source
    aggregate: list[Aggregate] = Field(min_length=1)
    checkpoint: Checkpoint = Field(default_factory=lambda: Checkpoint())
    state: State = Field(default_factory=lambda: State())
    sink: Sink = Field(default_factory=lambda: Sink())
    performance: Performance = Field(default_factory=lambda: Performance())
    topics: Topics

    @model_validator(mode="before")
    @classmethod
    def _default_topics(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("name"), str):
            defaults = {kind: f"{data['name']}.{kind}" for kind in Topics.model_fields}
            given = data.get("topics", {})
            if isinstance(given, dict):
                data = {**data, "topics": {**defaults, **given}}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [aggregate.name for aggregate in self.aggregate]
        if twice := next((n for n in names if names.count(n) > 1), None):
            raise ValueError(f"two aggregates are named {twice!r}; results are told apart by that name")
        for aggregate in self.aggregate:
            paths = [f.path for f in (*aggregate.spec().key, *aggregate.spec().sums)]
            if twice := next((p for p in paths if paths.count(p) > 1), None):
                raise ValueError(f"aggregate {aggregate.name!r} names the field {twice!r} twice")
        topics = [*self.source.topics, *self.topics.all]
        if twice := next((t for t in topics if topics.count(t) > 1), None):
            raise ValueError(f"topic {twice!r} is named twice; sources and outputs are topics of their own")
        _check_fields(self.spec().fields)
        return self

    def spec(self) -> spec.Spec:
        """What the Python workers need."""
        time = self.source.event_time
        return spec.Spec(
            aggregates=tuple(aggregate.spec() for aggregate in self.aggregate),
            event_time=spec.EventTime() if time == "kafka" else spec.EventTime(time.field, time.unit),
            max_ahead_ms=self.source.max_ahead,
            max_value_bytes=self.source.max_value,
            buckets=self.state.buckets,
            decode=self.source.decode,
        )

    @property
    def group_id(self) -> str:
        """The consumer group under which the job publishes how far it has read."""
        return f"surecount.{self.name}.aggregate"

    def transactional_id_prefix(self, kind: str) -> str:
        """The prefix of one sink's transactional ids.

        Kafka looks for lingering transactions with startsWith, so no prefix may begin with another:
        names have no dot and kinds differ.
        """
        return f"surecount.{self.name}.aggregate.{kind}"


def _key_field(key: str | KeyField) -> spec.Field:
    return spec.Field(key, "string") if isinstance(key, str) else spec.Field(key.field, key.type)


def _sum_field(total: str | SumField) -> spec.Field:
    if isinstance(total, str):
        return spec.Field(total, "int")
    return spec.Field(total.field, total.type, total.scale)


def _check_fields(fields: tuple[spec.Field, ...]) -> None:
    """A record has one value at a path, so it has one type there, and a value holds no fields."""
    seen: dict[str, spec.Field] = {}
    for field in fields:
        other = seen.setdefault(field.path, field)
        if other != field:
            raise ValueError(
                f"field {field.path!r} is declared as {_kind(other)} and as {_kind(field)}; declare it one way"
            )
    for path in seen:
        if inner := next((p for p in seen if p.startswith(path + ".")), None):
            raise ValueError(f"field {path!r} is a value, so {inner!r} cannot be inside it")


def _kind(field: spec.Field) -> str:
    return f"{field.type} (scale {field.scale})" if field.type == "decimal" else field.type


def load(path: Path) -> Pipeline:
    """Read and validate a pipeline file; raises SurecountError that names file, field and value."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SurecountError(
            f"{path}: {error.strerror or error}", "`surecount new NAME` writes a pipeline file to start from"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SurecountError(f"{path}: not valid TOML: {error}") from error
    return parse(data, str(path))


def parse(data: dict[str, Any], origin: str) -> Pipeline:
    """Validate a pipeline that was read from ``origin``."""
    try:
        return Pipeline.model_validate(data)
    except ValidationError as error:
        raise SurecountError("\n".join(_explain(origin, e) for e in _relevant(error))) from error


_TABLES = ("KeyField", "SumField", "EventTimeField")


def _relevant(error: ValidationError) -> list[Any]:
    """One entry a field: where a name or a table may stand, what fits the value's own shape."""
    chosen: dict[tuple[Any, ...], Any] = {}
    for entry in error.errors(include_url=False):
        location = tuple(part for part in entry["loc"] if not _is_union_branch(part))
        of_table = any(_is_table(part) for part in entry["loc"])
        if of_table and entry["type"] == "model_type":
            continue
        if (
            not of_table
            and isinstance(entry["input"], dict)
            and entry["type"] in ("string_type", "literal_error", "list_type")
        ):
            continue
        chosen.setdefault(location, {**entry, "loc": location})
    return list(chosen.values())


def _is_table(part: object) -> bool:
    return isinstance(part, str) and any(name in part for name in _TABLES)


def _is_union_branch(part: object) -> bool:
    return _is_table(part) or (isinstance(part, str) and part.startswith(("literal[", "constrained-", "list[")))


def _explain(origin: str, entry: Any) -> str:
    where = ""
    for part in entry["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else str(part)
    message = entry["msg"].removeprefix("Value error, ")
    match entry["type"]:
        case "missing":
            return f"{origin}: {where} is missing"
        case "extra_forbidden":
            return f"{origin}: {where} is no setting; `surecount check --schema` lists them all"
        case "value_error":
            return f"{origin}: {where + ': ' if where else ''}{message}"
    return f"{origin}: {where} = {entry['input']!r}: {message}"


def check_name(name: str) -> None:
    """Raise SurecountError where a pipeline cannot have that name."""
    try:
        TypeAdapter(PipelineName).validate_python(name)
    except ValidationError as error:
        raise SurecountError(
            f"{name!r} is no pipeline name", "lower-case letters, digits, - and _, a letter first"
        ) from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a pipeline file, for editors."""
    schema = Pipeline.model_json_schema()
    # The output topics have defaults that depend on the name, which JSON Schema can't say.
    schema["required"] = [name for name in schema["required"] if name != "topics"]
    schema["$defs"]["Topics"].pop("required", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "surecount pipeline",
        **schema,
    }
