"""All that is measured, by the names that ``--only`` takes."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.peers.bare.peer import Bare
from benchmarks.peers.bytewax.peer import Bytewax
from benchmarks.peers.flink_java.peer import FlinkJava
from benchmarks.peers.flink_sql.peer import FlinkSql
from benchmarks.peers.kafka_streams.peer import KafkaStreams
from benchmarks.peers.ours.peer import Ours
from benchmarks.peers.peer import Peer
from benchmarks.peers.pyflink_windows.peer import PyFlinkWindows
from benchmarks.peers.quix.peer import Quix
from benchmarks.peers.spark.peer import Spark
from benchmarks.stage import Stage

PEERS: dict[str, Callable[[Stage], Peer]] = {
    "surecount": Ours,
    "flink-sql": FlinkSql,
    "flink-java": FlinkJava,
    "kafka-streams": lambda _: KafkaStreams(),
    "spark": lambda _: Spark(),
    "bytewax": lambda _: Bytewax(),
    "quix": lambda _: Quix(),
    "pyflink-windows": PyFlinkWindows,
    "bare": lambda _: Bare(),
}
"""Each on a stage, whose broker has the topics, and whose Flink runs those that are Flink's jobs."""
