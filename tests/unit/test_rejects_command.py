"""What is shown of rejects, and what a replay makes of them. No broker is needed."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Message

from surecount.commands.rejects import printable
from surecount.config import Pipeline, parse
from surecount.errors import SurecountError
from surecount.rejects import REASONS, Reject, as_json, check_reasons
from surecount.replay import ONLY_WHEN_NAMED, LeftOutError, Summary, Targets, check_chosen

AGGREGATE = [{"name": "a", "key": ["k"], "window": "1 min"}]
PLAIN = parse({"name": "shop", "source": {"topics": ["raw"]}, "aggregate": AGGREGATE}, "test")
BY_FIELD = parse(
    {"name": "shop", "source": {"topics": ["raw"], "event_time": {"field": "ts"}}, "aggregate": AGGREGATE}, "test"
)
WITH_ID = parse({"name": "shop", "source": {"topics": ["raw"], "event_id": "id"}, "aggregate": AGGREGATE}, "test")
PATHWAYS = parse(
    {
        "name": "shop",
        "source": {
            "pathway": [
                {"name": "web", "topics": ["raw", "more"]},
                {"name": "eu", "topics": ["raw"], "bootstrap_servers": "eu:9092"},
            ]
        },
        "aggregate": AGGREGATE,
    },
    "test",
)
PARTITIONS = {"raw": 4, "more": 4, "shop.clean": 4, "shop.replay": 2}


def reject(job: str = "shop.ingest", *, own: tuple[tuple[str, bytes | None], ...] = (), **said: str) -> Reject:
    stated = {
        "pathway": "web", "topic": "raw", "partition": "3", "offset": "70", "timestamp": "1769860799123",
        "reason": "missing_field", "detail": "'k' is missing", "version": "1.0", "job": job, **said,
    }  # fmt: skip
    headers = [(f"surecount.{name}", text.encode()) for name, text in stated.items() if text]
    return Reject(1, 12, 1_769_860_800_000, b"key", b"value", (*own, *headers))


@pytest.mark.parametrize(
    ("pipeline", "rejected", "topic"),
    [
        (PLAIN, reject("shop.aggregate", pathway=""), "raw"),
        (WITH_ID, reject(pathway="main"), "shop.replay"),
        (WITH_ID, reject("shop.aggregate", topic="shop.clean"), "shop.clean"),
        (PATHWAYS, reject(), "shop.replay"),
        (PATHWAYS, reject(pathway="eu", topic="gone"), "shop.replay"),
        (PATHWAYS, reject(timestamp="-1"), "shop.replay"),
        (PATHWAYS, reject("shop.aggregate", topic="shop.clean"), "shop.clean"),
    ],
)
def test_a_reject_goes_to_where_its_job_reads(pipeline: Pipeline, rejected: Reject, topic: str) -> None:
    assert Targets(pipeline).record(rejected, PARTITIONS).topic == topic


@pytest.mark.parametrize(
    ("pipeline", "rejected", "why"),
    [
        (PLAIN, reject("shop.aggregate", topic="gone"), "shop.aggregate does not read gone now"),
        # Ingest is new to the pipeline: in the clean topic a raw record would pass it by.
        (WITH_ID, reject("shop.aggregate", pathway=""), "shop.aggregate does not read raw now"),
        (PLAIN, reject("shop.ingest"), "shop.ingest does not read raw now"),
        (PLAIN, reject("other.aggregate"), "other.aggregate does not read raw now"),
        (PATHWAYS, reject("shop.relay.eu", pathway="eu"), "shop.relay.eu does not read raw now"),
        (PATHWAYS, reject(job="", topic=""), "a job that is not named does not read where it was now"),
        (PATHWAYS, reject(pathway="eu", partition=""), "its headers do not say where it was"),
        (PATHWAYS, reject(pathway="eu", offset="-7"), "its headers do not say where it was"),
        (
            PLAIN,
            reject("shop.aggregate", timestamp="-1"),
            "its Kafka timestamp is its event time, and cannot be sent: -1",
        ),
        (
            PLAIN,
            reject("shop.aggregate", timestamp="1769860799"),
            "its Kafka timestamp is its event time, and cannot be sent: 1769860799",
        ),
    ],
)
def test_what_has_nowhere_to_go_is_left_out(pipeline: Pipeline, rejected: Reject, why: str) -> None:
    with pytest.raises(LeftOutError) as left_out:
        Targets(pipeline).record(rejected, PARTITIONS)
    assert str(left_out.value) == why


@pytest.mark.parametrize("timestamp", ["-1", "0", "1769860799", "1769860799123000", "9223372036854775807", ""])
@pytest.mark.parametrize(
    ("pipeline", "reason"), [(BY_FIELD, "missing_field"), (BY_FIELD, "internal_error"), (PLAIN, "kafka_timestamp")]
)
def test_a_kafka_timestamp_that_is_no_time_becomes_the_present(pipeline: Pipeline, reason: str, timestamp: str) -> None:
    rejected = reject("shop.aggregate", pathway="", timestamp=timestamp, reason=reason)
    assert Targets(pipeline).record(rejected, PARTITIONS).timestamp_ms == 0  # the present, for the client


OWN = (("trace", b"\x00\xff"), ("twice", b"1"), ("twice", b""), ("null", None))
FORGED = (("producer.surecount.replayed", b"9@9"), ("producer.producer.surecount.x", b""), ("producer.x", b"1"))


def test_the_record_is_the_one_that_came() -> None:
    record = Targets(PLAIN).record(reject("shop.aggregate", own=OWN + FORGED), PARTITIONS)
    assert (record.key, record.value, record.timestamp_ms, record.partition) == (b"key", b"value", 1_769_860_799_123, 3)
    sent = [("surecount.replayed", b"9@9"), ("producer.surecount.x", b""), ("producer.x", b"1")]
    assert record.headers == [*OWN, *sent, ("surecount.replayed", b"1@12")]


@pytest.mark.parametrize("timestamp", ["1769860799123", "0", "-1"])
def test_ingest_is_told_where_and_when_a_record_was(timestamp: str) -> None:
    # Other headers of ours are of the job that rejected it.
    rejected = reject(own=OWN + FORGED, timestamp=timestamp, watermark="5", replayed="0@3")
    record = Targets(PATHWAYS).record(rejected, PARTITIONS)
    # Of 2 partitions; the broker's time.
    assert (record.key, record.value, record.timestamp_ms, record.partition) == (b"key", b"value", 0, 1)
    said = {name: rejected.said(name).encode() for name in ("pathway", "topic", "partition", "offset", "timestamp")}
    ours = [(f"surecount.{name}", text) for name, text in said.items()]
    assert record.headers == [*OWN, *FORGED, *ours, ("surecount.replayed", b"1@12")]


def test_what_was_rejected_for_its_timestamp_gets_that_of_the_replay_topic() -> None:
    record = Targets(PATHWAYS).record(reject(reason="kafka_timestamp", timestamp="-1"), PARTITIONS)
    assert "surecount.timestamp" not in dict(record.headers)


def test_the_aggregate_job_finds_the_watermark_again() -> None:
    rejected = reject("shop.aggregate", topic="shop.clean", watermark="5")
    found = dict(Targets(PATHWAYS).record(rejected, PARTITIONS).headers)
    assert (found["surecount.watermark"], found["surecount.returned"]) == (b"5", b"1@12")


def test_a_partition_that_is_gone_is_chosen_by_key() -> None:
    assert Targets(PLAIN).record(reject("shop.aggregate"), {**PARTITIONS, "raw": 3}).partition == -1


def chosen(reason: str, *named: str) -> bool:
    try:
        check_chosen(reject(reason=reason), named)
    except LeftOutError:
        return False
    return True


def test_what_could_count_twice_has_to_be_named() -> None:
    named = {"beyond_horizon", "tombstone", "kafka_timestamp"}
    assert {reason for reason in REASONS if not chosen(reason)} == named == {*ONLY_WHEN_NAMED}
    assert chosen("beyond_horizon", "empty", "beyond_horizon")
    assert not chosen("missing_field", "empty")


def test_an_unknown_reason_is_refused() -> None:
    with pytest.raises(SurecountError, match=r"--reason missingfield[^→]*→ there are: .*missing_field"):
        check_reasons(["empty", "missingfield"])


def test_a_summary_says_what_and_why() -> None:
    summary = Summary()
    assert str(summary) == "nothing to replay"
    summary.replayed["empty", "raw"] = 1_200
    summary.left_out["tombstone", "not named"] = 3
    assert str(summary) == "1,200 replayed\n  1,200 empty to raw\n3 left out\n  3 tombstone: not named"
    assert Summary(True, summary.replayed).to_dict() == {
        "dry_run": True,
        "replayed": [{"reason": "empty", "topic": "raw", "count": 1_200}],
        "left_out": [],
    }


def test_a_reject_is_read_from_a_record() -> None:
    headers: list[Any] = [("own", b"1"), ("surecount.reason", b"empty")]
    message = Message(topic="r", partition=2, offset=5, key=b"", value=None, headers=headers, timestamp=(2, 99))
    assert Reject.of(message) == Reject(2, 5, 99, b"", None, tuple(headers))
    bare = Reject.of(Message(topic="r", partition=2, offset=5, key=None, value=b"", timestamp=(2, 99)))
    assert (bare.headers, bare.reason, bare.when) == ((), "", "")


def test_a_reject_as_json() -> None:
    found = reject(own=(("text", "ü".encode()), ("producer.surecount.x", b"\xff"), ("null", None))).to_dict()
    assert found == {
        "reject": "1@12", "when": "2026-01-31T11:59:59.123Z", "job": "shop.ingest", "version": "1.0",
        "pathway": "web", "topic": "raw", "partition": 3, "offset": 70,
        "reason": "missing_field", "detail": "'k' is missing", "key": "key", "value": "value",
        "headers": {"text": "ü", "surecount.x": {"base64": "/w=="}, "null": None},
    }  # fmt: skip
    assert (as_json(None), as_json(b"")) == (None, "")


def test_times_and_origins_of_any_kind_are_shown() -> None:
    assert reject().origin == "web/raw-3@70"
    assert reject(pathway="").origin == "raw-3@70"
    assert reject(timestamp="9" * 18).when == "9" * 18
    assert reject(timestamp="-1").when == "-1"


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (None, "(none)"),
        (b"", ""),
        ("Grüße".encode(), "Grüße"),
        (b"\xff\x00\x1b[31m\n", "\\xff\\x00\\x1b[31m\\n"),
        (b"x" * 31, "x" * 30 + "…"),
        (("😀" * 30).encode(), "😀" * 30),
        (("😀" * 31).encode(), "😀" * 30 + "…"),
        (b"[red]" * 2, "[red][red]"),
    ],
)
def test_bytes_are_shown_short_and_printable(data: bytes | None, shown: str) -> None:
    assert printable(data, 30) == shown
