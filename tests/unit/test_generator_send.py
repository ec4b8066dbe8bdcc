"""How generated records become rows for the producer, and what a run reports."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from surecount import config
from surecount.errors import SurecountError
from surecount.generate import Options, Summary, _check_times, _chosen, generate
from surecount.generator import bad
from surecount.generator.layout import Layout
from surecount.generator.plan import Plan, plan
from surecount.generator.rows import Batches, Places, Row
from surecount.generator.stream import Chances, stream
from surecount.topic_rules import Topic

NOW = 1_900_000_000_000
MINUTE = 60_000


def pipeline(**source: Any) -> config.Pipeline:
    if "pathway" not in source:
        source["topics"] = ["one", "two"]
    data = {
        "name": "shop",
        "source": {"event_time": {"field": "ts"}, **source},
        "aggregate": [{"name": "a", "key": ["customer"], "sum": ["amount"], "window": "1 min"}],
    }
    return config.parse(data, "test")


def rows(shop: config.Pipeline, options: Options, **partitions: int) -> tuple[Plan, list[Row]]:
    run = plan(shop, options, NOW)
    layout = Layout(run, options.seed)
    made = Batches(shop, layout, bad.kinds(layout, huge=False), options)
    places = Places(partitions or {"one": 3, "two": 2})
    return run, [row for records in stream(run, Chances.of(options)) for row in places.rows(made.of(records))]


def test_a_key_stays_in_one_partition_and_all_partitions_are_used() -> None:
    _, made = rows(pipeline(), Options(1_000, 100, bad=0.1, duplicates=0.1, disorder_ms=500))
    place_of = {key: (topic, partition) for topic, _, key, partition, _ in made}
    assert all(place_of[key] == (topic, partition) for topic, _, key, partition, _ in made)
    assert len(place_of) == 100
    assert set(place_of.values()) == {("one", 0), ("one", 1), ("one", 2), ("two", 0), ("two", 1)}


def test_the_same_arguments_give_the_same_rows() -> None:
    options = Options(2_000, 10, seed=7, late=0.1, bad=0.1, duplicates=0.1, disorder_ms=500)
    assert rows(pipeline(), options) == rows(pipeline(), options)


def test_clocks_of_two_producers_in_three_are_off() -> None:
    clocks = Options(300, 30, skew_ms=20_000, bad=0.1)
    before = time.time_ns() // 1_000_000
    run, made = rows(pipeline(), clocks)
    after = time.time_ns() // 1_000_000
    _, right = rows(pipeline(), replace(clocks, skew_ms=0))
    assert [row[:4] for row in made] == [row[:4] for row in right]
    off: Counter[int] = Counter()
    for (*_, timestamp), (*_, real) in zip(made, right, strict=True):
        if real:  # that of a bad record is part of what is wrong with it
            assert timestamp == real
        else:
            off[next(by for by in (-20_000, 0, 20_000) if before <= timestamp - by <= after)] += 1
    assert [off[by] for by in (-20_000, 0, 20_000)] == [run.events // 3] * 3


def test_clocks_that_would_change_the_answers_are_refused() -> None:
    with pytest.raises(SurecountError, match="--skew: the clocks of producers are the event times"):
        plan(pipeline(event_time="kafka"), Options(10, skew_ms=1), NOW)
    with pytest.raises(SurecountError, match=r"--skew 1 min is not below source\.max_ahead = 1 min"):
        plan(pipeline(), Options(10, skew_ms=MINUTE), NOW)


PATHWAYS: list[dict[str, Any]] = [
    {"name": "east", "topics": ["east.a", "east.b"]},
    {"name": "west", "topics": ["raw"], "bootstrap_servers": "west:9092"},
]


def test_every_pathway_gets_the_same_records_wherever_they_go() -> None:
    shop = pipeline(pathway=PATHWAYS, event_id="id")
    east, west = (Options(2_000, 10, seed=7, bad=0.1, duplicates=0.1, pathway=name) for name in ("east", "west"))
    _, there = rows(shop, east, **{"east.a": 3, "east.b": 2})
    _, here = rows(shop, west, raw=4)
    assert {topic for topic, *_ in there} == {"east.a", "east.b"}
    assert {(topic, partition) for topic, _, _, partition, _ in here} == {("raw", number) for number in range(4)}
    assert [row[1:3] + row[4:] for row in here] == [row[1:3] + row[4:] for row in there]


def test_the_pathways_to_send_on() -> None:
    shop = pipeline(pathway=PATHWAYS)
    assert [pathway.name for pathway in _chosen(shop, None)] == ["east", "west"]
    assert [pathway.name for pathway in _chosen(shop, "west")] == ["west"]
    with pytest.raises(SurecountError, match="--pathway north: shop has no such pathway\n  → there are: east, west"):
        generate(shop, Options(10, pathway="north"))


def test_bad_kinds_come_in_turn_and_the_seed_says_which_is_first() -> None:
    def values(seed: int) -> list[bytes | None]:
        _, made = rows(pipeline(), Options(100, 10, seed=seed, bad=1.0))
        return [value for _, value, _, _, timestamp in made if timestamp]

    assert values(0)[:3] == [None, b"", b" \n\t"]
    assert values(1)[:2] == [b"", b" \n\t"]
    assert len(values(0)) == 100


def test_timestamps_are_the_clients_unless_they_are_the_event_times() -> None:
    options = Options(100, 10)
    _, by_field = rows(pipeline(), options)
    assert {timestamp for *_, timestamp in by_field} == {0}
    run, by_kafka = rows(pipeline(event_time="kafka"), options)
    assert [timestamp for *_, timestamp in by_kafka] == run.times(np.arange(100)).tolist()


def test_a_bad_record_cannot_advance_the_watermark_over_good_ones() -> None:
    run, made = rows(pipeline(max_ahead="1 min"), Options(100, 10, bad=1.0))
    spoiled = [timestamp for *_, timestamp in made if timestamp]
    assert spoiled == (run.times(np.arange(100)) - MINUTE).tolist()


def source(**settings: str) -> Topic:
    return Topic("one", 1, 1, {name.replace("_", "."): value for name, value in settings.items()})


def test_topics_that_would_spoil_event_times_are_refused() -> None:
    by_kafka = pipeline(event_time="kafka")
    with pytest.raises(SurecountError, match="the broker would replace the event times"):
        _check_times(by_kafka, source(message_timestamp_type="LogAppendTime"), NOW, NOW)
    with pytest.raises(SurecountError, match=r"'one' keeps records for 1 h .* is 2 h ago"):
        _check_times(by_kafka, source(retention_ms="3600000"), NOW - 7_200_000, NOW)
    _check_times(by_kafka, source(retention_ms="-1"), 0, NOW)
    _check_times(pipeline(), source(message_timestamp_type="LogAppendTime", retention_ms="1"), 0, NOW)


def test_a_summary_reads_well() -> None:
    summary = Summary(
        events=1_000,
        late=20,
        late_at_end=3,
        duplicates=10,
        bad={"empty": 2, "white space": 3},
        sent={"main": 1_015},
        rejected={"empty": 5},
        elapsed_s=0.5,
        expected=None,
        notes=("mind the gap",),
    )
    assert str(summary).splitlines() == [
        "1,015 records in 0.5 s (2,030/s): 1,000 events, 20 of them late (3 only at the end); 10 duplicates; 5 bad",
        "  note: mind the gap",
        "  to be rejected: 5 empty",
        "interrupted",
    ]


def test_a_summary_of_several_pathways_says_how_many_went_where() -> None:
    summary = Summary(
        events=10, late=0, late_at_end=0, duplicates=0, bad={"empty": 1}, sent={"east": 11, "west": 11},
        rejected={"empty": 2}, elapsed_s=0.5, expected=None,
    )  # fmt: skip
    assert summary.records == 22
    assert str(summary).splitlines()[:3] == [
        "22 records in 0.5 s (44/s): on each of 2 pathways 10 events; 1 bad",
        "  sent: 11 on east, 11 on west",
        "  to be rejected: 2 empty",
    ]
