"""Quix Streams, a library of Python's, in a process for each slot."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka.admin import AdminClient

from benchmarks.peers.peer import About, Peer
from benchmarks.peers.programs import Processes, environment, pinned
from benchmarks.peers.work import Work, to_json

_FOLDER = Path(__file__).parent


class Quix(Peer):
    """Runs in its own environment.

    A key's window ends by that key's own events, as is its default (``closing_strategy``). By partition instead, no
    window waits for its key; but nothing aligns source partitions in a repartition topic, and what is behind there by
    more than the grace period is dropped.
    """

    sentinel_per_key = True

    @property
    def about(self) -> About:
        """What it is."""
        return About(
            name="Quix Streams",
            version=pinned(_FOLDER, "quixstreams"),
            guarantee="exactly-once",
            reason="A window ends only when its own key has a later event (closing_strategy, by default). Events of a "
            "key that stand in several partitions are dropped as late where these are read unevenly: nothing aligns "
            "them.",
        )

    def prepare(self) -> None:
        """Make its environment."""
        environment(_FOLDER)

    def start(self, work: Work) -> Processes:
        """Start a run."""
        python = str(environment(_FOLDER))
        arguments = ["-m", "benchmarks.peers.quix.program", to_json(work)]
        commands = {f"quix-{n}": [python, *arguments, str(n)] for n in range(work.slots)}
        return Processes(commands, work.folder)

    def leftovers(self, work: Work) -> list[str]:
        """What a run leaves on the broker beside its results."""
        admin = AdminClient({"bootstrap.servers": work.bootstrap_servers})
        prefixes = f"repartition__{work.results}--", f"changelog__{work.results}--"
        return [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefixes)]
