"""The ingest job: each event of the raw topics once into the clean topic, what cannot be used into rejects.

Submitted by ``surecount submit``, or by hand:

    flink run -py jobs/ingest.py -pyfs FOLDER --pipeline shop.toml
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Sequence

from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment

from jobs import tables
from jobs.decoding import by_bucket, decode, rejects
from jobs.operators import (
    ADMITTED,
    CLEAN,
    DUPLICATE,
    TOO_OLD,
    DecodeAndIdentify,
    DecodeReplayed,
    Deduplicate,
)
from jobs.running import reading, run
from surecount import __version__
from surecount.config import Pipeline
from udfs import reasons
from udfs.records import sources
from udfs.spec import MAX_EVENT_TIME_MS, MIN_KAFKA_MS

JOB = "ingest"
_UIDS = {"source": "1_kafka", "replayed": "replayed", "rejects": "16_sink", CLEAN: "20_sink", DUPLICATE: "24_sink"}

_SAID = ("pathway", "topic", "partition", "offset", "reason", "timestamp", "detail")

_BATCH_TIMES = 4
"""What ingest writes can be read at a checkpoint, so short bundles gain nothing; and at the end of each, every
bucket that had records writes its state."""

_BATCHES_IN_FLIGHT = 2
"""Whole records travel on from decoding, through memory that they wait in twice, and Python is what they wait for."""

# The id logs know what they need; PyFlink would else keep the last 1,000 segments of each bucket in Python as well.
_SETTINGS = {"python.map-state.read-cache-size": "1"}


def main() -> None:
    """Build the job of a pipeline file and hand it to Flink."""
    run(JOB, __doc__, build, _UIDS, _SETTINGS, batches_in_flight=_BATCHES_IN_FLIGHT, batch_times=_BATCH_TIMES)


def build(t: StreamTableEnvironment, pipeline: Pipeline, arguments: Namespace) -> None:
    """Sources → decode and identify → rejects, and by bucket → deduplicate → clean and duplicates.

    The replay topic is a source of its own, for which no watermark waits.
    """
    topics = pipeline.topics
    t.execute_sql(tables.source(pipeline, JOB, pipeline.ingested_topics, **reading(arguments)))
    t.execute_sql(tables.replayed(pipeline, JOB, **reading(arguments)))
    t.execute_sql(tables.sink(pipeline, JOB, "rejects", topics.rejects, key_value_type="BYTES", metadata=["headers"]))
    copies = {CLEAN: topics.clean} | ({DUPLICATE: topics.duplicates} if topics.duplicates else {})
    for kind, topic in copies.items():
        metadata = ["headers", "kafka_time"]
        t.execute_sql(tables.sink(pipeline, JOB, kind, topic, key_value_type="BYTES", metadata=metadata))

    spec, replay = pipeline.spec(), topics.replay
    decoded = [
        decode(t, DecodeAndIdentify(spec, pipeline.inlets), sources(pipeline.inlets)),
        decode(t, DecodeReplayed(spec, replay), [replay], "replayed"),
    ]
    t.create_temporary_view("admitted", t.from_data_stream(_deduplicate(t, pipeline, decoded)))

    outputs = t.create_statement_set()
    outputs.add_insert("rejects", t.sql_query(_rejects(pipeline, decoded)))
    for kind in copies:
        outputs.add_insert(kind, t.sql_query(_unpack(kind, _COPY_HEADERS, _KAFKA_TIME)))
    outputs.attach_as_datastream()


def _deduplicate(t: StreamTableEnvironment, pipeline: Pipeline, decoded: Sequence[str]) -> DataStream:
    """Packs of records, each with what is to be done with it."""
    deduplicate = Deduplicate(pipeline.source.horizon, list_duplicates=pipeline.topics.duplicates is not None)
    return (
        by_bucket(t, *decoded)
        .process(deduplicate, ADMITTED)
        .name("deduplicate")
        .uid("deduplicate")
        .set_max_parallelism(pipeline.state.max_parallelism)
    )


_ORIGIN = {
    "pathway": "pathway",
    "topic": "topic",
    "partition": "CAST(partition_ AS STRING)",
    "offset": "CAST(offset_ AS STRING)",
}

_COPY_HEADERS = tables.header_map(
    {
        **_ORIGIN,
        "version": tables.quote(__version__),
        "watermark": "IF(watermark_ms < 0, CAST(NULL AS STRING), CAST(watermark_ms AS STRING))",
    }
)


# Kafka's producers send no negative timestamp, and SQL has none after the year 9999.
_IS_TIME = f"kafka_ms BETWEEN {MIN_KAFKA_MS} AND {MAX_EVENT_TIME_MS}"
_KAFKA_TIME = f"TO_TIMESTAMP_LTZ(CASE WHEN {_IS_TIME} THEN kafka_ms ELSE 0 END, 3)"


def _unpack(kind: str, added: str, *further: str) -> str:
    """The records of packs of a kind: key, value, headers with those ``added``, and what else is asked for."""
    return f"""
        SELECT {", ".join(["k", "v", tables.headers_and(added), *further])}
        FROM admitted CROSS JOIN UNNEST(records) AS pack (k, v, headers, partition_, offset_, kafka_ms, event_ms)
        WHERE kind = '{kind}'"""


def _rejects(pipeline: Pipeline, decoded: Iterable[str]) -> str:
    """What could not be decoded, and what is too old to be told from a copy of something older."""
    job = f"{pipeline.name}.{JOB}"
    too_old = tables.reject_headers(
        job,
        **_ORIGIN,
        reason=tables.quote(reasons.BEYOND_HORIZON),
        timestamp="CAST(kafka_ms AS STRING)",
        detail="CONCAT('event time ', CAST(event_ms AS STRING), ', watermark ', CAST(watermark_ms AS STRING))",
    )
    return " UNION ALL ".join([*(rejects(view, job, _SAID) for view in decoded), _unpack(TOO_OLD, too_old)])


if __name__ == "__main__":
    main()
