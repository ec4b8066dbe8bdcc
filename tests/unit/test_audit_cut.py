"""Where the audit stops: which samples of offsets belong together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, repeat

import pytest

from surecount.audit import cut
from surecount.audit.cut import Bounds, Cut, Sample, Unread, find_cut
from surecount.audit.stages import aggregate_stage, ingest_stage, relay_stage
from surecount.config import parse
from surecount.errors import SurecountError

PIPELINE = parse(
    {
        "name": "shop",
        "source": {"topics": ["in"]},
        "aggregate": [{"name": "a", "key": ["who"], "window": "1 min"}],
        "checkpoint": {"interval": "100 ms"},
    },
    "test",
)
IN, OUT = ("in", 0), ("out", 0)
STILL = Sample({IN: 10}, Bounds({IN: 0}, {IN: 10}, {IN: 10}), Bounds({OUT: 0}, {OUT: 5}, {OUT: 5}))


def at(read: int | None, end: int, stable: int = 5, high: int = 5) -> Sample:
    return Sample(
        {} if read is None else {IN: read},
        Bounds({IN: 0}, {IN: end}, {IN: end}),
        Bounds({OUT: 0}, {OUT: stable}, {OUT: high}),
    )


class Job:
    """Shows samples in turn, the last one for ever."""

    def __init__(self, samples: list[Sample], markers: bool = False) -> None:
        self._samples: Iterator[Sample] = chain(samples, repeat(samples[-1]))
        self._markers = markers

    def sample(self) -> Sample:
        return next(self._samples)

    def lag(self, sample: Sample) -> list[str]:
        behind = sample.committed.get(IN, 0) < sample.sources.end[IN]
        return ["in-0 is behind"] if behind and not self._markers else []


def found(monkeypatch: pytest.MonkeyPatch, *samples: Sample, bounded: bool = False, markers: bool = False) -> Cut:
    job = Job(list(samples), markers)
    monkeypatch.setattr(cut, "_Job", lambda _stage: job)
    return find_cut(aggregate_stage(PIPELINE), bounded=bounded, timeout_s=0.5)


def test_a_quiet_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, STILL) == Cut({IN: (0, 10)}, {OUT: (0, 5)}, quiet=True, notes=())


def test_it_waits_for_the_group_and_for_open_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = found(monkeypatch, at(3, 10), at(3, 10), at(3, 10), at(10, 10, 5, 8), at(10, 10, 8, 8))
    assert chosen == Cut({IN: (0, 10)}, {OUT: (0, 8)}, quiet=True, notes=())


def test_transaction_markers_at_the_end_of_the_input_are_no_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = found(monkeypatch, at(9, 10), markers=True)
    assert chosen.quiet and chosen.sources == {IN: (0, 9)}


def test_a_running_pipeline_is_cut_between_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    moving = [at(3, 10, 5, 6), at(3, 11, 8, 9), at(7, 12, 8, 10), at(7, 13, 8, 11)]
    assert found(monkeypatch, *moving) == Cut({IN: (0, 7)}, {OUT: (0, 8)}, quiet=False, notes=())


def test_a_partition_without_an_offset_was_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ("in", 1)
    more = {IN: 10, other: 4}
    sources = Bounds({IN: 0, other: 1}, more, more)
    sample = replace(STILL, sources=sources)
    chosen = found(monkeypatch, replace(sample, sources=replace(sources, end={IN: 9, other: 4})), sample)
    assert chosen.sources == {IN: (0, 10), other: (1, 1)}
    assert chosen.notes == ("in begins at offset 1 in partition 1: what stood before is deleted",)


def test_a_group_without_offsets_takes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = found(monkeypatch, at(None, 10))
    assert chosen.sources == {IN: (0, 10)} and not chosen.quiet
    assert "has no offsets" in chosen.notes[0]


def test_a_job_that_has_not_begun_to_write_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = found(monkeypatch, at(None, 10, 0, 0), at(None, 10, 0, 0), at(None, 10, 0, 0), at(10, 10))
    assert chosen == Cut({IN: (0, 10)}, {OUT: (0, 5)}, quiet=True, notes=())
    with pytest.raises(SurecountError, match="the job has not completed a checkpoint"):
        found(monkeypatch, at(None, 10, 0, 0))
    assert found(monkeypatch, at(None, 0, 0, 0)).sources == {IN: (0, 0)}


def begun(begin: int, sample: Sample) -> Sample:
    """The same where the beginning of the input is deleted."""
    return replace(sample, sources=replace(sample.sources, begin={IN: begin}))


def test_what_is_deleted_before_it_is_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job stands still, and does not read what is left."""
    chosen = found(monkeypatch, begun(7, at(3, 10)))
    assert chosen.sources == {IN: (7, 7)} and chosen.unread == {IN: Unread(3, 7, 3)}
    assert found(monkeypatch, begun(10, at(3, 10))).unread == {IN: Unread(3, 10, 0)}


def test_what_a_job_has_read_since_its_last_checkpoint_is_not_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    moving = [begun(7, at(3, 10, 5, 6))] * 3 + [begun(7, at(10, 10, 6, 6))]
    chosen = found(monkeypatch, *moving)
    assert chosen.sources == {IN: (7, 10)} and chosen.unread == {}
    # What a bounded run had committed when it ended need not be all that it had read.
    assert found(monkeypatch, begun(7, at(3, 10)), bounded=True).unread == {}


def test_bounded_takes_the_input_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = found(monkeypatch, at(None, 10, 5, 8), at(None, 12, 5, 8), at(None, 14, 8, 8), bounded=True)
    assert chosen == Cut({IN: (0, 10)}, {OUT: (0, 8)}, quiet=True, notes=())


@pytest.mark.parametrize("bounded", [True, False])
def test_a_transaction_that_stays_open_is_named(monkeypatch: pytest.MonkeyPatch, bounded: bool) -> None:
    with pytest.raises(SurecountError, match="out-0 has an open transaction: LSO 5, high watermark 8"):
        found(monkeypatch, at(10, 10, 5, 8), bounded=bounded)


def test_lag_that_stays_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SurecountError, match="in-0 is behind"):
        found(monkeypatch, at(3, 10))


def test_a_topic_that_was_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SurecountError, match="in-0 was read up to offset 12 and ends at 10"):
        found(monkeypatch, at(12, 10))


def test_each_job_has_its_topics_clusters_and_group() -> None:
    eu = {"name": "eu", "topics": ["far"], "bootstrap_servers": "eu:9092"}
    source = {"pathway": [{"name": "web", "topics": ["in"]}, eu]}
    pipeline = parse(
        {**PIPELINE.model_dump(include={"name"}), "source": source, "topics": {"duplicates": "twice"}}
        | {"aggregate": [{"name": "a", "key": ["who"], "window": "1 min"}]},
        "test",
    )
    relay = relay_stage(pipeline, pipeline.pathways[1])
    assert (relay.group, relay.sources, relay.outputs) == ("surecount.shop.relay.eu", ["far"], ["shop.pathway.eu"])
    assert relay.source_kafka.bootstrap_servers == "eu:9092" and relay.output_kafka == pipeline.kafka
    ingest = ingest_stage(pipeline)
    assert (ingest.group, ingest.sources) == ("surecount.shop.ingest", ["in", "shop.pathway.eu", "shop.replay"])
    assert ingest.outputs == ["shop.clean", "shop.rejects", "twice"]
    assert ingest.source_kafka == ingest.output_kafka == pipeline.kafka
    assert aggregate_stage(pipeline).sources == ["shop.clean"]
    assert aggregate_stage(PIPELINE).sources == ["in"]
