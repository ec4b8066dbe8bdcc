"""Counts and sums by Spark Structured Streaming, at least once.

https://spark.apache.org/docs/latest/streaming/apis-on-dataframes-and-datasets.html (windows, watermarks, RocksDB) and
streaming/structured-streaming-kafka-integration.html. Run with the work as JSON and the connector's jars, with commas
between.
"""

from __future__ import annotations

import sys

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as f

from benchmarks.peers.work import Work, from_json, key_fields

_STATE = "spark.sql.streaming.stateStore"


def main(work: Work, jars: str) -> None:
    """Work until it is killed. Raises StreamingQueryException where the query fails."""
    spark = _session(work, jars)
    spark.sparkContext.setLogLevel("WARN")
    fields = key_fields(work)
    schema = "ts LONG, amount LONG, " + ", ".join(f"{field} STRING" for field in fields)
    events = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", work.bootstrap_servers)
        .option("subscribe", work.source)
        .option("startingOffsets", "earliest")
        .load()
        .select(f.from_json(f.col("value").cast("string"), schema).alias("event"), "timestamp")
        .select("event.*", "timestamp")
        .withColumn("time", f.timestamp_millis("ts") if work.event_time == "field" else f.col("timestamp"))
        .withWatermark("time", f"{work.out_of_orderness_ms} milliseconds")
    )
    group = ["key"]
    if len(fields) > 1:
        # One reading for all.
        each = [
            f.struct(f.lit(number).alias("aggregate"), f.col(field).alias("key")) for number, field in enumerate(fields)
        ]
        events = events.select("time", "amount", f.inline(f.array(*each)))
        group = ["aggregate", "key"]
    value: list[Column] = [
        *(f.col(name) for name in group),
        f.unix_millis("window.start").alias("start"),
        f.col("count"),
        f.col("sum"),
    ]
    query = (
        events.groupBy(f.window("time", f"{work.window_ms} milliseconds"), *group)
        .agg(f.count("*").alias("count"), f.sum("amount").alias("sum"))
        .select("key", f.to_json(f.struct(*value)).alias("value"))
        .writeStream.format("kafka")
        .option("kafka.bootstrap.servers", work.bootstrap_servers)
        .option("topic", work.results)
        .option("checkpointLocation", str(work.folder / "checkpoint"))
        .outputMode("append")
        .trigger(processingTime=f"{work.checkpoint_ms} milliseconds")
        .start()
    )
    query.awaitTermination()


def _session(work: Work, jars: str) -> SparkSession:
    temporary = work.folder / "tmp"
    temporary.mkdir()
    settings = {
        "spark.jars": jars,
        "spark.driver.memory": "2g",
        "spark.driver.extraJavaOptions": f"-Djava.io.tmpdir={temporary} -XX:-UsePerfData",
        "spark.local.dir": str(temporary),
        "spark.sql.warehouse.dir": str(temporary),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        # A task for each slot: 200, the default, are meant for a cluster, and each keeps a RocksDB.
        "spark.sql.shuffle.partitions": str(work.slots),
        "spark.sql.session.timeZone": "UTC",
        f"{_STATE}.providerClass": "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
        f"{_STATE}.rocksdb.changelogCheckpointing.enabled": "true",
    }
    builder = SparkSession.builder.master(f"local[{work.slots}]").appName("totals")
    for name, setting in settings.items():
        builder = builder.config(name, setting)
    return builder.getOrCreate()


if __name__ == "__main__":
    main(from_json(sys.argv[1]), sys.argv[2])
