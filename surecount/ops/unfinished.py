"""What has become of the ledger's newest run, of which nothing runs now: rules over facts, without clients."""

from __future__ import annotations

from enum import Enum

from surecount.errors import SurecountError
from surecount.ops.ledger import Run
from surecount.ops.restore import LATEST


class Fate(Enum):
    """What has become of a run: it is over and the next one may begin; it never came to Flink, as far as can be seen,
    and has to be submitted first; or its input had an end, and it has come there, or may have."""

    OVER = 1
    UNFINISHED = 2
    ENDED = 3


def fate_of(run: Run, *, has_snapshots: bool, state: str | None) -> Fate:
    """The fate of a run that does not run now. ``state`` is that in which Flink remembers its job, None where it does
    not.

    One that left no trace may be with a command that was killed before it reached Flink, or that is slow and will
    reach it yet. Another run beside it could then run twice. So its own id is submitted: Flink takes that once.
    """
    if run.bounded and state == "FINISHED":
        return Fate.ENDED
    if run.refused or run.stopped_with or has_snapshots or state is not None:
        return Fate.OVER
    # A bounded run leaves no snapshot behind; one from nothing is told by what it wrote.
    return Fate.ENDED if run.bounded and run.snapshot else Fate.UNFINISHED


def check_same(run: Run, name: str, snapshot: str | None, parallelism: int, *, bounded: bool) -> None:
    """Raise SurecountError where what is asked for is not what an unfinished run was written down with. ``snapshot`` is
    a path as ``uri_of`` writes it, LATEST, or None for nothing."""
    differs = []
    if (snapshot is None and run.snapshot is not None) or snapshot not in (None, LATEST, run.snapshot):
        differs.append(f"begins from {run.snapshot or 'nothing'}")
    if parallelism != run.parallelism:
        differs.append(f"has parallelism {run.parallelism}")
    if bounded != run.bounded:
        differs.append("is bounded" if run.bounded else "is not bounded")
    if differs:
        command = "submit --bounded" if run.bounded else "start"
        raise SurecountError(
            f"run {run.number} of {name} was written down and never came to Flink; it {', '.join(differs)}",
            f"`surecount {command} PIPELINE --job {name.rpartition('.')[2]} --parallelism {run.parallelism}` brings it "
            "there; then stop it, and start it as you want it",
            exit_code=1,
        )


def check_not_ended(run: Run, name: str, fate: Fate) -> None:
    """Raise SurecountError where a bounded run has come to its end, or may have."""
    if fate is Fate.ENDED:
        raise SurecountError(
            f"run {run.number} of {name} was bounded, and has come to its end or may have: what came after "
            f"{run.snapshot or 'its beginning'} would be written again",
            "`surecount audit PIPELINE` tells whether all is counted; give the pipeline another name to count anew",
            exit_code=1,
        )
