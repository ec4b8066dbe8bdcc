"""Records that a job has given up, by a bug of ours or an exception of a user's function: rejected, whatever the audit
makes of them itself, and named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from confluent_kafka import Message

from surecount.audit.contents import compared, compared_key, digest
from surecount.audit.pacing import Run
from surecount.audit.reader import offset_of
from surecount.audit.rejects import Reject
from surecount.audit.rules import DECODE_FAILED, GIVEN_UP, INTERNAL_ERROR
from surecount.audit.truth import Verdict

RecordId = tuple[str, int, int]
"""Topic, partition and offset of an input record."""

NAMED = 5
_WHY = {
    INTERNAL_ERROR: "a bug in surecount: `surecount rejects list --reason internal_error` shows what it said, "
    "`surecount rejects replay --reason internal_error` sends them again after an upgrade",
    DECODE_FAILED: "and not so by the audit: source.decode does not always do the same",
}


def may_be_given_up(found: Sequence[Reject]) -> bool:
    """Whether the rejects of one record are as if it was given up."""
    return len(found) == 1 and found[0].reason in GIVEN_UP


class GivenUp:
    """The records that were given up, by their ids, each with its reject."""

    def __init__(self, rejects: Mapping[RecordId, Reject]) -> None:
        self._rejects = rejects
        self._told: dict[RecordId, tuple[str, Verdict]] = {}

    def instead(self, run: Run, verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
        """The verdicts on a run of records, with the reasons of those that were given up in their places.

        A reject with another key or value than the record's is none of its.
        """
        if not self._rejects:
            return verdicts
        changed = [*verdicts]
        for index, message in enumerate(run.messages):
            record = (*run.place, offset_of(message))
            reject = self._rejects.get(record)
            if reject is not None and reject.content == _content(message):
                self._told[record] = reject.reason, verdicts[index]
                changed[index] = reject.reason
        return changed

    def notes(self) -> list[str]:
        """What to say of them."""
        named = [
            (reason, f"{t}-{p}@{o}", verdict) for (t, p, o), (reason, verdict) in sorted(self._told.items(), key=str)
        ]
        return notes_on(named)


def notes_on(given_up: Iterable[tuple[str, str, Verdict]]) -> list[str]:
    """A note for each reason of records that were given up: reason, origin, and what the audit makes of each."""
    by_reason: dict[str, list[str]] = {}
    for reason, origin, verdict in given_up:
        by_reason.setdefault(reason, []).append(
            f"{origin} (is {verdict})" if isinstance(verdict, str) else f"{origin} (can be counted)"
        )
    return [
        f"{len(names):,} records were rejected as {reason}, {_WHY[reason]}: {', '.join(names[:NAMED])}"
        + (", …" if len(names) > NAMED else "")
        for reason, names in sorted(by_reason.items())
    ]


def _content(message: Message) -> int:
    return digest(compared_key(message.key()), compared(message.value()))
