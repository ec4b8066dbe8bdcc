"""Flink SQL's own deduplication, as its documentation has it: the first row of each id by processing time.

https://nightlies.apache.org/flink/flink-docs-release-2.3/docs/dev/table/sql/queries/deduplication/
It forgets an id some processing time after it came, whatever the events' own times, and says nothing of
what it drops.
"""

from __future__ import annotations

import argparse

from pyflink.table import EnvironmentSettings, TableEnvironment


def main() -> None:
    """Copy --src to --clean, each id once."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--src", "--clean", "--bootstrap", "--remember"):
        parser.add_argument(name, required=True)
    given = parser.parse_args()
    t = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    t.get_config().set("execution.checkpointing.interval", "5 s")
    t.get_config().set("pipeline.name", "deduplicate_sql")
    t.get_config().set("parallelism.default", "1")
    t.get_config().set("table.exec.state.ttl", given.remember)
    columns = "id STRING, ts BIGINT, `key` STRING, amount BIGINT"
    kafka = f"'connector' = 'kafka', 'properties.bootstrap.servers' = '{given.bootstrap}', 'format' = 'json'"
    t.execute_sql(f"""
        CREATE TEMPORARY TABLE source ({columns}, arrived AS PROCTIME()) WITH ({kafka}, 'topic' = '{given.src}',
            'properties.group.id' = '{given.clean}', 'scan.startup.mode' = 'earliest-offset',
            'scan.bounded.mode' = 'latest-offset', 'json.ignore-parse-errors' = 'true')""")
    t.execute_sql(f"""
        CREATE TEMPORARY TABLE clean ({columns}) WITH ({kafka}, 'topic' = '{given.clean}',
            'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '{given.clean}',
            'properties.transaction.timeout.ms' = '900000', 'properties.linger.ms' = '20',
            'properties.batch.size' = '262144', 'properties.compression.type' = 'lz4')""")
    t.execute_sql("""
        INSERT INTO clean SELECT id, ts, `key`, amount FROM (
            SELECT *, ROW_NUMBER() OVER (PARTITION BY id ORDER BY arrived ASC) AS place FROM source
        ) WHERE place = 1""")


if __name__ == "__main__":
    main()
