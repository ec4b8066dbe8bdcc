"""The aggregate job: count and sum the records of Kafka topics, exactly, per key and tumbling window.

Submitted by ``surecount submit``, or by hand:

    flink run -py jobs/aggregate.py -pyfs FOLDER --pipeline shop.toml
"""

from __future__ import annotations

from argparse import Namespace

from pyflink.common import Types
from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment
from pyflink.table.udf import udf

from jobs import tables
from jobs.operators import (
    CORRECTION,
    DECODED,
    MERGED,
    RESULT,
    SPLIT,
    DecodeAndCombine,
    SplitByBucket,
    Windows,
)
from jobs.running import reading, run, with_watermarks
from surecount.config import Pipeline

JOB = "aggregate"


def main() -> None:
    """Build the job of a pipeline file and hand it to Flink."""
    run(JOB, __doc__, build)


def build(t: StreamTableEnvironment, pipeline: Pipeline, arguments: Namespace) -> None:
    """Source → decode and combine → rejects, and by bucket → windows → results and corrections."""
    topics = pipeline.topics
    t.execute_sql(tables.source(pipeline, JOB, pipeline.aggregated_topics, **reading(arguments)))
    t.execute_sql(tables.sink(pipeline, JOB, "rejects", topics.rejects, key_value_type="BYTES", metadata=["headers"]))
    t.execute_sql(tables.sink(pipeline, JOB, "results", topics.results, key_value_type="STRING"))
    t.execute_sql(tables.sink(pipeline, JOB, "corrections", topics.corrections, key_value_type="STRING"))

    decoded = _decode(t, pipeline)
    t.create_temporary_view("decoded", with_watermarks(t, decoded))
    merged = _windows(t, pipeline)
    t.create_temporary_view("merged", t.from_data_stream(merged))

    outputs = t.create_statement_set()
    outputs.add_insert("rejects", t.sql_query(_rejects(pipeline)))
    outputs.add_insert("results", t.sql_query(_UNPACK.format(kind=RESULT)))
    outputs.add_insert("corrections", t.sql_query(_UNPACK.format(kind=CORRECTION)))
    outputs.attach_as_datastream()


def _decode(t: StreamTableEnvironment, pipeline: Pipeline) -> DataStream:
    """One row for each batch's partials, and one for each rejected record."""
    decode = udf(DecodeAndCombine(pipeline.aggregate_spec()), result_type=DECODED, func_type="pandas")
    t.create_temporary_function("decode_and_combine", decode)
    # What stands here is copied for every record that waits for Python; a constant is not.
    topics = pipeline.aggregated_topics
    topic = "topic" if len(topics) > 1 else tables.quote(topics[0])
    decoded = t.sql_query(f"""
        SELECT k, v, headers, {topic} AS topic, `partition`, `offset`,
               decode_and_combine(v, kafka_time) AS d
        FROM source""")
    t.create_temporary_view("with_decoded", decoded)
    # As a DataStream once: two queries on the view would read Kafka and decode twice.
    return t.to_data_stream(
        t.sql_query("""
        SELECT IF(d.rejected IS NULL, CAST(NULL AS BYTES), k) AS k,
               IF(d.rejected IS NULL, CAST(NULL AS BYTES), v) AS v,
               headers, topic, `partition`, `offset`, CAST(NULL AS TIMESTAMP_LTZ(3)) AS event_time,
               d.pieces AS pieces, d.rejected AS rejected
        FROM with_decoded
        WHERE d.pieces IS NOT NULL OR d.rejected IS NOT NULL""")
    )


def _windows(t: StreamTableEnvironment, pipeline: Pipeline) -> DataStream:
    """Packs of results and corrections."""
    pieces = t.to_data_stream(t.sql_query("SELECT pieces FROM decoded WHERE pieces IS NOT NULL"))
    return (
        pieces.flat_map(SplitByBucket(wakes=pipeline.state.buckets), SPLIT)
        .uid("split-by-bucket")
        .key_by(lambda row: row[0], Types.INT())
        .process(Windows(pipeline.aggregate_spec()), MERGED)
        .name("windows")
        .uid("windows")
        .set_max_parallelism(pipeline.state.max_parallelism)
    )


def _rejects(pipeline: Pipeline) -> str:
    headers = tables.reject_headers(
        f"{pipeline.name}.{JOB}",
        topic="topic",
        partition="CAST(`partition` AS STRING)",
        offset="CAST(`offset` AS STRING)",
        reason="SPLIT_INDEX(rejected, CHR(9), 0)",
        timestamp="SPLIT_INDEX(rejected, CHR(9), 1)",
        detail="SPLIT_INDEX(rejected, CHR(9), 2)",
    )
    return f"SELECT k, v, MAP_UNION(headers, {headers}) FROM decoded WHERE rejected IS NOT NULL"


_UNPACK = """
    SELECT head || SPLIT_INDEX(line, CHR(9), 0) || key_tail,
           head || SPLIT_INDEX(line, CHR(9), 0) || middle || SPLIT_INDEX(line, CHR(9), 1) || tail
    FROM merged CROSS JOIN UNNEST(SPLIT(`lines`, CHR(10))) AS packed (line)
    WHERE kind = '{kind}'"""

if __name__ == "__main__":
    main()
