"""Bytewax, a dataflow engine for Python, in a process for each slot."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.peer import About, Peer
from benchmarks.peers.programs import Processes, environment, pinned, run
from benchmarks.peers.work import Work, to_json
from surecount.local import ports

_FOLDER = Path(__file__).parent


class Bytewax(Peer):
    """Runs in its own environment."""

    sentinel_per_key = True
    """A key's windows end by that key's own events, or else up to a window and twice the out-of-orderness later by the
    clock."""

    @property
    def about(self) -> About:
        """What it is."""
        return About(
            name="Bytewax",
            version=pinned(_FOLDER, "bytewax"),
            guarantee="at-least-once",
            reason="Its Kafka sink has no transactions: after a failure, what followed the last snapshot is written "
            "again. Time is each key's own, by its events and by the clock since its latest: a pause longer than what "
            "is left of the out-of-orderness makes events late, and so do partitions that are read unevenly where a "
            "key stands in several; late events are dropped, or where the key has no open window left, written as the "
            "window's second result.",
        )

    def prepare(self) -> None:
        """Make its environment."""
        environment(_FOLDER)

    def start(self, work: Work) -> Processes:
        """Start a run."""
        python = str(environment(_FOLDER))
        recovery = work.folder / "recovery"
        recovery.mkdir()
        run([python, "-m", "bytewax.recovery", str(recovery), str(work.slots)])
        command = [
            python, "-m", "bytewax.run", f"benchmarks.peers.bytewax.program:totals({to_json(work)!r})",
            "--recovery-directory", str(recovery), "--backup-interval", "0",
            "--snapshot-interval", str(max(1, round(work.checkpoint_ms / 1_000))),
        ]  # fmt: skip
        taken: set[int] = set()
        addresses = ";".join(f"{ports.HOST}:{ports.pick(taken)}" for _ in range(work.slots))
        commands = {
            # Processes, not threads, as its guide to performance has it: threads would share one lock of Python's.
            f"bytewax-{n}": [*command, "--process-id", str(n), "--addresses", addresses]
            for n in range(work.slots)
        }
        return Processes(commands, work.folder)
