"""What was seen in a run of chaos: plain data that the judge judges and the report shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from surecount.audit import Report
from surecount.generator.answers import Answer

Output = Literal["results", "corrections", "rejects"]

HappenedKind = Literal["fault", "recovered", "restart", "checkpoint", "checkpoint failed", "note"]

Place = tuple[str, int]
"""A topic and a partition."""


@dataclass(frozen=True)
class Record:
    """A committed record of an output topic. ``at_ms`` is when a reader was given it, in ms since 1970; ``reason`` is
    that of a reject, from its headers."""

    output: Output
    place: Place
    offset: int
    at_ms: int
    value: bytes
    reason: str = ""


@dataclass(frozen=True)
class Expected:
    """What was sent.

    ``answers`` say what each window holds, over results and corrections. A window that ends by ``closed_ms``, in ms
    since 1970, must be whole. ``rejected`` counts the records to be rejected by reason. A window must not have
    a result before its end, and ``out_of_orderness_ms`` after it, have passed on the clock.
    """

    answers: tuple[Answer, ...]
    closed_ms: int
    rejected: dict[str, int]
    out_of_orderness_ms: int


@dataclass(frozen=True)
class Violation:
    """One thing that must not be. ``kind`` is a stable code."""

    kind: str
    detail: str


LOST = {"lost", "rejected"}
"""The kinds of violations that lost commits may be, and no others: results and rejects that are missing."""


@dataclass(frozen=True)
class Verdict:
    """What the judge found; the first violations of each kind are named, ``count`` is all of them."""

    violations: tuple[Violation, ...]
    count: int
    results: int
    corrections: int
    rejects: int

    @property
    def passed(self) -> bool:
        """Whether nothing is against it."""
        return self.count == 0


KILLS = ("kill -9", "SIGTERM")
"""What is told of a fault that is a kill begins so."""


@dataclass(frozen=True)
class Happened:
    """Something that happened ``at_s`` seconds after the load began; ``what`` is for people."""

    at_s: float
    kind: HappenedKind
    what: str


@dataclass(frozen=True)
class Account:
    """A whole run.

    ``command`` runs it again. ``sent`` and ``results`` are pairs of seconds since the load began, and records in that
    second: sent to the source, and seen in results. ``logs`` is the folder where those of all processes were kept,
    where it failed. ``books`` is None where the run did not come as far: ``failure`` says why. ``told`` is what the
    doctor said of lost commits, after each fault that may lose; None where there was no such fault.
    """

    pipeline: str
    seed: int
    command: str
    began: str
    seconds: float
    records: int
    happened: tuple[Happened, ...]
    sent: tuple[tuple[int, int], ...]
    results: tuple[tuple[int, int], ...]
    books: Report | None
    verdict: Verdict
    logs: str | None = None
    notes: tuple[str, ...] = field(default=())
    failure: str | None = None
    told: tuple[str, ...] | None = None

    @property
    def faults(self) -> int:
        """How many processes and other things were broken."""
        return sum(one.kind == "fault" for one in self.happened)

    @property
    def kills(self) -> int:
        """How many of them were processes that got SIGKILL or SIGTERM."""
        return sum(one.kind == "fault" and one.what.startswith(KILLS) for one in self.happened)

    @property
    def passed(self) -> bool:
        """Whether the books balance and the judge found nothing; or whether loss came of what may lose, and was told.

        Then the judge finds only what is lost, the books do not balance, and the doctor has told of lost commits.
        """
        if self.books is None:
            return False
        if self.books.balanced and self.verdict.passed:
            return True
        lost = {violation.kind for violation in self.verdict.violations}
        return bool(self.told and lost and lost <= LOST and not self.books.balanced)
