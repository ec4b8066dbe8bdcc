"""The stretches of a job's input that were read with different configurations: an upgrade begins another."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from surecount.audit.pacing import Place, Run
from surecount.audit.reader import offset_of
from surecount.audit.retention import Moment
from surecount.audit.truth import AggregatePlan, plan

if TYPE_CHECKING:
    from surecount.config import Pipeline


@dataclass(frozen=True)
class Epoch:
    """What was read with one configuration: from the offset ``begin`` of each partition on, or all of one that it does
    not name."""

    pipeline: Pipeline
    begin: Mapping[Place, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LostAtStart:
    """Offsets from ``begin`` to before ``end`` that were deleted before a run could read them; whether it was started
    all the same, with that accepted."""

    run: int
    topic: str
    partition: int
    begin: int
    end: int
    accepted: bool

    def __str__(self) -> str:
        return f"offsets {self.begin} to {self.end - 1} were deleted unread before run {self.run} began"


@dataclass(frozen=True)
class Past:
    """What the run ledger knows of one job: its epochs, the oldest first; moments at which it is known how far it had
    read; of its last run the ids of the topics that it reads, and of those that it writes, by name; and what was lost
    before its runs began."""

    epochs: Sequence[Epoch] = ()
    moments: Sequence[Moment] = ()
    topic_ids: Mapping[str, str] = field(default_factory=dict)
    output_ids: Mapping[str, str] = field(default_factory=dict)
    unread: Sequence[LostAtStart] = ()


NO_PAST = Past()


class Epochs:
    """The epochs of one job, the oldest first."""

    def __init__(self, epochs: Sequence[Epoch]) -> None:
        self._epochs = epochs

    def at(self, place: Place, offset: int) -> int:
        """The number of the epoch in which a record was read."""
        numbers = range(len(self._epochs) - 1, 0, -1)
        return next((number for number in numbers if self._epochs[number].begin.get(place, 0) <= offset), 0)

    def split(self, run: Run) -> Iterator[tuple[int, Run]]:
        """The parts of a run that were read in one epoch each."""
        first = 0
        for number in range(self.at(run.place, offset_of(run.messages[0])), len(self._epochs)):
            end = len(run.messages)
            if number + 1 < len(self._epochs):
                begin = self._epochs[number + 1].begin.get(run.place, 0)
                end = bisect_left(run.messages, begin, lo=first, key=offset_of)
            if end > first:
                yield number, Run(run.place, run.messages[first:end])
            first = end


class Plans:
    """The aggregates of all epochs. One that gets another window is from then on another plan of that name."""

    def __init__(self, epochs: Sequence[Epoch]) -> None:
        found: dict[tuple[object, ...], int] = {}
        self.all: list[AggregatePlan] = []
        self.by_epoch: list[list[tuple[int, AggregatePlan]]] = []
        """For each epoch its plans, each with its index in ``all``."""
        for epoch in epochs:
            self.by_epoch.append([])
            for one in plan(epoch.pipeline.aggregate_spec()):
                identity = (one.name, one.window_ms, one.keys, one.sums)
                if identity not in found:
                    found[identity] = len(self.all)
                    self.all.append(one)
                self.by_epoch[-1].append((found[identity], one))

    def epochs_of(self, index: int) -> list[int]:
        """The numbers of the epochs in which records count for a plan."""
        return [number for number, plans in enumerate(self.by_epoch) if index in dict(plans)]

    def ended(self, index: int) -> bool:
        """Whether the last epoch has no aggregate of that name: nothing closes its windows any more."""
        return self.all[index].name not in {one.name for _, one in self.by_epoch[-1]}
