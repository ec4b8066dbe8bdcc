"""Flink SQL as a peer."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.peers.on_flink import FlinkRun, running
from benchmarks.peers.peer import About, Peer
from benchmarks.peers.work import Work, to_json
from benchmarks.stage import Stage


@dataclass(frozen=True)
class FlinkSql(Peer):
    """The window aggregation of Flink SQL on the Flink of a stage."""

    stage: Stage

    @property
    def about(self) -> About:
        """What it is."""
        return About("Flink SQL", metadata.version("apache-flink"), "exactly-once")

    def start(self, work: Work) -> FlinkRun:
        """Start a run. Raises SurecountError where Flink refuses it."""
        return running(self.stage, self.stage.run(Path(__file__).with_name("program.py"), [to_json(work)]))
