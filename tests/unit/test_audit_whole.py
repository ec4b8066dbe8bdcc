"""``audit`` of a pipeline with relays and ingest: each job is judged, and the report has it all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from surecount import audit
from surecount.audit.cut import Cut
from surecount.audit.epochs import Past
from surecount.audit.reader import DeletedError, NoAnswerError, Ranges
from surecount.audit.report import Flow, Report
from surecount.audit.stages import Stage
from surecount.config import Kafka
from surecount.topics import NoBrokerError
from tests.unit.test_audit_recount import MINUTE, T0, MemoryReader, Topics, dump, rfc3339
from tests.unit.test_audit_upstream import BY_ID, RELAY, Sent, World, run

SENT = [Sent(n % 5, far=n % 2 == 0, place=("a", n % 2), bad=n % 7 == 0, minute=n // 10) for n in range(20)]


class Kafkas:
    """Stands for both clusters; ``answers`` says whether the other one does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers = True
        self.cuts: list[str] = []
        self.world = run(SENT)
        aggregate(self.world)
        monkeypatch.setattr("surecount.audit.find_cut", self._cut)
        monkeypatch.setattr("surecount.audit.upstream.TopicReader", self._read)
        monkeypatch.setattr("surecount.audit.recount.TopicReader", self._read)

    def _topics(self, kafka: Kafka) -> Topics:
        return {"localhost:9092": self.world.main, "eu:9092": self.world.far}[kafka.bootstrap_servers]

    def _cut(self, stage: Stage, **_: Any) -> Cut:
        self.cuts.append(stage.group)
        if not self.answers and "eu" in stage.source_kafka.bootstrap_servers:
            raise NoAnswerError("Kafka does not answer at eu:9092")
        sources, outputs = self._topics(stage.source_kafka), self._topics(stage.output_kafka)
        return Cut(
            self.world.ranges(sources, [place for place in sources.messages if place[0] in stage.sources]),
            self.world.ranges(outputs, [place for place in outputs.messages if place[0] in stage.outputs]),
            quiet=False,
            notes=(),
        )

    def _read(self, kafka: Kafka, ranges: Ranges, **_: Any) -> MemoryReader:
        return MemoryReader(self._topics(kafka), ranges, 0)

    def audit(self) -> Report:
        return audit.audit(BY_ID, bounded=True)


def aggregate(world: World) -> None:
    """What a right aggregate job makes of the clean topic."""
    counts: Counter[tuple[str, int]] = Counter()
    for place in (("shop.clean", 0), ("shop.clean", 1)):
        for message in world.main.messages[place]:
            record = orjson.loads(message.value() or b"")
            counts[record["who"], record["ts"] - (record["ts"] - T0) % MINUTE] += 1
    world.main.messages["shop.corrections", 0] = []
    for (who, start), count in sorted(counts.items(), key=lambda item: item[0][1]):
        identity = {"aggregate": "by_who", "key": {"who": who}, "start": rfc3339(start)}
        value = {**identity, "end": rfc3339(start + MINUTE), "count": count, "sum": {}}
        world.main.put("shop.results", dump(value), dump(identity))


def test_from_raw_records_to_results(monkeypatch: pytest.MonkeyPatch) -> None:
    kafkas = Kafkas(monkeypatch)
    report = kafkas.audit()
    assert report.balanced, report.summary()
    assert report.ingest is not None
    # Rejects are ingest's: the aggregate job has none of its own, though they share a topic.
    assert report.ingest.total == Flow(20, 5, 3, 12)
    (books,) = report.books
    assert (books.records_in, books.results, books.rejected) == (5, 5, 0)
    assert report.rejected_by_reason == {"not_json": 3}
    assert kafkas.cuts == ["surecount.shop.aggregate", "surecount.shop.relay.eu", "surecount.shop.ingest"]


def test_a_cluster_that_does_not_answer_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    kafkas = Kafkas(monkeypatch)
    kafkas.answers = False
    report = kafkas.audit()
    assert report.balanced
    assert report.notes == ("the relay of pathway eu is not checked: Kafka does not answer at eu:9092",)


@pytest.mark.parametrize(
    ("topic", "kind", "job"),
    [(RELAY, "relay_missing", "relay.eu"), ("twice", "duplicate_missing", "ingest"), ("shop.results", "uneven", "")],
)
def test_each_job_has_to_be_right(monkeypatch: pytest.MonkeyPatch, topic: str, kind: str, job: str) -> None:
    kafkas = Kafkas(monkeypatch)
    place = next(place for place, log in kafkas.world.main.messages.items() if place[0] == topic and log)
    kafkas.world.main.remove(place, 0)
    report = kafkas.audit()
    assert not report.balanced
    assert kind in {difference.kind for difference in report.differences}
    # While the jobs run, what does not balance may be the cut's fault.
    assert kafkas.cuts.count(f"surecount.shop.{job or 'aggregate'}") == 3


def test_what_is_deleted_while_it_is_read_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    kafkas = Kafkas(monkeypatch)
    read, failures = kafkas._read, [DeletedError("shop.results-0 cannot be read: Offset out of range")]

    def fails_once(kafka: Kafka, ranges: Ranges, **more: Any) -> MemoryReader:
        if failures:
            raise failures.pop()
        return read(kafka, ranges, **more)

    monkeypatch.setattr("surecount.audit.recount.TopicReader", fails_once)
    assert kafkas.audit().balanced
    assert kafkas.cuts.count("surecount.shop.aggregate") == 2
    failures += [DeletedError("it is gone again")] * 3
    with pytest.raises(DeletedError):
        kafkas.audit()


def test_topics_that_are_not_those_that_a_run_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    kafkas = Kafkas(monkeypatch)
    ids = {topic: f"{topic} 1" for topic in ("a", "b", RELAY, "shop.clean", "shop.rejects", "twice", "shop.results")}

    def ids_of(kafka: Kafka, names: Iterable[str]) -> dict[str, str]:
        if not kafkas.answers and "eu" in kafka.bootstrap_servers:
            raise NoBrokerError("no broker answers at eu:9092")
        return {name: ids[name] for name in names if name in ids}

    monkeypatch.setattr("surecount.audit.ids_of", ids_of)
    past = {
        "relay.eu": Past(topic_ids={"a": "a 1"}, output_ids={RELAY: f"{RELAY} 1"}),
        "ingest": Past(topic_ids={"b": "b 1"}, output_ids={"shop.clean": "shop.clean 1"}),
        "aggregate": Past(topic_ids={"shop.clean": "shop.clean 1"}, output_ids={"shop.results": "shop.results 1"}),
    }
    assert audit.audit(BY_ID, history=past, bounded=True).balanced
    ids |= {"a": "a 2", "shop.clean": "shop.clean 2", "shop.results": "shop.results 2"}
    report = audit.audit(BY_ID, history=past, bounded=True)
    found = [(difference.kind, difference.where) for difference in report.differences]
    assert found == [("topic_made_anew", topic) for topic in ("a", "shop.clean", "shop.results")]
    assert not report.balanced
    kafkas.answers = False
    report = audit.audit(BY_ID, history=past, bounded=True)
    assert [difference.where for difference in report.differences] == ["shop.clean", "shop.results"]


def test_a_reject_of_the_aggregate_job_is_not_ingests(monkeypatch: pytest.MonkeyPatch) -> None:
    kafkas = Kafkas(monkeypatch)
    stated = {"topic": "shop.clean", "partition": "0", "offset": "0", "reason": "empty", "job": "shop.aggregate"}
    stated["timestamp"] = "0"
    headers = [(f"surecount.{name}", text.encode()) for name, text in stated.items()]
    kafkas.world.main.put("shop.rejects", b"", headers=headers)
    report = kafkas.audit()
    assert report.ingest is not None and report.ingest.balanced
    assert [difference.where for difference in report.differences] == ["shop.clean-0@0"]
    assert report.books[0].rejected == 1
