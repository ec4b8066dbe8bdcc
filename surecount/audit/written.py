"""What ingest wrote, as it is read for its judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from confluent_kafka import Message

from surecount.audit.contents import PREFIX, header, header_ms, headers_of, output_content
from surecount.audit.ingest import NO_WATERMARK, IngestJudge
from surecount.audit.origins import Places
from surecount.audit.outputs import MalformedError
from surecount.audit.pacing import Run
from surecount.audit.reader import where
from surecount.audit.rejects import is_reject_of
from surecount.audit.report import Difference, Differences

if TYPE_CHECKING:
    from surecount.config import Pipeline

_REPLAYED, _RETURNED = f"{PREFIX}replayed", f"{PREFIX}returned"
_WATERMARK = f"{PREFIX}watermark"


class RawEvents(Protocol):
    """What knows the event of a clean record whose raw record is deleted."""

    def event_of(self, origin: int, message: Message) -> tuple[int, int]: ...


class _Output(NamedTuple):
    """A record that ingest wrote, and what it states."""

    message: Message
    origin: int
    content: int
    watermark: int
    is_replayed: bool
    reason: str


class OutputIntake:
    """Hands the judge what ingest wrote."""

    def __init__(
        self, pipeline: Pipeline, judge: IngestJudge, raw: RawEvents, places: Places, differences: Differences
    ) -> None:
        self._job = f"{pipeline.name}.ingest"
        self._topics = pipeline.topics
        self._judge = judge
        self._raw = raw
        self._places = places
        self._differences = differences

    def take(self, run: Run) -> None:
        is_rejects, is_clean = run.place[0] == self._topics.rejects, run.place[0] == self._topics.clean
        found: list[_Output] = []
        for message in run.messages:
            headers = headers_of(message)
            if is_rejects and not is_reject_of(self._job, headers):
                continue
            if _RETURNED in headers:  # a reject of the aggregate job, put back
                continue
            try:
                origin = self._places.stated(headers)
                timestamp_ms = header_ms(headers, "timestamp") if is_rejects else message.timestamp()[1]
                watermark = header_ms(headers, "watermark") if _WATERMARK in headers else NO_WATERMARK
                reason = header(headers, "reason") if is_rejects else ""
            except MalformedError as error:
                self._differences.add(malformed(message, error))
                continue
            digest_ = output_content(message, timestamp_ms, headers)
            found.append(_Output(message, origin, digest_, watermark, _REPLAYED in headers, reason))
        before_cut = self._judge.before_cut([output.origin for output in found])
        early = [output for output, is_early in zip(found, before_cut, strict=True) if is_early]
        if early:
            found = [output for output, is_early in zip(found, before_cut, strict=True) if not is_early]
            self._take_early(early, is_clean=is_clean, is_rejects=is_rejects)
        origins, contents = [output.origin for output in found], [output.content for output in found]
        if is_rejects:
            self._judge.find_rejects(origins, contents, [output.reason for output in found])
        elif is_clean:
            watermarks, replayed = [output.watermark for output in found], [output.is_replayed for output in found]
            self._judge.find_clean(origins, contents, watermarks, replayed)
        else:
            self._judge.find_duplicates(origins, contents)

    def _take_early(self, outputs: list[_Output], *, is_clean: bool, is_rejects: bool) -> None:
        """Outputs of raw records that are deleted."""
        origins = [output.origin for output in outputs]
        if is_clean or is_rejects:  # duplicates are told from raw records only
            self._judge.find_before_cut(origins, is_clean=is_clean)
        if is_clean:
            events = [self._raw.event_of(output.origin, output.message) for output in outputs]
            self._judge.stand_ins.add(
                origins=origins,
                ids=[event for event, _ in events],
                times=[time_ms for _, time_ms in events],
                watermarks=[output.watermark for output in outputs],
                replayed=[output.is_replayed for output in outputs],
            )


def malformed(message: Message, error: MalformedError) -> Difference:
    """A record that does not state what it has to."""
    return Difference("malformed", str(error), where(message))
