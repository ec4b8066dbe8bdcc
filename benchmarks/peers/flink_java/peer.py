"""Flink's DataStream API in Java as a peer."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.peers.maven import package
from benchmarks.peers.on_flink import FlinkRun, running, submit_jar
from benchmarks.peers.peer import About, Peer
from benchmarks.peers.work import Work, to_json
from benchmarks.stage import Stage

_PROJECT = Path(__file__).parent


@dataclass(frozen=True)
class FlinkJava(Peer):
    """A Java program with windows of the DataStream API, on the Flink of a stage."""

    stage: Stage

    @property
    def about(self) -> About:
        """What it is."""
        return About("Flink Java", metadata.version("apache-flink"), "exactly-once")

    def prepare(self) -> None:
        """Build it."""
        package(_PROJECT)

    def start(self, work: Work) -> FlinkRun:
        """Start a run. Raises SurecountError where Flink refuses it."""
        jar = _PROJECT / "target" / "flink-java.jar"
        return running(self.stage, submit_jar(self.stage, jar, "peer.Windows", [to_json(work)]))
