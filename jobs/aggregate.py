"""The aggregate job: count and sum the records of Kafka topics, exactly, per key and tumbling window.

Submitted by ``surecount submit``, or by hand:

    flink run -py jobs/aggregate.py -pyfs FOLDER --pipeline shop.toml
"""

from __future__ import annotations

from argparse import Namespace

from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment

from jobs import tables
from jobs.decoding import by_bucket, decode, rejects
from jobs.operators import (
    CORRECTION,
    MERGED,
    RESULT,
    DecodeAndCombine,
    Windows,
)
from jobs.running import reading, run
from surecount.config import Pipeline
from udfs.spec import Inlet

JOB = "aggregate"
_UIDS = {"source": "1_kafka", "rejects": "10_sink", "results": "15_sink", "corrections": "19_sink"}
_KEYED_SETTINGS = {"python.fn-execution.bundle.time": "100"}
"""Decoding fills its batches within ``performance.batch_time``; what it answers has not to wait as long again.

Flink looks at intervals of this time whether a bundle has lasted it, so one may last twice as long.
"""
_SAID = ("topic", "partition", "offset", "reason", "timestamp", "detail")


def main() -> None:
    """Build the job of a pipeline file and hand it to Flink."""
    run(JOB, __doc__, build, _UIDS, keyed_settings=_KEYED_SETTINGS)


def build(t: StreamTableEnvironment, pipeline: Pipeline, arguments: Namespace) -> None:
    """Source → decode and combine → rejects, and by bucket → windows → results and corrections."""
    topics = pipeline.topics
    t.execute_sql(tables.source(pipeline, JOB, pipeline.aggregated_topics, **reading(arguments)))
    t.execute_sql(tables.sink(pipeline, JOB, "rejects", topics.rejects, key_value_type="BYTES", metadata=["headers"]))
    t.execute_sql(tables.sink(pipeline, JOB, "results", topics.results, key_value_type="STRING"))
    t.execute_sql(tables.sink(pipeline, JOB, "corrections", topics.corrections, key_value_type="STRING"))

    inlets = tuple(Inlet("", topic) for topic in pipeline.aggregated_topics)
    decoded = decode(t, DecodeAndCombine(pipeline.aggregate_spec(), inlets), pipeline.aggregated_topics)
    merged = _windows(t, pipeline, decoded)
    t.create_temporary_view("merged", t.from_data_stream(merged))

    outputs = t.create_statement_set()
    outputs.add_insert("rejects", t.sql_query(rejects(decoded, f"{pipeline.name}.{JOB}", _SAID)))
    outputs.add_insert("results", t.sql_query(_UNPACK.format(kind=RESULT)))
    outputs.add_insert("corrections", t.sql_query(_UNPACK.format(kind=CORRECTION)))
    outputs.attach_as_datastream()


def _windows(t: StreamTableEnvironment, pipeline: Pipeline, decoded: str) -> DataStream:
    """Packs of results and corrections."""
    return (
        by_bucket(t, decoded)
        .process(Windows(pipeline.aggregate_spec(), pipeline.watermark_patience), MERGED)
        .name("windows")
        .uid("windows")
        .set_max_parallelism(pipeline.state.max_parallelism)
    )


_UNPACK = """
    SELECT head || SPLIT_INDEX(line, CHR(9), 0) || key_tail,
           head || SPLIT_INDEX(line, CHR(9), 0) || middle || SPLIT_INDEX(line, CHR(9), 1) || tail
    FROM merged CROSS JOIN UNNEST(SPLIT(`lines`, CHR(10))) AS packed (line)
    WHERE kind = '{kind}'"""

if __name__ == "__main__":
    main()
