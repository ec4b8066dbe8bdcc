"""A consumer, orjson and a dict in one process: the ceiling of plain Python."""

from __future__ import annotations

import sys

import confluent_kafka

from benchmarks.peers.peer import About, Peer
from benchmarks.peers.programs import Processes
from benchmarks.peers.work import Work, to_json


class Bare(Peer):
    """Runs in surecount's own environment."""

    @property
    def about(self) -> About:
        """What it is."""
        return About(
            name="bare consumer",
            version=f"confluent-kafka {confluent_kafka.__version__}",
            guarantee="none",
            reason="It keeps no state and no place: a new start counts from the beginning and writes all again.",
            supports=frozenset({"event_time", "aggregates"}),
        )

    def start(self, work: Work) -> Processes:
        """Start a run."""
        command = [sys.executable, "-m", "benchmarks.peers.bare.program", to_json(work)]
        return Processes({"bare": command}, work.folder)
