"""What tells that a reject was replayed once Kafka has forgotten the position of its reason.

A position is a committed offset, which brokers keep for ``offsets.retention.minutes``. The replay topic holds a record
of each reject that was sent to ingest, for as long as that topic keeps records; other topics are not ours to search.
"""

from __future__ import annotations

from functools import cached_property

from surecount import topics
from surecount.audit.reader import Ranges
from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.rejects import Reject, committed_ranges, read, unheard
from udfs.headers import REPLAYED_HEADER, RETURNED_HEADER
from udfs.times import to_rfc3339

_MINUTE_MS = 60_000


class Evidence:
    """Looks for it where a position is not known. ``forgotten`` is what to do with rejects of which it cannot be told:
    to "skip" them, or to "send" them; without it they are refused."""

    def __init__(self, pipeline: Pipeline, now_ms: int, forgotten: str | None = None) -> None:
        self._pipeline = pipeline
        self._now_ms = now_ms
        self._forgotten = forgotten

    def was_replayed(self, reject: Reject, topic: str) -> bool:
        """Whether a reject without a known position was sent to ``topic`` before. Raises SurecountError where that is
        not known."""
        if topic == self._pipeline.topics.replay and self._keeps_all:
            return (reject.place, reject.origin) in self._replayed
        # Whatever was committed after it was written is still kept.
        if reject.written_ms > self._now_ms - self._kept_ms:
            return False
        if self._forgotten is not None:
            return self._forgotten == "skip"
        raise SurecountError(
            f"reject {reject.place} ({reject.reason}) was written at {to_rfc3339(reject.written_ms)}, and brokers keep "
            f"positions for {self._kept_ms // _MINUTE_MS:,} minutes (offsets.retention.minutes): whether it was "
            "replayed before is not known",
            f"look whether {topic} holds one whose header {REPLAYED_HEADER} or {RETURNED_HEADER} is {reject.place}; "
            "if it does, --forgotten skip leaves out such rejects, or else --forgotten send sends them",
        )

    @cached_property
    def _ranges(self) -> Ranges:
        return committed_ranges(self._pipeline, self._pipeline.topics.replay)

    @property
    def _keeps_all(self) -> bool:
        return all(begin == 0 for begin, _ in self._ranges.values())

    @cached_property
    def _replayed(self) -> frozenset[tuple[str, str]]:
        """The rejects that the replay topic holds records of: where each stands, and where its record was. Both, as
        topics that came back from a backup may have other offsets."""
        return frozenset(
            (one.said("replayed"), one.origin) for one in read(self._pipeline.kafka, self._ranges, unheard)
        )

    @cached_property
    def _kept_ms(self) -> int:
        admin = topics.Admin(self._pipeline.kafka)
        settings = admin.broker_configs(admin.metadata().brokers)
        return min(int(found["offsets.retention.minutes"]) for found in settings.values()) * _MINUTE_MS
