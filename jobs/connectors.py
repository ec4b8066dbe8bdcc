"""Sources and sinks of the jobs: Kafka in, batches for Python, and exactly once into Kafka.

The classes are those of ``java/src/main/java/surecount``, whose jar is on the class path of client and cluster.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pyflink.common import Types, WatermarkStrategy
from pyflink.datastream import DataStream, ProcessFunction, StreamExecutionEnvironment
from pyflink.datastream.connectors.base import Source
from pyflink.datastream.data_stream import KeyedStream
from pyflink.java_gateway import get_gateway

from jobs.internals import bundled
from jobs.operators import BYTES, DECODED
from surecount.config import LARGEST_RECORD, Kafka, Pathway, Pipeline
from surecount.kafka.security import for_java
from udfs import packs

AWAY_MS = 600_000
"""How long a cluster of a pathway may be away while a relay looks for new partitions, before that restarts the job."""

_BATCH_BYTES = 16 << 20
"""The largest batch that Python gets, unless a single record is larger. Whole values, which it does not get, are up to
four times as much."""

_CLOCKS_MS = 60_000
"""How far the clocks of two machines may be apart: a record that is from further in the future moves no watermark."""


def source(
    environment: StreamExecutionEnvironment,
    pipeline: Pipeline,
    job: str,
    topics: Sequence[str],
    arguments: Namespace,
    *,
    uid: str,
    projected: bool = False,
    batch_time_ms: int,
) -> DataStream:
    """Batches of the records of topics, as :func:`udfs.packs.read_batch` reads them.

    With ``projected``, values cross to Python without the members that the pipeline does not use. Rejects have them
    whole.
    """
    properties = packing_properties(pipeline, job, topics, arguments, uid=uid, projected=projected)
    java = get_gateway().jvm.surecount
    built = java.Connectors.source(properties, [*topics], *start_and_end(arguments))
    # Watermarks are made behind decoding, which finds the event times.
    arrived = environment.from_source(Source(built), WatermarkStrategy.no_watermarks(), uid)
    arrived.uid(with_generation(uid, arguments))
    batcher = java.Batcher(pipeline.performance.batch_records, _BATCH_BYTES, batch_time_ms)
    batches = arrived._j_data_stream.transform("batches", BYTES.get_java_type_info(), batcher)
    return DataStream(batches).uid(f"{uid}_batches")


def packing_properties(
    pipeline: Pipeline, job: str, topics: Sequence[str], arguments: Namespace, *, uid: str, projected: bool
) -> dict[str, str]:
    """The properties of a consumer that makes packs of records."""
    properties = consumer_properties(pipeline, pipeline.kafka, job, arguments) | {
        "client.id.prefix": client_id(pipeline, job, uid),
        "metric.reporters": "surecount.Fetches",
        "interceptor.classes": "surecount.PackingInterceptor,surecount.PollLimit",
        # The bytes that wait for the task are limited by Reading, in the jar.
        "source.reader.element.queue.capacity": "1000",
        "surecount.pack.layout": str(packs.LAYOUT),
        "surecount.pack.records": str(packs.RECORDS),
        "surecount.pack.most": str(pipeline.source.max_value),
    }
    if foreign := [topic for topic in topics if topic not in (*pipeline.copies, pipeline.topics.replay)]:
        properties["surecount.pack.foreign"] = ";".join(foreign)
    if projected:
        properties["surecount.pack.fields"] = '"'.join(_members(pipeline))
    return properties


def client_id(pipeline: Pipeline, job: str, uid: str) -> str:
    """The client id of a source's consumers, without the number of the subtask."""
    return f"{pipeline.group_id(job)}.{uid}"


def consumer_properties(pipeline: Pipeline, kafka: Kafka, job: str, arguments: Namespace) -> dict[str, str]:
    """A consumer's properties."""
    properties = for_java(kafka) | {
        "group.id": pipeline.group_id(job),
        "isolation.level": "read_committed",
        "max.partition.fetch.bytes": str(4 << 20),
        # PollLimit does not count the headers of records without key and value.
        "max.poll.records": "1000",
        **dict.fromkeys(("key.deserializer", "value.deserializer", "interceptor.classes"), "surecount.PollLimit"),
    }
    if not arguments.bounded:
        properties["partition.discovery.interval.ms"] = str(pipeline.source.discover_partitions_every)
    return properties


def start_and_end(arguments: Namespace) -> tuple[dict[str, str], bool, bool]:
    """Where a source begins and ends: the offsets that replace some of the snapshot's, whether the source is bounded,
    and whether it begins at its group's committed offsets."""
    moved = (text.rpartition(":") for text in arguments.moved)
    return {place: offset for place, _, offset in moved}, arguments.bounded, arguments.generation > 0


def _members(pipeline: Pipeline) -> list[str]:
    """Names of the members of a record that fields of the pipeline are in."""
    spec = pipeline.aggregate_spec()
    return [*dict.fromkeys(field.parts[0] for field in (*spec.fields, *spec.optional))]


@dataclass(frozen=True)
class Decoded:
    """What decoding makes of batches: pieces by bucket, and rejected records for :func:`sink`."""

    pieces: DataStream
    rejects: Any


def decoded(
    batches: DataStream, function: ProcessFunction, topics: Sequence[str], uid: str, watermarks: Any = None
) -> Decoded:
    """Batches decoded by a function of :mod:`jobs.operators`; without ``watermarks`` nothing waits for them."""
    rows = bundled(batches, function, DECODED).name(uid).uid(uid)
    java = get_gateway().jvm.surecount
    sorted_ = rows._j_data_stream.transform(
        "watermarks", DECODED.get_java_type_info(), java.Decoded([*topics], watermarks)
    )
    sorted_.uid(f"{uid}_watermarks")
    return Decoded(DataStream(sorted_), sorted_.getSideOutput(java.Outgoing.REJECTS))


@dataclass(frozen=True)
class Clock:
    """How the watermark follows the clock while no record comes: it starts after ``after_ms`` of silence, and stays
    ``behind_ms`` behind the event time that a record would have."""

    after_ms: int
    behind_ms: int


def watermarks(
    pipeline: Pipeline, job: str, uid: str, behind_ms: int, *, bounded: bool, clock: Clock | None = None
) -> Any:
    """How watermarks follow the event times of a source's partitions: ``behind_ms`` behind, per partition."""
    # Where the input ends, so does every wait.
    idle_after = 0 if bounded else pipeline.source.idle_after
    clocks = (clock.after_ms, clock.behind_ms) if clock else (0, 0)
    name = client_id(pipeline, job, uid)
    return get_gateway().jvm.surecount.Watermarks(behind_ms, idle_after, _CLOCKS_MS, *clocks, name)


def by_bucket(*streams: DataStream) -> KeyedStream:
    """Key the pieces of :class:`Decoded` by bucket.

    PyFlink's ``key_by`` would add a Python operator, and send each piece to Python and back.
    """
    pieces = streams[0].union(*streams[1:]) if len(streams) > 1 else streams[0]
    key = Types.ROW([Types.INT()]).get_java_type_info()
    keyed = pieces._j_data_stream.keyBy(get_gateway().jvm.KeyByKeySelector(), key)
    return KeyedStream(keyed, BYTES, pieces)


def unpacked(rows: DataStream, function: Any, name: str) -> Any:
    """What a Java function makes of blocks of records: a stream for :func:`sink`, with side outputs."""
    java = get_gateway().jvm.surecount
    return rows._j_data_stream.process(function, java.Outgoing.TYPE).name(name).uid(name)


def sink(outgoing: Any, pipeline: Pipeline, job: str, kind: str, topic: str, uid: str, arguments: Namespace) -> None:
    """Write a Java stream of outgoing records to a topic, exactly once."""
    prefix = pipeline.transactional_id_prefix(job, kind)
    most = _MOST_BYTES if kind in _ANY_SIZE else 0
    properties = producer_properties(pipeline)
    written = get_gateway().jvm.surecount.Connectors.sink(properties, topic, prefix, _GUARANTEE, most)
    outgoing.sinkTo(written).name(kind).uid(with_generation(uid, arguments))


def producer_properties(pipeline: Pipeline) -> dict[str, str]:
    """A producer's properties."""
    return for_java(pipeline.kafka) | {
        "transaction.timeout.ms": str(pipeline.sink.transaction_timeout),
        # The producer refuses what is larger than either.
        "max.request.size": str(LARGEST_RECORD),
        "buffer.memory": str(LARGEST_RECORD),
        "linger.ms": "20",
        "batch.size": str(256 << 10),
        "compression.type": pipeline.sink.compression,
    }


_GUARANTEE = "EXACTLY_ONCE"

_ANY_SIZE = ("rejects", "copy")
"""Sinks that get records of any size, and write those over :data:`_MOST_BYTES` without the value."""

_MOST_BYTES = LARGEST_RECORD - (1 << 20)


def with_generation(uid: str, arguments: Namespace) -> str:
    """The uid of a source or sink. After a recovery from a backup it has a suffix, so that the source or sink ignores
    the snapshot's offsets and transactions: they belong to topics that are gone."""
    return f"{uid}_{arguments.generation}" if arguments.generation else uid


def relayed(
    environment: StreamExecutionEnvironment, pipeline: Pipeline, job: str, pathway: Pathway, arguments: Namespace
) -> Any:
    """A Java stream of the records of a pathway's topics, on its own cluster, that say where they are from."""
    properties = consumer_properties(pipeline, pipeline.kafka_of(pathway), job, arguments) | {
        "client.id.prefix": client_id(pipeline, job, "1_kafka"),
        # A look for new partitions that fails would restart the job.
        "default.api.timeout.ms": str(AWAY_MS),
    }
    topics: Iterable[str] = pathway.topics
    java = get_gateway().jvm.surecount
    built = java.Connectors.relaySource(properties, [*topics], *start_and_end(arguments))
    stream = environment.from_source(Source(built), WatermarkStrategy.no_watermarks(), "source")
    return stream.uid(with_generation("1_kafka", arguments))._j_data_stream
