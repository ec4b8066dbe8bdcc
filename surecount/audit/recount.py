"""Reading what is aggregated and the results side by side, once for the books, and once more where they differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import TYPE_CHECKING

from confluent_kafka import Message

from surecount.audit.accounts import Accounts, FirstReading, SecondReading
from surecount.audit.contents import compared, compared_key, digest, header_ms, headers_of
from surecount.audit.cut import Cut
from surecount.audit.epochs import Epoch, Epochs, Plans
from surecount.audit.given_up import GivenUp, RecordId, may_be_given_up
from surecount.audit.outputs import MalformedError, OutputReader, UnknownAggregateError
from surecount.audit.pacing import Place, Run
from surecount.audit.reader import Ranges, TopicReader, offset_of
from surecount.audit.reading import Progress, Reader, first_appended, rare_garbage_collection
from surecount.audit.rejects import CHUNK, ChunkId, Reject, is_reject_of, parse_reject
from surecount.audit.report import NAMED, Books, Report
from surecount.audit.retention import NO_EVIDENCE, NOT_KNOWN, Evidence, Reach, ReadBy, judge_unread, read_by, trimmed
from surecount.audit.times import NEVER
from surecount.audit.truth import Truth

if TYPE_CHECKING:
    from surecount.config import Pipeline


class Recount:
    """The readings of one pipeline. ``open_reader`` opens other readers than those of Kafka, for tests."""

    def __init__(
        self,
        pipeline: Pipeline,
        epochs: Sequence[Epoch] = (),
        evidence: Evidence = NO_EVIDENCE,
        *,
        timeout_s: float,
        on_progress: Progress | None = None,
        open_reader: Callable[[Ranges], Reader] | None = None,
    ) -> None:
        self.read_by: Mapping[Place, ReadBy] = NOT_KNOWN
        """Of the last report's sources that have lost their beginning, when that had been read."""
        self._pipeline = pipeline
        self._evidence = evidence
        epochs = epochs or [Epoch(pipeline)]
        self._epochs = Epochs(epochs)
        self._plans = Plans(epochs)
        self._timeout_s = timeout_s
        self._open_reader = open_reader or self._open_topics
        self._on_progress = on_progress
        self._truths = [Truth(epoch.pipeline) for epoch in epochs]
        self._outputs = OutputReader(self._plans.all)
        self._own_sources = [pipeline.topics.clean] if pipeline.has_ingest else []
        self._given_up = GivenUp({})
        windows = [plan.window_ms for plan in self._plans.all]
        # Results follow the input by a window and the disorder that is waited for.
        self._spread_ms: int = max(windows) + pipeline.source.out_of_orderness

    def report(self, cut: Cut, *, bounded: bool) -> Report:
        """Read all of ``cut``, and what differs once more."""
        began = time.monotonic()
        topics, since = self._pipeline.topics, first_appended(cut, self._open_reader)
        outputs_since = max(since.get(topic, NEVER) for topic in (topics.results, topics.corrections))
        rejects_deleted = self._evidence.latest(since.get(topics.rejects, NEVER))
        first = FirstReading(self._plans, cut.sources, rejects_deleted)
        self._read(cut, first)
        if given_up := self._find_given_up(cut, first):
            self._given_up = GivenUp(given_up)
            first = FirstReading(self._plans, cut.sources, rejects_deleted)
            self._read(cut, first)
        seconds = time.monotonic() - began
        begin = {place: cut.sources[place][0] for place in first.first_counted.places}
        self.read_by = read_by(begin, first.first_counted.times(outputs_since), self._evidence)
        reach = Reach(
            input=self._evidence.latest(max((read.at_ms for read in self.read_by.values()), default=NEVER)),
            outputs=self._evidence.latest(outputs_since),
        )
        closings = first.close(bounded=bounded, reach=reach)
        books = first.books(closings)
        unread, notes = judge_unread(cut.unread, cut.sources, first.records, self._own_sources)
        uneven_windows = sum(closing.uneven_count for closing in closings)
        uneven_chunks = first.rejects.uneven()
        differences = [*unread, *first.differences.named]
        count = first.differences.count + len(unread)
        if uneven_windows or uneven_chunks:
            second = SecondReading(self._plans, first, [closing.uneven for closing in closings])
            self._read(cut if uneven_windows else self._only_chunks(cut, uneven_chunks), second)
            windows, rejects = second.windows_that_differ(), second.rejects_that_differ()
            differences = windows[:NAMED] + rejects[:NAMED] + differences
            count += uneven_windows - second.recounted + len(windows)
            count += max(len(rejects), len(uneven_chunks))
        notes += self._uncounted(cut, books)
        notes += [
            f"{count:,} outputs are of aggregate {name!r}, which the pipeline doesn't have; they are not audited"
            for name, count in sorted(first.unknown_aggregates.items())
        ]
        notes += [
            f"aggregate {plan.name!r} has ended: its {closing.open_windows:,} windows that were open then never close"
            for index, (plan, closing) in enumerate(zip(self._plans.all, closings, strict=True))
            if self._plans.ended(index) and closing.open_windows
        ]
        return Report(
            pipeline=self._pipeline.name,
            books=books,
            differences=tuple(differences),
            difference_count=count,
            rejected_by_reason=dict(sorted(first.reasons.items())),
            notes=(*cut.notes, *notes, *self._given_up.notes()),
            seconds=seconds,
        )

    def _find_given_up(self, cut: Cut, first: FirstReading) -> dict[RecordId, Reject]:
        """The rejects that the input does not explain, and need not, by their records."""
        chunks = first.rejects.uneven()
        if not chunks:
            return {}
        reading = SecondReading(self._plans, first, [[] for _ in self._plans.all])
        self._read(self._only_chunks(cut, chunks), reading)
        return {place: found[0] for place, _, found in reading.rejects.differences() if may_be_given_up(found)}

    def _uncounted(self, cut: Cut, books: Sequence[Books]) -> list[str]:
        """What no output has of what is deleted, where outputs are complete: the job may have skipped it. Of the clean
        topic the books of ingest tell."""
        deleted = sum(begin for begin, _ in cut.sources.values())
        missing = deleted - max(one.before_cut for one in books)
        if self._own_sources or trimmed(cut.outputs) or missing <= 0:
            return []
        return [
            f"{missing:,} of the {deleted:,} deleted offsets are in no output: deleted before the first start, of open "
            "windows, markers of transactions, or skipped by the job"
        ]

    def _only_chunks(self, cut: Cut, chunks: list[ChunkId]) -> Cut:
        sources = {}
        for place, (begin, end) in cut.sources.items():
            wanted = [number for topic, partition, number in chunks if (topic, partition) == place]
            if wanted:
                sources[place] = (max(begin, min(wanted) * CHUNK), min(end, (max(wanted) + 1) * CHUNK))
        rejects = self._pipeline.topics.rejects
        outputs = {place: offsets for place, offsets in cut.outputs.items() if place[0] == rejects}
        return replace(cut, sources=sources, outputs=outputs)

    def _read(self, cut: Cut, accounts: Accounts) -> None:
        total = sum(end - begin for begin, end in (*cut.sources.values(), *cut.outputs.values()))
        with (
            rare_garbage_collection(),
            self._open_reader(cut.sources) as sources,
            self._open_reader(cut.outputs) as outputs,
        ):
            while not (sources.done and outputs.done):
                if self._sources_first(sources, outputs):
                    for run in sources.poll():
                        for epoch, part in self._epochs.split(run):
                            sources.advance(run.place, self._take_input(part, epoch, accounts))
                else:
                    for run in outputs.poll():
                        if (clock := self._take_outputs(run, accounts)) is not None:
                            outputs.advance(run.place, clock)
                if self._on_progress is not None:
                    self._on_progress(sources.offsets_read + outputs.offsets_read, total)

    def _open_topics(self, ranges: Ranges) -> Reader:
        kafka = self._pipeline.kafka
        return TopicReader(kafka, ranges, spread_ms=self._spread_ms, timeout_s=self._timeout_s)

    def _sources_first(self, sources: Reader, outputs: Reader) -> bool:
        """The input goes ahead in event time, by as much as results need to follow."""
        if sources.done or outputs.done:
            return not sources.done
        ahead, behind = sources.clock, outputs.clock
        if ahead is None or behind is None:
            return ahead is None
        return ahead <= behind + self._spread_ms

    def _take_input(self, run: Run, epoch: int, accounts: Accounts) -> int:
        """Judge input records of one epoch; returns the event time of one in their middle: not of an outlier."""
        values = list(map(Message.value, run.messages))
        timestamps = list(map(itemgetter(1), map(Message.timestamp, run.messages)))
        verdicts = self._given_up.instead(run, self._truths[epoch].judge_all(values, timestamps))
        rows = [verdict for verdict in verdicts if type(verdict) is tuple]
        accounts.accept(rows, epoch, run.place)
        if len(rows) < len(verdicts):
            for message, value, verdict, timestamp in zip(run.messages, values, verdicts, timestamps, strict=True):
                if isinstance(verdict, str):
                    content = digest(compared_key(message.key()), compared(value))
                    accounts.reject(Reject(*run.place, offset_of(message), verdict, content), epoch, timestamp)
        middle: int = rows[len(rows) // 2][0] if rows else timestamps[len(timestamps) // 2]
        return middle

    def _take_outputs(self, run: Run, accounts: Accounts) -> int | None:
        """Book outputs; returns the job's watermark behind the last of them, ms, where it is known."""
        topic = run.place[0]
        topics = self._pipeline.topics
        last = None
        for message in run.messages:
            key, value = message.key(), message.value()
            try:
                if topic == topics.results:
                    last = self._outputs.result(key, value)
                    accounts.result(last, message)
                elif topic == topics.corrections:
                    last = self._outputs.correction(key, value)
                    accounts.correction(last, message)
                elif not is_reject_of(f"{self._pipeline.name}.ingest", headers := headers_of(message)):
                    reject = parse_reject(headers, key, value)
                    accounts.find_reject(
                        reject, self._epochs.at(reject[:2], reject.offset), header_ms(headers, "timestamp")
                    )
            except MalformedError as error:
                accounts.malformed(message, str(error))
            except UnknownAggregateError as error:
                accounts.unknown(error.name)
        if last is None:
            return None
        return last.start + self._plans.all[last.aggregate].window_ms + max(last.late_by_ms, 0)
