"""Quix Streams, a library of Python's, in a process for each slot."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka.admin import AdminClient

from benchmarks.peers.given import to_json
from benchmarks.peers.peer import About, Work
from benchmarks.peers.programs import Processes, environment, pinned

_FOLDER = Path(__file__).parent


class Quix:
    """Runs in its own environment. ``closing`` says whose events end a window (``closing_strategy``): those of its
    ``key``, or all of its ``partition`` of the repartition topic.

    By partition, no key's window waits for that key. But source partitions stand in a repartition topic as unevenly as
    they were read, nothing aligns them, and what is behind by more than the grace period is dropped.
    """

    def __init__(self, closing: str = "key") -> None:
        self._closing = closing

    @property
    def sentinel_per_key(self) -> bool:
        """Whether a key's windows end by that key's own events only."""
        return self._closing == "key"

    @property
    def about(self) -> About:
        """What it is."""
        return About(
            name="Quix Streams",
            version=pinned(_FOLDER, "quixstreams"),
            guarantee="exactly-once",
            reason="A window ends only when its own key has a later event (closing_strategy, by default). Events of a "
            "key that stand in several partitions are dropped as late where these are read unevenly: nothing aligns "
            "them, and small fetches only bound that.",
        )

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
