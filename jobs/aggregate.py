"""The aggregate job: count and sum the records of Kafka topics, exactly, per key and tumbling window.

Submitted by ``surecount submit``, or by hand:

    flink run -py jobs/aggregate.py -pyfs FOLDER --pipeline shop.toml
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pyflink.common import Configuration, Types
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.table import Schema, StreamTableEnvironment
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
from surecount import __version__
from surecount.config import Pipeline, load

JOB = "aggregate"


def main() -> None:
    """Build the job of a pipeline file and hand it to Flink."""
    arguments = _arguments()
    pipeline = load(arguments.pipeline)
    environment = StreamExecutionEnvironment.get_execution_environment(_configuration(pipeline))
    environment.set_parallelism(arguments.parallelism)
    table_environment = StreamTableEnvironment.create(environment)
    # Flink cuts generated code of more than 4,000 characters into methods that share fields: on the way of
    # every record, the watermark's would be. Set here, since its generator reads no other configuration.
    table_environment.get_config().set("table.generated-code.max-length", "32000")
    build(table_environment, pipeline, bounded=arguments.bounded)
    environment.execute(arguments.name or f"{pipeline.name}.aggregate")


def build(t: StreamTableEnvironment, pipeline: Pipeline, *, bounded: bool) -> None:
    """Source → decode and combine → rejects, and by bucket → windows → results and corrections."""
    topics = pipeline.topics
    t.execute_sql(tables.source(pipeline, JOB, pipeline.aggregated_topics, bounded=bounded))
    t.execute_sql(tables.sink(pipeline, JOB, "rejects", topics.rejects, key_value_type="BYTES", metadata=["headers"]))
    t.execute_sql(tables.sink(pipeline, JOB, "results", topics.results, key_value_type="STRING"))
    t.execute_sql(tables.sink(pipeline, JOB, "corrections", topics.corrections, key_value_type="STRING"))

    decoded = _decode(t, pipeline)
    # Without SOURCE_WATERMARK() a table made of a DataStream holds watermarks back, and no window closes.
    with_watermarks = Schema.new_builder().watermark("event_time", "SOURCE_WATERMARK()").build()
    t.create_temporary_view("decoded", t.from_data_stream(decoded, with_watermarks))
    merged = _windows(t, pipeline)
    t.create_temporary_view("merged", t.from_data_stream(merged))

    outputs = t.create_statement_set()
    outputs.add_insert("rejects", t.sql_query(_REJECTS.format(job=f"{pipeline.name}.aggregate")))
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
        pieces.flat_map(SplitByBucket(), SPLIT)
        .uid("split-by-bucket")
        .key_by(lambda row: row[0], Types.INT())
        .process(Windows(pipeline.aggregate_spec()), MERGED)
        .name("windows")
        .uid("windows")
        .set_max_parallelism(pipeline.state.max_parallelism)
    )


_BATCHES_IN_FLIGHT = 4
"""Batches that the JVM may send before it waits for all of their answers.

It reads on while Python works on those before the last. The records wait in the JVM's heap, so this is also
a matter of memory; ``performance.batch_time`` bounds it where records are large.
"""

_UNPACK = """
    SELECT head || SPLIT_INDEX(line, CHR(9), 0) || key_tail,
           head || SPLIT_INDEX(line, CHR(9), 0) || middle || SPLIT_INDEX(line, CHR(9), 1) || tail
    FROM merged CROSS JOIN UNNEST(SPLIT(`lines`, CHR(10))) AS packed (line)
    WHERE kind = '{kind}'"""

_REJECTS = f"""
    SELECT k, v, MAP_UNION(headers, MAP[
        'surecount.topic', ENCODE(topic, 'UTF-8'),
        'surecount.partition', ENCODE(CAST(`partition` AS STRING), 'UTF-8'),
        'surecount.offset', ENCODE(CAST(`offset` AS STRING), 'UTF-8'),
        'surecount.timestamp', ENCODE(SPLIT_INDEX(rejected, CHR(9), 1), 'UTF-8'),
        'surecount.reason', ENCODE(SPLIT_INDEX(rejected, CHR(9), 0), 'UTF-8'),
        'surecount.detail', ENCODE(SPLIT_INDEX(rejected, CHR(9), 2), 'UTF-8'),
        'surecount.job', ENCODE('{{job}}', 'UTF-8'),
        'surecount.version', ENCODE('{__version__}', 'UTF-8')])
    FROM decoded WHERE rejected IS NOT NULL"""


def _configuration(pipeline: Pipeline) -> Configuration:
    """What the job needs of Flink beyond the cluster's own ``config.yaml``."""
    settings = {
        "execution.checkpointing.interval": f"{pipeline.checkpoint.interval} ms",
        "execution.checkpointing.timeout": f"{pipeline.checkpoint.timeout} ms",
        "pipeline.max-parallelism": str(pipeline.state.max_parallelism),
        "pipeline.object-reuse": "true",
        "python.execution-mode": "process",
        "python.fn-execution.arrow.batch.size": str(pipeline.performance.batch_records),
        "python.fn-execution.bundle.size": str(_BATCHES_IN_FLIGHT * pipeline.performance.batch_records),
        "python.fn-execution.bundle.time": str(pipeline.performance.batch_time),
        "table.exec.uid.generation": "ALWAYS",
        "table.local-time-zone": "UTC",
    }
    configuration = Configuration()
    for name, value in settings.items():
        configuration.set_string(name, value)
    return configuration


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipeline", type=Path, required=True)
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--bounded", action="store_true", help="read what is there, close all windows, end")
    parser.add_argument("--name", help="the job's name; the default is PIPELINE.aggregate")
    return parser.parse_args()


if __name__ == "__main__":
    main()
