"""Quix Streams, a library of Python's, in a process for each slot."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka.admin import AdminClient

from benchmarks.peers.given import to_json
from benchmarks.peers.peer import About, Work
from benchmarks.peers.programs import Processes, environment, pinned

_FOLDER = Path(__file__).parent


class Quix:
    """Runs in its own environment. ``closing`` says whose events end a window: those of its ``key``, or all of its
    ``partition`` of the repartition topic."""

    def __init__(self, closing: str = "key") -> None:
        self._closing = closing

    @property
    def sentinel_per_key(self) -> bool:
        return self._closing == "key"

    @property
    def about(self) -> About:
        """What it is."""
        return About(name="Quix Streams", version=pinned(_FOLDER, "quixstreams"), guarantee="exactly-once", reason="")

    def prepare(self) -> None:
        """Make its environment."""
        environment(_FOLDER)

    def start(self, work: Work) -> Processes:
        """Start a run."""
        python = str(environment(_FOLDER))
        arguments = ["-m", "benchmarks.peers.quix.program", to_json(work)]
        commands = {f"quix-{n}": [python, *arguments, str(n), self._closing] for n in range(work.slots)}
        return Processes(commands, work.folder)

    def topics(self, work: Work) -> list[str]:
        """What a run leaves on the broker beside its results."""
        admin = AdminClient({"bootstrap.servers": work.bootstrap_servers})
        prefixes = f"repartition__{work.results}--", f"changelog__{work.results}--"
        return [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefixes)]
