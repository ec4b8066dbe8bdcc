"""Reading raw topics, and then what relays and ingest made of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
from confluent_kafka import Message

from surecount.audit.beginnings import Beginnings, Deleted
from surecount.audit.contents import PREFIX, Headers, content, digest, header_ms, headers_of, output_content
from surecount.audit.cut import Cut
from surecount.audit.epochs import Epoch, Epochs
from surecount.audit.given_up import notes_on
from surecount.audit.ingest import BEYOND_HORIZON, IngestJudge, RawRecords
from surecount.audit.matching import Columns
from surecount.audit.origins import Places
from surecount.audit.outputs import MalformedError
from surecount.audit.pacing import Place, Run
from surecount.audit.reader import Ranges, TopicReader, offset_of
from surecount.audit.reading import Progress, Reader, first_appended, rare_garbage_collection
from surecount.audit.relay import RelayJudge, is_replayed
from surecount.audit.report import Differences, Report
from surecount.audit.retention import (
    NO_EVIDENCE,
    NOT_KNOWN,
    UNKNOWN,
    Evidence,
    ReadBy,
    deletion_notes,
    judge_unread,
    trimmed,
)
from surecount.audit.rules import Row, first_field
from surecount.audit.times import NEVER
from surecount.audit.truth import Truth
from surecount.audit.written import OutputIntake, malformed
from surecount.config import format_duration

if TYPE_CHECKING:
    from surecount.config import Kafka, Pathway, Pipeline
    from udfs.spec import Spec

OpenReader = Callable[["Kafka", Ranges], Reader]

_TIMESTAMP = f"{PREFIX}timestamp"


class Upstream:
    """The readings of what stands before the aggregate job. ``open_reader`` opens other readers, for tests."""

    def __init__(
        self,
        pipeline: Pipeline,
        epochs: Sequence[Epoch] = (),
        evidence: Evidence = NO_EVIDENCE,
        *,
        timeout_s: float,
        on_progress: Progress | None = None,
        open_reader: OpenReader | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._evidence = evidence
        self._epochs = epochs or [Epoch(pipeline)]
        self._timeout_s = timeout_s
        self._on_progress = on_progress
        self._open_reader = open_reader or self._open_topics

    def ingest(self, cut: Cut, clean_read: Mapping[Place, ReadBy] = NOT_KNOWN) -> Report:
        """Judge ingest. ``clean_read`` tells of partitions of the clean topic that have lost their beginning when that
        had been read."""
        began = time.monotonic()
        pipeline, differences, places = self._pipeline, Differences(), Places()
        raw, beginnings = RawRecords(places), self._beginnings(cut, places)
        progress = self._progress(cut)
        raw_intake = _RawIntake(pipeline, self._epochs, raw, beginnings, differences)
        self._read(pipeline.kafka, cut.sources, raw_intake.take, progress)
        horizon_ms: int = pipeline.source.horizon
        has_duplicates_topic = pipeline.topics.duplicates is not None
        judge = IngestJudge(
            raw,
            differences,
            horizon_ms=horizon_ms,
            has_duplicates_topic=has_duplicates_topic,
            deleted=self._deleted(cut, clean_read, beginnings),
        )
        take = OutputIntake(pipeline, judge, raw_intake, places, differences).take
        # One after the other, clean first: a record that stands in two of them is then too much in the second.
        for topic in dict.fromkeys(topic for topic, _ in cut.outputs):
            ranges = {place: offsets for place, offsets in cut.outputs.items() if place[0] == topic}
            self._read(pipeline.kafka, ranges, take, progress)
        books = judge.close(pathway.name for pathway in pipeline.pathways)
        own = [*pipeline.copies, pipeline.topics.replay]
        unread, notes = judge_unread(cut.unread, cut.sources, raw_intake.records, own)
        notes = [*cut.notes, *notes]
        if judge.counted_again:
            notes.append(
                f"{judge.counted_again:,} events count once more: they came again beyond the horizon of"
                f" {format_duration(horizon_ms)}, or were replayed"
            )
        by_reason = raw.by_reason + Counter({BEYOND_HORIZON: judge.beyond_horizon})
        for reason, _, verdict in judge.given_up:
            by_reason[reason] += 1
            if isinstance(verdict, str):
                by_reason[verdict] -= 1
        notes += notes_on(judge.given_up)
        return Report(
            pipeline=pipeline.name,
            books=(),
            differences=(*unread, *differences.named),
            difference_count=differences.count + len(unread),
            rejected_by_reason=+by_reason,
            notes=tuple(notes),
            seconds=time.monotonic() - began,
            ingest=books,
        )

    def _beginnings(self, cut: Cut, places: Places) -> Beginnings:
        pathways, relayed = self._pipeline.ingested_topics, dict[str, set[int]]()
        beginnings = Beginnings(places, relayed)
        # The replay topic is kept for ever; what it holds has its origin in the others.
        for topic, partition in (place for place in trimmed(cut.sources) if place[0] in pathways):
            pathway = pathways[topic]
            if self._pipeline.is_relayed(pathway):
                relayed.setdefault(pathway.name, set()).add(partition)
            else:
                begin, _ = cut.sources[topic, partition]
                beginnings.begins(places.first(pathway.name, topic, partition), begin)
        return beginnings

    def _deleted(self, cut: Cut, clean_read: Mapping[Place, ReadBy], raw: Beginnings) -> Deleted:
        """What may be deleted, in event time: an event's copies may come up to the horizon after it."""
        topics, kafka = self._pipeline.topics, self._pipeline.kafka
        since = first_appended(cut, lambda ranges: self._open_reader(kafka, ranges))
        if topics.clean in since:
            cleans = [place for place in trimmed(cut.outputs) if place[0] == topics.clean]
            since[topics.clean] = max(clean_read.get(p, UNKNOWN).before(cut.outputs[p][0]) for p in cleans)
        latest = {topic: self._evidence.latest(at_ms) for topic, at_ms in since.items()}
        horizon_ms: int = self._pipeline.source.horizon
        return Deleted(
            raw=raw,
            clean=latest[topics.clean] + horizon_ms if topics.clean in latest else NEVER,
            rejects=latest.get(topics.rejects, NEVER),
            duplicates=latest.get(topics.duplicates or "", NEVER),
        )

    def relay(self, pathway: Pathway, cut: Cut) -> Report:
        """Judge a pathway's relay."""
        began = time.monotonic()
        pipeline, differences, places = self._pipeline, Differences(), Places()
        progress = self._progress(cut)
        raw = Columns(origin="Q", content="Q")
        read: Counter[str] = Counter()
        beginnings, copies = Beginnings(places), Beginnings(places, {pathway.name: _partitions(cut.outputs)})
        for topic, partition in trimmed(cut.sources):
            beginnings.begins(places.first(pathway.name, topic, partition), cut.sources[topic, partition][0])

        def take_raw(run: Run) -> None:
            first = places.first(pathway.name, *run.place)
            read[run.place[0]] += len(run.messages)
            raw.extend(origin=[first + offset_of(m) for m in run.messages], content=map(_content, run.messages))

        def take_copies(run: Run) -> None:
            origins, contents = [], []
            for message in run.messages:
                headers = headers_of(message)
                if is_replayed(headers):
                    continue
                try:
                    origins.append(places.relayed(pathway.name, headers))
                except MalformedError as error:
                    differences.add(malformed(message, error))
                else:
                    contents.append(output_content(message, message.timestamp()[1], headers))
            copies.copies(pathway.name, run.place[1], np.array(origins, np.uint64))
            judge.find(origins, contents)

        self._read(pipeline.kafka_of(pathway), cut.sources, take_raw, progress)
        judge = RelayJudge(raw, places, differences, beginnings, copies)
        self._read(pipeline.kafka, cut.outputs, take_copies, progress)
        judge.close()
        unread, notes = judge_unread(cut.unread, cut.sources, read, own=())
        notes += deletion_notes(f"relay of pathway {pathway.name}", judge.before_cut, judge.outputs_deleted)
        return Report(
            pipeline=pipeline.name,
            books=(),
            differences=(*unread, *differences.named),
            difference_count=differences.count + len(unread),
            rejected_by_reason={},
            notes=(*cut.notes, *notes),
            seconds=time.monotonic() - began,
        )

    def _read(self, kafka: Kafka, ranges: Ranges, take: Callable[[Run], None], progress: Callable[[int], None]) -> None:
        behind = 0
        with rare_garbage_collection(), self._open_reader(kafka, ranges) as reader:
            while not reader.done:
                for run in reader.poll():
                    take(run)
                progress(reader.offsets_read - behind)
                behind = reader.offsets_read

    def _progress(self, cut: Cut) -> Callable[[int], None]:
        """A function that gets how many more offsets are read."""
        total = sum(end - begin for begin, end in (*cut.sources.values(), *cut.outputs.values()))
        done = 0

        def report(more: int) -> None:
            nonlocal done
            done += more
            if self._on_progress is not None:
                self._on_progress(done, total)

        return report

    def _open_topics(self, kafka: Kafka, ranges: Ranges) -> Reader:
        # Without clocks nothing waits for anything else.
        return TopicReader(kafka, ranges, spread_ms=0, timeout_s=self._timeout_s)


class _RawIntake:
    """Judges raw records."""

    def __init__(
        self,
        pipeline: Pipeline,
        epochs: Sequence[Epoch],
        raw: RawRecords,
        beginnings: Beginnings,
        differences: Differences,
    ) -> None:
        self.records: Counter[str] = Counter()
        """How many records were read, by topic."""
        self._beginnings = beginnings
        self._raw = raw
        self._differences = differences
        self._epochs = Epochs(epochs)
        specs = [epoch.pipeline.spec() for epoch in epochs]
        self._truths = [Truth(pipeline, spec=spec) for spec in specs]
        self._event_ids = [_event_id(spec) if spec.event_id else None for spec in specs]
        ingested = pipeline.ingested_topics
        self._replay = pipeline.topics.replay
        self._relayed = {topic for topic, pathway in ingested.items() if pipeline.is_relayed(pathway)}
        self._pathways = {self._replay: "", **{topic: pathway.name for topic, pathway in ingested.items()}}

    def take(self, run: Run) -> None:
        for epoch, part in self._epochs.split(run):
            self._take(part, epoch)

    def _take(self, run: Run, epoch: int) -> None:
        messages = run.messages
        self.records[run.place[0]] += len(messages)
        headers = list(map(headers_of, messages))
        topic, pathway = run.place[0], self._pathways[run.place[0]]
        if topic == self._replay:
            messages, headers, origins = self._located(messages, headers, self._replayed)
            timestamps = list(map(_replayed_ms, messages, headers))
            self._raw.replayed.update(origins)
        else:
            if topic in self._relayed:
                relayed = partial(self._raw.places.relayed, pathway)
                messages, headers, origins = self._located(messages, headers, relayed)
                self._beginnings.copies(pathway, run.place[1], np.array(origins, np.uint64))
            else:
                first = self._raw.places.first(pathway, *run.place)
                origins = [first + offset_of(message) for message in messages]
            timestamps = list(map(itemgetter(1), map(Message.timestamp, messages)))
        values = list(map(Message.value, messages))
        verdicts = self._truths[epoch].judge_all(values, timestamps)
        # What a copy says of itself is a relay's word; of other records it is anyone's.
        contents = (
            map(output_content, messages, timestamps, headers)
            if topic in self._relayed
            else map(content, map(Message.key, messages), values, timestamps, headers)
        )
        if (event_id := self._event_ids[epoch]) is None:
            ids = origins
        else:
            ids = [0 if isinstance(verdict, str) else event_id(verdict) for verdict in verdicts]
        self._raw.add(origins, contents, ids, verdicts, timestamps)

    def event_of(self, origin: int, message: Message) -> tuple[int, int]:
        """The id and the time of the event of a clean record whose raw record is deleted: those that the newest
        configuration tells which accepts it."""
        for truth, event_id in zip(reversed(self._truths), reversed(self._event_ids), strict=True):
            verdict = truth.judge(message.value(), message.timestamp()[1])
            if not isinstance(verdict, str):
                return origin if event_id is None else event_id(verdict), verdict[0]
        return origin, NEVER

    def _replayed(self, headers: Headers) -> int:
        """The origin that a record of the replay topic states, as it may its timestamp; raises MalformedError."""
        if _TIMESTAMP in headers:
            header_ms(headers, "timestamp")
        return self._raw.places.stated(headers)

    def _located(
        self, messages: list[Message], headers: list[Headers], locate: Callable[[Headers], int]
    ) -> tuple[list[Message], list[Headers], list[int]]:
        """The records whose headers say where they are from, with those headers and origins."""
        origins: dict[int, int] = {}
        for index, given in enumerate(headers):
            try:
                origins[index] = locate(given)
            except MalformedError as error:
                self._differences.add(malformed(messages[index], error))
        return [messages[index] for index in origins], [headers[index] for index in origins], list(origins.values())


def _partitions(ranges: Ranges) -> list[int]:
    """The partitions of a topic that have lost their beginning."""
    return [partition for _, partition in trimmed(ranges)]


def _event_id(spec: Spec) -> Callable[[Row], int]:
    """A function from an accepted record to a digest of its id."""
    at = {field.path: index for index, field in enumerate(spec.fields, start=first_field(spec))}
    fields = itemgetter(*(at[field.path] for field in spec.event_id))
    return lambda row: digest(repr(fields(row)).encode())


def _replayed_ms(message: Message, headers: Headers) -> int:
    """The Kafka timestamp of a replayed record: that which it had, or of the replay where that was no time."""
    return header_ms(headers, "timestamp") if _TIMESTAMP in headers else message.timestamp()[1]


def _content(message: Message) -> int:
    return content(message.key(), message.value(), message.timestamp()[1], headers_of(message))
