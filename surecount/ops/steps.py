"""The steps of commands that change what runs: what a command is about to do when it is killed, and what its status
line says. ``docs/life.md`` says how things stand after each of them."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

OnStep = Callable[[str], None]
"""Hears a step with the name of what it is done to, before it is done."""


class Step(StrEnum):
    """A step, as it is told to people."""

    SAVEPOINT = "taking a savepoint of"
    STOPPING = "stopping"
    STOPPED = "noting the savepoint of"
    CHECKING = "checking"
    RECORDING = "writing down the run of"
    SUBMITTING = "submitting"
    AWAITING = "waiting until it runs:"
    CONFIRMING = "making sure that nothing else runs as"
    WATCHING = "waiting for two checkpoints of"
    GOING_BACK = "going back with"
    TOPICS = "making topics of"
    MARKS = "looking for the records before the backup of"
    GROUPS = "setting the offsets of groups of"
    COPYING = "copying savepoints of"
    LEDGER = "copying the run ledger of"

    def of(self, name: str) -> str:
        """The step as a line."""
        return f"{self} {name}"


def unheard(_: str) -> None:
    """Nobody listens."""
