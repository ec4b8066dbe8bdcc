"""Checks, and what they find: a rule looks at facts, and says what it saw and whether that is right."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from surecount.doctor.facts import Facts, UnseenError

State = Literal["ok", "unknown", "warn", "fail"]
_ORDER: tuple[State, ...] = ("ok", "unknown", "warn", "fail")


@dataclass(frozen=True)
class Finding:
    """What was seen of one thing. ``mend`` says what to do, where that is more than its check's own advice."""

    state: State
    seen: str
    mend: str = ""


Rule = Callable[[Facts], Iterable[Finding]]


@dataclass(frozen=True)
class Check:
    """One thing to look at, why it matters, and how to mend it. Those ``before_start`` need no running job."""

    id: str
    looks_at: str
    why: str
    mend: str
    rule: Rule
    before_start: bool = False


@dataclass(frozen=True)
class Row:
    """A check with its findings, of which the worst is the row's state."""

    check: Check
    findings: tuple[Finding, ...]

    @property
    def state(self) -> State:
        return max((finding.state for finding in self.findings), key=_ORDER.index)

    @property
    def telling(self) -> tuple[Finding, ...]:
        """All findings that are not ok; where all are, all."""
        return tuple(finding for finding in self.findings if finding.state != "ok") or self.findings

    @property
    def mends(self) -> list[str]:
        """How to mend what is not ok."""
        return list(dict.fromkeys(f.mend or self.check.mend for f in self.findings if f.state in ("warn", "fail")))


def examine(checks: Iterable[Check], facts: Facts) -> list[Row]:
    """A row for each check. What a rule could not see is a finding of its own, never passed over."""
    return [Row(check, _findings(check.rule, facts)) for check in checks]


def _findings(rule: Rule, facts: Facts) -> tuple[Finding, ...]:
    found: list[Finding] = []
    try:
        for finding in rule(facts):
            found.append(finding)  # noqa: PERF402  # those before the one that could not be made stay
    except UnseenError as error:
        found.append(Finding("unknown", str(error)))
    return tuple(found) or (Finding("unknown", "there was nothing to look at"),)
