"""The relay job of a pathway: its raw topics, copied from its own Kafka cluster to the pipeline's.

A job of its own for each such pathway, so that a cluster that is away is no one else's trouble.
Submitted by ``surecount submit``, or by hand:

    flink run -py jobs/relay.py -pyfs FOLDER --pipeline shop.toml --pathway west
"""

from __future__ import annotations

from argparse import Namespace

from pyflink.table import StreamTableEnvironment

from jobs import tables
from jobs.running import reading, run
from surecount.config import Pipeline
from udfs.headers import RELAYED_HEADER

JOB = "relay"
_UIDS = {"source": "1_kafka", "copy": "3_sink"}


_SETTINGS = {
    # What was copied is read at a checkpoint; there is no state to speak of, so they can be frequent.
    "execution.checkpointing.interval": "2 s",
    # A cluster that is away for hours is what relays are for.
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": str((1 << 31) - 1),
}


def main() -> None:
    """Build the job of a pipeline file and hand it to Flink."""
    run(JOB, __doc__, build, _UIDS, _SETTINGS)


def build(t: StreamTableEnvironment, pipeline: Pipeline, arguments: Namespace) -> None:
    """Source → sink, with the origin written down."""
    pathway = next(pathway for pathway in pipeline.pathways if pathway.name == arguments.pathway)
    job = pipeline.relay_job(pathway)
    copy = pipeline.relay_topic(pathway)
    t.execute_sql(tables.remote_source(pipeline, job, pathway, **reading(arguments)))
    metadata = ["headers", "kafka_time"]
    t.execute_sql(tables.sink(pipeline, job, "copy", copy, key_value_type="BYTES", metadata=metadata))
    parts = ["CAST(`partition` AS STRING)", "CAST(`offset` AS STRING)", "CAST(UNIX_TIMESTAMP() AS STRING)", "topic"]
    origin = f"MAP[{tables.quote(RELAYED_HEADER)}, ENCODE(CONCAT_WS(' ', {', '.join(parts)}), 'UTF-8')]"
    outputs = t.create_statement_set()
    # Kafka's producers send no negative timestamp.
    kafka_time = f"CASE WHEN {tables.IS_TIME} THEN kafka_time ELSE {tables.as_time(0)} END"
    outputs.add_insert("copy", t.sql_query(f"SELECT k, v, {tables.headers_and(origin)}, {kafka_time} FROM source"))
    outputs.attach_as_datastream()


if __name__ == "__main__":
    main()
