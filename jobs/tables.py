"""The Kafka tables at both edges of a job, as SQL.

The Table API gives what PyFlink's DataStream lacks: key, headers, partition, offset and timestamp on
both sides, and watermarks per partition inside the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from surecount import __version__
from surecount.config import LARGEST_RECORD, EventTimeField, Kafka, Pathway, Pipeline
from surecount.kafka.security import for_java
from udfs import packs
from udfs.headers import RELAYED_HEADER
from udfs.spec import MAX_EVENT_TIME_MS, MIN_KAFKA_MS

WATERMARK_HEADER = "surecount.watermark"
"""On clean records: the ingest job's watermark, in ms since 1970."""

_PACKING, _ASIDE = "surecount.PackingInterceptor", "surecount.AsideInterceptor"
"""From the jar that java/pom.xml builds."""


def quote(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def _options(options: dict[str, str]) -> str:
    return ", ".join(f"{quote(name)} = {quote(value)}" for name, value in options.items())


def _kafka(kafka: Kafka) -> dict[str, str]:
    return {
        "connector": "kafka",
        "key.format": "raw",
        "key.fields": "k",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
        **{f"properties.{name}": value for name, value in for_java(kafka).items()},
    }


def source(pipeline: Pipeline, job: str, topics: Iterable[str], *, bounded: bool, from_group: bool = False) -> str:
    """CREATE TABLE ``source``: packs of records (:mod:`udfs.packs`), and a watermark.

    Without state it begins with the earliest records, or ``from_group``, where its group has committed.
    """
    topics = list(topics)
    event_time, behind = _event_time(pipeline, bounded=bounded), pipeline.source.out_of_orderness
    sample = "youngest" if _follows_kafka(pipeline) else "last"
    if pipeline.has_ingest and job == "aggregate":
        event_time, behind = _ingest_watermark(), 0
        # Clean records say where the watermark was when they were written, which is furthest in the last one.
        sample = "last"
    options = _packed(pipeline, job, topics, bounded=bounded, from_group=from_group) | {
        "properties.surecount.pack.sample": sample,
    }
    if others := [topic for topic in topics if topic not in pipeline.copies]:
        options["properties.surecount.pack.foreign"] = ";".join(others)
    if job == "aggregate" and pipeline.source.decode is None:
        # Ingest needs whole values: it writes them.
        options["properties.surecount.pack.fields"] = '"'.join(_members(pipeline))
    if not bounded:
        # Where the input ends, so does every wait; and Flink drops the last watermark of a source that is idle then.
        options["scan.watermark.idle-timeout"] = f"{pipeline.source.idle_after} ms"
    return _source_table("source", event_time, behind, options)


def replayed(pipeline: Pipeline, job: str, *, bounded: bool, from_group: bool = False) -> str:
    """CREATE TABLE ``replayed``: packs of what ``surecount rejects replay`` sends again.

    It has no event times, and is idle before and after its records: it neither holds a watermark back nor moves one.
    """
    options = _packed(pipeline, job, [pipeline.topics.replay], bounded=bounded, from_group=from_group)
    if not bounded:
        options["scan.watermark.idle-timeout"] = "1 ms"
    return _source_table("replayed", "CASE WHEN `partition` < 0 THEN kafka_time END", 0, options)


def _packed(pipeline: Pipeline, job: str, topics: Sequence[str], *, bounded: bool, from_group: bool) -> dict[str, str]:
    options = _read(pipeline, pipeline.kafka, job, topics, bounded=bounded, from_group=from_group) | {
        "properties.interceptor.classes": _PACKING,
        "properties.surecount.pack.layout": packs.LAYOUT,
        "properties.surecount.pack.records": str(packs.RECORDS),
    }
    if bounded:
        options["properties.surecount.pack.bounded"] = ";".join(topics)
    return options


def _source_table(name: str, event_time: str, behind_ms: int, options: dict[str, str]) -> str:
    columns = [
        *_SOURCE_COLUMNS,
        f"event_time AS {event_time}",
        f"WATERMARK FOR event_time AS event_time - INTERVAL {_interval(behind_ms)}",
    ]
    return f"CREATE TEMPORARY TABLE {name} ({', '.join(columns)}) WITH ({_options(options)})"


def _members(pipeline: Pipeline) -> list[str]:
    """Names of the members of a record that fields of the pipeline are in."""
    spec = pipeline.aggregate_spec()
    return [*dict.fromkeys(field.parts[0] for field in (*spec.fields, *spec.optional))]


def remote_source(pipeline: Pipeline, job: str, pathway: Pathway, *, bounded: bool, from_group: bool = False) -> str:
    """CREATE TABLE ``source`` of a pathway's topics on its own cluster, which may be away for a while."""
    options = {
        **_read(pipeline, pipeline.kafka_of(pathway), job, pathway.topics, bounded=bounded, from_group=from_group),
        "properties.interceptor.classes": _ASIDE,
        # A look for new partitions that fails would restart the job.
        "properties.default.api.timeout.ms": str(_AWAY_MS),
    }
    return f"CREATE TEMPORARY TABLE source ({', '.join(_SOURCE_COLUMNS)}) WITH ({_options(options)})"


_AWAY_MS = 600_000

_SOURCE_COLUMNS = [
    "k BYTES",
    "v BYTES",
    "headers MAP<STRING, BYTES> NOT NULL METADATA VIRTUAL",
    "topic STRING NOT NULL METADATA VIRTUAL",
    "`partition` INT NOT NULL METADATA VIRTUAL",
    "`offset` BIGINT NOT NULL METADATA VIRTUAL",
    "kafka_time TIMESTAMP_LTZ(3) NOT NULL METADATA FROM 'timestamp' VIRTUAL",
]


def _read(
    pipeline: Pipeline, kafka: Kafka, job: str, topics: Iterable[str], *, bounded: bool, from_group: bool
) -> dict[str, str]:
    options = {
        **_kafka(kafka),
        "topic": ";".join(topics),
        "properties.group.id": pipeline.group_id(job),
        "properties.isolation.level": "read_committed",
        "properties.max.partition.fetch.bytes": str(4 << 20),
        # Fetching and reading wait for each other at the end of every poll. But what a poll brings is in memory at
        # once, and a fetch of few bytes may hold many large records, compressed.
        "properties.max.poll.records": "1000",
        "scan.startup.mode": "group-offsets" if from_group else "earliest-offset",
    }
    if from_group:
        # A partition without a committed offset is an error, and no guess.
        options["properties.auto.offset.reset"] = "none"
    if bounded:
        options["scan.bounded.mode"] = "latest-offset"
    else:
        options["scan.topic-partition-discovery.interval"] = f"{pipeline.source.discover_partitions_every} ms"
    return options


def _interval(ms: int) -> str:
    """An interval literal's digits and unit; days, as seconds alone hold too few digits."""
    days, rest = divmod(ms, 86_400_000)
    hours, rest = divmod(rest, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    seconds, millis = divmod(rest, 1000)
    return f"'{days} {hours:02d}:{minutes:02d}:{seconds:02d}.{millis:03d}' DAY(3) TO SECOND(3)"


def _event_time(pipeline: Pipeline, *, bounded: bool) -> str:
    """The event time that feeds the watermark; null where a record must not move it.

    A record further ahead of its Kafka timestamp than ``max_ahead`` is rejected later; here it must not
    close every window. One far in the past needs no test: a watermark does not go back. Where a Kafka timestamp is no
    time, the TaskManager's clock is in its place.

    What a user's own decode function will find is not known here, so then the watermark follows Kafka's timestamps.
    A partition that has none which is a time follows the clock, ``horizon`` behind: it would else hold all windows
    back for ever, and a single such record may not make what comes behind it late.
    """
    time, now = pipeline.source.event_time, "CURRENT_ROW_TIMESTAMP()"
    if _follows_kafka(pipeline):
        behind = f"{now} - INTERVAL {_interval(pipeline.source.horizon)}"
        return _not_waited_for(pipeline, f"CASE WHEN {IS_TIME} THEN kafka_time ELSE {behind} END", bounded=bounded)
    assert isinstance(time, EventTimeField)
    stated = _milliseconds(time)
    return f"""CASE
        WHEN {stated} <= CASE WHEN {IS_TIME} THEN kafka_time ELSE {now} END
            + INTERVAL {_interval(pipeline.source.max_ahead)}
        THEN {_not_waited_for(pipeline, stated, bounded=bounded)} END"""


def _follows_kafka(pipeline: Pipeline) -> bool:
    """Whether the watermark is made of Kafka's timestamps."""
    return pipeline.source.event_time == "kafka" or pipeline.source.decode is not None


def _not_waited_for(pipeline: Pipeline, event_time: str, *, bounded: bool) -> str:
    """An event time for the watermark, of which a relayed record that comes late makes nothing wait.

    It counts as no more than half of ``idle_after`` older than the relay's copy: a pathway that catches up
    would else hold all windows back until it has. It counts as at most half a horizon younger than it is, so
    that none becomes too old by it. And only beside a pathway without relay, which says how late it is.
    """
    relayed = [pipeline.is_relayed(pathway) for pathway in pipeline.pathways]
    if bounded or all(relayed) or not any(relayed):
        return event_time
    relayed_at = f"TRY_CAST(SPLIT_INDEX({header_text(RELAYED_HEADER)}, ' ', 2) AS BIGINT) * 1000"
    at_least = f"TO_TIMESTAMP_LTZ({relayed_at} - {pipeline.source.idle_after // 2}, 3)"
    at_most = f"{event_time} + INTERVAL {_interval(pipeline.source.horizon // 2)}"
    relays = ", ".join(quote(pipeline.relay_topic(p)) for p in pipeline.pathways if pipeline.is_relayed(p))
    return f"""CASE WHEN topic IN ({relays}) THEN GREATEST({event_time}, LEAST({at_least}, {at_most}))
        ELSE {event_time} END"""


def _ingest_watermark() -> str:
    """How far the ingest job's watermark was when it wrote a record: what comes behind it is not earlier.

    Clean records come in the order of several raw partitions, so no watermark could be made of their
    event times.
    """
    return f"TO_TIMESTAMP_LTZ(TRY_CAST({header_text(WATERMARK_HEADER)} AS BIGINT), 3)"


def _milliseconds(time: EventTimeField) -> str:
    path = "$" + "".join(f"[''{part}'']" for part in time.field.split("."))
    text = f"JSON_VALUE({header_text(packs.SAMPLE_HEADER)}, '{path}')"
    match time.unit:
        case "rfc3339":
            # Whole seconds: a watermark a little behind is safe. The offset is ±hh:mm, or Z.
            local = f"TO_TIMESTAMP_LTZ(REPLACE(UPPER(SUBSTR({text}, 1, 19)), 'T', ' '), 'yyyy-MM-dd HH:mm:ss', 'UTC')"
            sign = f"IF(SUBSTR({text}, CHAR_LENGTH({text}) - 5, 1) = '-', -1, 1)"
            hours = f"TRY_CAST(SUBSTR({text}, CHAR_LENGTH({text}) - 4, 2) AS INT)"
            minutes = f"TRY_CAST(SUBSTR({text}, CHAR_LENGTH({text}) - 1, 2) AS INT)"
            offset = f"COALESCE({sign} * ({hours} * 60 + {minutes}), 0)"
            return f"({local} - {offset} * INTERVAL '1' MINUTE)"
        case "s":
            ms = f"TRY_CAST({text} AS BIGINT) * 1000"
        case "ms":
            ms = f"TRY_CAST({text} AS BIGINT)"
        case "us":
            ms = f"TRY_CAST({text} AS BIGINT) / 1000"
        case "ns":
            ms = f"TRY_CAST({text} AS BIGINT) / 1000000"
    return f"TO_TIMESTAMP_LTZ({ms}, 3)"


def as_time(ms: int) -> str:
    """SQL of a time, from ms since 1970."""
    return f"TO_TIMESTAMP_LTZ({ms}, 3)"


IS_TIME = f"(kafka_time >= {as_time(MIN_KAFKA_MS)} AND kafka_time <= {as_time(MAX_EVENT_TIME_MS)})"
"""Whether the column ``kafka_time`` holds one: see :func:`udfs.times.is_time`."""

_METADATA = {
    "headers": "headers MAP<STRING, BYTES> METADATA",
    "kafka_time": "kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'",
}


def reject_headers(job: str, **columns: str) -> str:
    """A MAP of what a reject says beside its own headers, from SQL expressions of strings by name."""
    return header_map({**columns, "job": quote(job), "version": quote(__version__)})


def header_text(name: str) -> str:
    """SQL of a header of the source table as a string; null where there is none."""
    # DECODE does not compile in a watermark expression.
    return f"CAST(headers[{quote(name)}] AS STRING)"


def headers_and(added: str) -> str:
    """SQL of the headers of the column ``headers``, which may be null, and of those in a MAP."""
    return f"CASE WHEN headers IS NULL THEN {added} ELSE MAP_UNION(headers, {added}) END"


def header_map(columns: dict[str, str]) -> str:
    """A MAP of headers ``surecount.NAME`` from SQL expressions of strings; one that is null makes no header."""
    return "MAP[" + ", ".join(f"'surecount.{name}', ENCODE({sql}, 'UTF-8')" for name, sql in columns.items()) + "]"


def sink(
    pipeline: Pipeline, job: str, kind: str, topic: str, *, key_value_type: str, metadata: Iterable[str] = ()
) -> str:
    """CREATE TABLE ``kind``: keys and values as they stand, exactly once.

    ``metadata`` names what else is written of each record: ``headers``, and Kafka's timestamp as ``kafka_time``.
    """
    options = {
        **_kafka(pipeline.kafka),
        "topic": topic,
        "sink.delivery-guarantee": "exactly-once",
        "sink.transaction-naming-strategy": "POOLING",
        "sink.transactional-id-prefix": pipeline.transactional_id_prefix(job, kind),
        "properties.transaction.timeout.ms": str(pipeline.sink.transaction_timeout),
        # The producer refuses what is larger than either.
        "properties.max.request.size": str(LARGEST_RECORD),
        "properties.buffer.memory": str(LARGEST_RECORD),
        "properties.linger.ms": "20",
        "properties.batch.size": str(256 << 10),
        "properties.compression.type": pipeline.sink.compression,
    }
    columns = [f"k {key_value_type}", f"v {key_value_type}", *(_METADATA[name] for name in metadata)]
    return f"CREATE TEMPORARY TABLE {kind} ({', '.join(columns)}) WITH ({_options(options)})"
