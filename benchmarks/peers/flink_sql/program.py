"""Window aggregation as Flink SQL's documentation has it: TUMBLE, a table-valued function, and GROUP BY.

https://nightlies.apache.org/flink/flink-docs-release-2.3/docs/dev/table/sql/queries/window-agg/

Watermarks are pushed down into the Kafka source, which makes them for each partition; so partitions may be read
unevenly.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pyflink.table import EnvironmentSettings, TableEnvironment


def main(work: dict[str, Any]) -> None:
    """Submit the job of a run; ``work`` are the fields of benchmarks.peers.peer.Work."""
    t = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in settings(work).items():
        t.get_config().set(name, value)
    t.execute_sql(source(work))
    t.execute_sql(sink(work))
    # One statement, so that the source is read once and there is one sink.
    t.execute_sql("INSERT INTO results " + " UNION ALL ".join(select(work, i) for i in range(work["aggregates"])))


def settings(work: dict[str, Any]) -> dict[str, str]:
    """Flink's settings of this job; the rest are the cluster's."""
    return {
        "execution.checkpointing.interval": f"{work['checkpoint_ms']} ms",
        "execution.checkpointing.dir": (Path(work["folder"]) / "checkpoints").as_uri(),
        "parallelism.default": str(work["slots"]),
        "pipeline.name": work["results"],
        "table.local-time-zone": "UTC",
    }


def source(work: dict[str, Any]) -> str:
    """CREATE TABLE ``events``."""
    columns = {
        "field": "ts BIGINT, event_time AS TO_TIMESTAMP_LTZ(ts, 3)",
        "kafka": "event_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL",
    }
    keys = ", ".join(f"`{key(i)}` STRING" for i in range(work["aggregates"]))
    return f"""
        CREATE TEMPORARY TABLE events ({keys}, amount BIGINT, {columns[work["event_time"]]},
            WATERMARK FOR event_time AS event_time - {interval(work["out_of_orderness_ms"])}) WITH (
            {kafka(work, work["source"])},
            'properties.group.id' = '{work["results"]}',
            'properties.isolation.level' = 'read_committed',
            'scan.startup.mode' = 'earliest-offset')"""


def sink(work: dict[str, Any]) -> str:
    """CREATE TABLE ``results``."""
    number = "`aggregate` INT, " if work["aggregates"] > 1 else ""
    return f"""
        CREATE TEMPORARY TABLE results ({number}`key` STRING, `start` BIGINT, `count` BIGINT, `sum` BIGINT) WITH (
            {kafka(work, work["results"])},
            'sink.delivery-guarantee' = 'exactly-once',
            'sink.transactional-id-prefix' = '{work["results"]}',
            'properties.transaction.timeout.ms' = '900000')"""  # what a broker grants; the sink's own default is 1 h


def select(work: dict[str, Any], i: int) -> str:
    """The query of one aggregate."""
    number = f"{i}, " if work["aggregates"] > 1 else ""
    return f"""
        SELECT {number}`{key(i)}`, {MILLISECONDS}, COUNT(*), SUM(amount)
        FROM TUMBLE(TABLE events, DESCRIPTOR(event_time), {interval(work["window_ms"])})
        GROUP BY `{key(i)}`, window_start, window_end"""


# SQL has no function of the milliseconds since 1970.
MILLISECONDS = """
    CAST(TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', window_start) AS BIGINT) * 1000
    + EXTRACT(MILLISECOND FROM window_start)"""


def key(i: int) -> str:
    """The field by which an aggregate groups."""
    return f"key_{i}" if i else "key"


def interval(ms: int) -> str:
    """An interval literal; days, as seconds alone hold too few digits."""
    days, rest = divmod(ms, 86_400_000)
    hours, rest = divmod(rest, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    seconds, millis = divmod(rest, 1000)
    return f"INTERVAL '{days} {hours:02d}:{minutes:02d}:{seconds:02d}.{millis:03d}' DAY(3) TO SECOND(3)"


def kafka(work: dict[str, Any], topic: str) -> str:
    """What both tables have in common."""
    return f"""
            'connector' = 'kafka', 'format' = 'json', 'topic' = '{topic}',
            'properties.bootstrap.servers' = '{work["bootstrap_servers"]}'"""


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
