"""A pipeline: its model and its defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from surecount.config.base import Model
from surecount.config.names import AggregateName, FieldPath, PipelineName, TopicName
from surecount.config.source import Kafka, KeyField, Pathway, Source, key_field
from surecount.config.units import duration, format_duration
from udfs import spec as specs

_WATERMARK_MARGIN_MS = 60_000


class SumField(Model):
    """A summed field: an int where nothing is said; a decimal keeps its ``scale``."""

    field: FieldPath
    type: specs.SumType = "int"
    scale: int = Field(0, ge=0, le=specs.MAX_DIGITS)

    @model_validator(mode="after")
    def _scale_goes_with_decimal(self) -> Self:
        if self.scale and self.type != "decimal":
            raise ValueError(f'scale = {self.scale} goes with type = "decimal", not {self.type!r}')
        return self


class Aggregate(Model):
    """Count, and sums, per key and tumbling window."""

    name: AggregateName
    key: list[FieldPath | KeyField] = Field(min_length=1)
    sum: list[FieldPath | SumField] = Field(default_factory=list)
    window: duration("1 s", "30 d")  # type: ignore[valid-type]

    def spec(self) -> specs.Aggregate:
        """The same without its deployment."""
        return specs.Aggregate(
            self.name,
            tuple(key_field(k) for k in self.key),
            tuple(_sum_field(s) for s in self.sum),
            self.window,
        )


class Checkpoint(Model):
    """How often state is made durable and results become readable."""

    interval: duration("100 ms", "1 h") = 10_000  # type: ignore[valid-type]
    timeout: duration("1 s", "6 h") = 300_000  # type: ignore[valid-type]


class State(Model):
    """What can't change while state is kept."""

    buckets: int = Field(16, ge=1, le=4096)
    max_parallelism: int = Field(128, ge=1, le=32768)


class Topics(Model):
    """Output topics; the default is the pipeline's name, a dot, and the kind.

    ``clean`` is between the jobs of a pipeline with ingest. ``replay`` is what ``surecount rejects replay`` writes, and
    ingest reads. ``duplicates`` is written where it is named.
    """

    results: TopicName
    corrections: TopicName
    rejects: TopicName
    clean: TopicName
    replay: TopicName
    duplicates: TopicName | None = None

    @property
    def all(self) -> tuple[str, str, str]:
        """What the aggregate job writes: results, corrections and rejects."""
        return self.results, self.corrections, self.rejects


LARGEST_RECORD = 64 << 20
"""The largest record that a job writes, in bytes before compression, headers included."""


class Sink(Model):
    """How the outputs are written."""

    transaction_timeout: duration("10 s", "7 d") = 900_000  # type: ignore[valid-type]
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"


class Performance(Model):
    """Speed against memory and latency."""

    batch_records: int = Field(100_000, ge=1, le=1_000_000)
    batch_time: duration("10 ms", "10 s") = 100  # type: ignore[valid-type]
    replace_internals: bool = True

    @property
    def bundle_time(self) -> int:
        """How long a bundle waits for its next batch at most, in milliseconds."""
        return int(2 * self.batch_time)


class Pipeline(Model):
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
            defaults = {kind: f"{data['name']}.{kind}" for kind in Topics.model_fields if kind != "duplicates"}
            given = data.get("topics", {})
            if isinstance(given, dict):
                data = {**data, "topics": {**defaults, **given}}
        return data

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [aggregate.name for aggregate in self.aggregate]
        if twice := next((n for n in names if names.count(n) > 1), None):
            raise ValueError(f"two aggregates are named {twice!r}; results are told apart by that name")
        for aggregate in self.aggregate:
            paths = [f.path for f in (*aggregate.spec().key, *aggregate.spec().sums)]
            if twice := next((p for p in paths if paths.count(p) > 1), None):
                raise ValueError(f"aggregate {aggregate.name!r} names the field {twice!r} twice")
        return self

    @model_validator(mode="after")
    def _topics_differ(self) -> Self:
        duplicates = self.topics.duplicates
        if duplicates is not None and not self.has_ingest:
            raise ValueError(
                f"topics.duplicates = {duplicates!r}: only ingest tells duplicates; "
                "set source.event_id, or name what is read in [[source.pathway]] tables"
            )
        for pathway in self.source.pathway:
            own = "properties" if pathway.properties else "security" if pathway.security else None
            if own and not self.is_relayed(pathway):
                raise ValueError(
                    f"pathway {pathway.name!r} has {own}, but no cluster of its own: "
                    f"give its bootstrap_servers, or set kafka.{own}"
                )
        topics = [(self.kafka_of(p).bootstrap_servers, topic) for p in self.pathways for topic in p.topics]
        topics += [(self.kafka.bootstrap_servers, topic) for job in self.jobs for topic in self.writes(job)]
        topics += [(self.kafka.bootstrap_servers, self.topics.replay)] if self.has_ingest else []
        if twice := next((t for t in topics if topics.count(t) > 1), None):
            raise ValueError(f"topic {twice[1]!r} is named twice; sources and outputs are topics of their own")
        return self

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        whole = self.spec()
        _check_fields((*whole.fields, *whole.optional))
        for check in whole.checks:
            if not check.required and check.field not in whole.optional:
                raise ValueError(
                    f"the check of {check.field.path!r} has required = false, but the field is needed: as the event "
                    "time, a key, a sum, an id, or by another check; leave required out"
                )
        return self

    @model_validator(mode="after")
    def _batches_are_shorter_than_silences(self) -> Self:
        # Twice as long as a record waits: for the end of its batch, four times as long in ingest, and of its bundle.
        times = 8 if self.has_ingest else 6
        if self.source.idle_after < times * self.performance.batch_time:
            raise ValueError(
                f"source.idle_after = {format_duration(self.source.idle_after)} is less than {times} times "
                f"performance.batch_time = {format_duration(self.performance.batch_time)}: a partition whose records "
                "wait in a batch is not idle"
            )
        return self

    @property
    def has_ingest(self) -> bool:
        """Whether raw topics go through the ingest job: where there are pathways, or an ``event_id``."""
        return bool(self.source.pathway) or self.source.event_id is not None

    @property
    def pathways(self) -> tuple[Pathway, ...]:
        """The pathways; ``source.topics`` are one, named main."""
        return tuple(self.source.pathway) or (Pathway(name="main", topics=self.source.topics),)

    def is_relayed(self, pathway: Pathway) -> bool:
        """Whether a pathway's topics are on another cluster than the pipeline's own."""
        return pathway.bootstrap_servers not in (None, self.kafka.bootstrap_servers)

    def relay_topic(self, pathway: Pathway) -> str:
        """Where a relay writes what it reads on its pathway's cluster."""
        return f"{self.name}.pathway.{pathway.name}"

    def relay_job(self, pathway: Pathway) -> str:
        """The name of a pathway's relay among the pipeline's jobs."""
        return f"relay.{pathway.name}"

    def kafka_of(self, pathway: Pathway) -> Kafka:
        """The cluster that a pathway's topics are on."""
        if not self.is_relayed(pathway):
            return self.kafka
        return Kafka(
            bootstrap_servers=pathway.bootstrap_servers or "",
            properties=pathway.properties,
            security=pathway.security,
        )

    @property
    def inlets(self) -> tuple[specs.Inlet, ...]:
        """Where the records come from that the ingest job reads."""
        found = []
        for pathway in self.pathways:
            relay = self.relay_topic(pathway) if self.is_relayed(pathway) else None
            topics = [*pathway.topics, None] if relay else pathway.topics
            found += [specs.Inlet(pathway.name, topic, relay) for topic in topics]
        return tuple(found)

    @property
    def ingested_topics(self) -> dict[str, Pathway]:
        """The topics that the ingest job reads, all on the pipeline's own cluster, each with its pathway."""
        return {
            topic: pathway
            for pathway in self.pathways
            for topic in ([self.relay_topic(pathway)] if self.is_relayed(pathway) else pathway.topics)
        }

    @property
    def jobs(self) -> tuple[str, ...]:
        """The names of the pipeline's jobs, in the order of the flow: relays, ingest, aggregate."""
        if not self.has_ingest:
            return ("aggregate",)
        return (*(self.relay_job(p) for p in self.pathways if self.is_relayed(p)), "ingest", "aggregate")

    def pathway_of(self, job: str) -> Pathway | None:
        """The pathway that a relay is of; None for other jobs."""
        return next((p for p in self.pathways if self.relay_job(p) == job and self.is_relayed(p)), None)

    def reads(self, job: str) -> tuple[Kafka, list[str]]:
        """The cluster and the topics that a job reads."""
        if pathway := self.pathway_of(job):
            return self.kafka_of(pathway), pathway.topics
        if job == "ingest":
            return self.kafka, [*self.ingested_topics, self.topics.replay]
        return self.kafka, self.aggregated_topics

    def writes(self, job: str) -> list[str]:
        """The topics that a job writes; rejects count as those of the one that meets raw records."""
        topics = self.topics
        if pathway := self.pathway_of(job):
            return [self.relay_topic(pathway)]
        if job == "ingest":
            return [topics.clean, topics.rejects, *([topics.duplicates] if topics.duplicates else [])]
        return [topics.results, topics.corrections, *([] if self.has_ingest else [topics.rejects])]

    @property
    def written(self) -> frozenset[str]:
        """All topics that the pipeline's jobs write."""
        return frozenset(topic for job in self.jobs for topic in self.writes(job))

    def sinks(self, job: str) -> list[str]:
        """The kinds of a job's sinks, by which their transactional ids are told apart."""
        if self.pathway_of(job):
            return ["copy"]
        if job == "ingest":
            return ["rejects", "clean", *(["duplicate"] if self.topics.duplicates else [])]
        return ["rejects", "results", "corrections"]

    @property
    def copies(self) -> list[str]:
        """The topics that jobs write for one another: nobody else does, so what headers say there is believed."""
        if not self.has_ingest:
            return []
        return [*(self.relay_topic(p) for p in self.pathways if self.is_relayed(p)), self.topics.clean]

    @property
    def replayed_topics(self) -> list[str]:
        """The topics that ``surecount rejects replay`` writes, for the jobs that read them."""
        return [*self.aggregated_topics, *([self.topics.replay] if self.has_ingest else [])]

    @property
    def aggregated_topics(self) -> list[str]:
        """What the aggregate job reads."""
        return [self.topics.clean] if self.has_ingest else self.source.topics

    def spec(self) -> specs.Spec:
        """What the Python workers need of the job that meets raw records."""
        time = self.source.event_time
        aggregates = tuple(aggregate.spec() for aggregate in self.aggregate)
        declared = {field.path: field for a in aggregates for field in (*a.key, *a.sums)}
        declared |= {field.path: field for field in self.source.id_fields}
        event_time = specs.EventTime() if time == "kafka" else specs.EventTime(time.field, time.unit)
        if event_time.field is not None:
            declared[event_time.field.path] = event_time.field
        return specs.Spec(
            aggregates=aggregates,
            event_time=event_time,
            max_ahead_ms=self.source.max_ahead,
            max_value_bytes=self.source.max_value,
            buckets=self.state.buckets,
            decode=self.source.decode,
            event_id=self.source.id_fields,
            checks=tuple(check.spec(declared.get(check.field)) for check in self.source.checks),
        )

    def aggregate_spec(self) -> specs.Spec:
        """What the aggregate job's workers need: clean records have been checked, and have one id each."""
        return replace(self.spec(), event_id=(), checks=()) if self.has_ingest else self.spec()

    @property
    def watermark_patience(self) -> int:
        """How far, in ms of event time, records may be ahead of the watermark of a job that has caught up: disorder,
        clocks that are ahead, a partition that is silent and not yet idle, and a minute for all else."""
        source = self.source
        patience: int = source.out_of_orderness + source.max_ahead + source.idle_after + _WATERMARK_MARGIN_MS
        return patience

    def group_id(self, job: str) -> str:
        """The consumer group under which a job publishes how far it has read."""
        return f"surecount.{self.name}.{job}"

    def transactional_id_prefix(self, job: str, kind: str) -> str:
        """The prefix of one sink's transactional ids.

        Kafka looks for lingering transactions with startsWith, so no prefix may begin with another:
        names have no dot and kinds differ.
        """
        return f"surecount.{self.name}.{job}.{kind}"


def _sum_field(total: str | SumField) -> specs.Field:
    if isinstance(total, str):
        return specs.Field(total, "int")
    return specs.Field(total.field, total.type, total.scale)


def _check_fields(fields: tuple[specs.Field, ...]) -> None:
    """A record has one value at a path, so it has one type there, and a value holds no fields."""
    seen: dict[str, specs.Field] = {}
    for field in fields:
        other = seen.setdefault(field.path, field)
        if other != field:
            raise ValueError(
                f"field {field.path!r} is declared as {_kind(other)} and as {_kind(field)}; declare it one way"
            )
    for path in seen:
        if inner := next((p for p in seen if p.startswith(path + ".")), None):
            raise ValueError(f"field {path!r} is a value, so {inner!r} cannot be inside it")


def _kind(field: specs.Field) -> str:
    return f"{field.type} (scale {field.scale})" if field.type == "decimal" else field.type
