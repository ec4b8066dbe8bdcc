"""PyFlink's DataStream API as a peer."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.peers.given import to_json
from benchmarks.peers.on_flink import FlinkRun, running
from benchmarks.peers.peer import About, Work
from benchmarks.peers.results import parse_result
from benchmarks.stage import Stage


@dataclass(frozen=True)
class PyFlinkWindows:
    """Windows of PyFlink's DataStream API with functions in Python, on the Flink of a stage."""

    stage: Stage
    parse = staticmethod(parse_result)

    @property
    def about(self) -> About:
        """What it is."""
        return About("PyFlink windows", metadata.version("apache-flink"), "exactly-once")

    def prepare(self) -> None:
        """Nothing: the stage's Flink has all that it needs."""

    def start(self, work: Work) -> FlinkRun:
        """Start a run. Raises SurecountError where Flink refuses it."""
        return running(self.stage, self.stage.run(Path(__file__).with_name("program.py"), [to_json(work)]))
