"""Spark as a peer."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.maven import package
from benchmarks.peers.peer import About, Peer
from benchmarks.peers.programs import Processes, environment, pinned
from benchmarks.peers.work import Work, to_json

_FOLDER = Path(__file__).parent


class Spark(Peer):
    """Runs in its own environment, in one JVM with a thread for each slot."""

    @property
    def about(self) -> About:
        """What it is."""
        return About(
            name="Spark Structured Streaming",
            version=pinned(_FOLDER, "pyspark"),
            guarantee="at-least-once",
            reason="Its Kafka sink has no transactions: what a batch wrote before it failed is written again. The "
            "watermark follows the highest event time of all partitions, and moves only between batches: a window is "
            "written by the batch after the one that read what ends it.",
        )

    def prepare(self) -> None:
        """Make its environment, and fetch its Kafka connector."""
        environment(_FOLDER)
        package(_FOLDER)

    def start(self, work: Work) -> Processes:
        """Start a run."""
        jars = sorted((_FOLDER / "target" / pinned(_FOLDER, "pyspark")).glob("*.jar"))
        command = [str(environment(_FOLDER)), "-m", "benchmarks.peers.spark.program", to_json(work)]
        return Processes({"spark": [*command, ",".join(map(str, jars))]}, work.folder)
