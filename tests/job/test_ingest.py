"""The ingest job: bad records stand aside, copies leave once, origins stay known, whichever way they came."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

from confluent_kafka import Message, Producer

from surecount import topics
from surecount.audit import audit
from surecount.ops.submit import submit
from surecount.replay import replay
from surecount.waiting import wait_until
from tests.conftest import Running
from tests.unit.test_decode import BAD, GOOD
from udfs.headers import as_sent

AGGREGATES = """
[[aggregate]]
name = "a"
key = ["customer", { field = "shop.id", type = "int" }]
sum = ["amount", { field = "shop.tax", type = "decimal", scale = 2 }, { field = "weight", type = "float" }]
window = "1 min"
"""

NOW = GOOD["ts"]


def test_every_bad_input_goes_through_ingest_byte_for_byte(make: Callable[..., Running]) -> None:
    run = make(
        """
        [source]
        topics = ["NAME.in"]
        event_time = { field = "ts", unit = "ms" }
        event_id = { field = "n", type = "int" }
        [topics]
        duplicates = "NAME.duplicates"
        """
        + AGGREGATES
    )
    topic = f"{run.pipeline.name}.in"
    producer = _producer(run)
    headers = [("trace", b"\x00\xff"), ("empty", b"")]
    sent: dict[bytes, tuple[bytes | None, str]] = {}
    numbers = iter(range(10_000))
    good: list[bytes] = []
    for name, (value, reason) in BAD.items():
        key = name.encode()
        # A bad record that has all else would have an id; that it has none is for one kind only.
        numbered = _numbered(value, next(numbers)) if value is not None and value.startswith(b'{"ts"') else value
        sent[key] = (numbered, "missing_field" if name == "missing" else reason)
        producer.produce(topic, numbered, key, timestamp=NOW, headers=headers)
        good.append(_numbered(json.dumps(GOOD).encode(), next(numbers)))
        producer.produce(topic, good[-1], b"\xff\x00", timestamp=NOW, headers=headers)
    for value in good[:5]:
        producer.produce(topic, value, None, timestamp=NOW)
    producer.produce(topic, b"no key", None, timestamp=NOW)
    producer.flush()

    jobs = run.submit_all(bounded=True)

    for job in jobs.values():
        assert run.flink.checkpoints(job)["counts"]["restored"] == 0, "no input restarts a job"
    rejects = run.read(run.pipeline.topics.rejects)
    assert len(rejects) == len(BAD) + 1
    for message in rejects:
        found = dict(message.headers())
        if message.key() is None:
            assert message.value() == b"no key"
            continue
        value, reason = sent.pop(message.key())
        assert (message.value(), found["surecount.reason"].decode()) == (value, reason)
        assert (found["trace"], found["empty"]) == (b"\x00\xff", b"")
        assert found["surecount.job"].decode() == f"{run.pipeline.name}.ingest"
        assert _origin(message)[:2] == ("main", topic)
    assert sent == {}
    clean = run.read(run.pipeline.topics.clean)
    assert sorted(m.value() for m in clean) == sorted(good)
    for message in clean:
        own = {name: value for name, value in message.headers() if not name.startswith("surecount.")}
        # Of the copies, the first to arrive stands: with key and headers, or without.
        assert (message.key(), own) in [(b"\xff\x00", dict(headers)), (None, {})]
        assert message.timestamp()[1] == NOW
    duplicates = run.read(f"{run.pipeline.name}.duplicates")
    assert sorted(m.value() for m in duplicates) == sorted(good[:5])
    assert len({_origin(m) for m in (*clean, *duplicates, *rejects)}) == 2 * len(BAD) + 6
    report = audit(run.pipeline, bounded=True)
    assert report.balanced, report.summary()
    assert report.ingest is not None
    counted = sum(json.loads(m.value())["count"] for m in run.read(run.pipeline.topics.results))
    assert counted == len(good)


def test_copies_are_found_across_pathways_and_relays(make: Callable[..., Running], stack: Any) -> None:
    # By another name the stack's own broker is another cluster.
    west = stack.bootstrap_servers.replace("127.0.0.1", "localhost")
    run = make(
        f"""
        [source]
        event_time = {{ field = "ts", unit = "ms" }}
        event_id = ["shop.id", "n"]
        [[source.pathway]]
        name = "east"
        topics = ["NAME.one", "NAME.two"]
        [[source.pathway]]
        name = "west"
        topics = ["NAME.three", "NAME.four"]
        bootstrap_servers = "{west}"
        [[source.check]]
        field = "amount"
        max = 5
        """
        + AGGREGATES.replace('{ field = "shop.id", type = "int" }', '"n"').replace('["customer", "n"]', '["customer"]')
    )
    assert run.pipeline.jobs == ("relay.west", "ingest", "aggregate")
    name = run.pipeline.name
    producer = _producer(run)
    for number in range(300):
        event = {**GOOD, "n": f"{number}", "shop": {**GOOD["shop"], "id": "é"}, "amount": 6 if number == 7 else 5}
        value = json.dumps(event).encode()
        for topic in ("one", "two", "three", "four")[: 1 + number % 4]:
            # Some have no headers of their own, only what a relay adds.
            headers = [("way", topic.encode()), ("surecount.relayed", b"9 9 9 forged")] if number % 3 else []
            producer.produce(f"{name}.{topic}", value, b"k", timestamp=NOW + number, headers=headers)
    producer.flush()

    run.submit_all(bounded=True)

    clean = run.read(run.pipeline.topics.clean)
    numbers = Counter(json.loads(m.value())["n"] for m in clean)
    assert numbers == Counter(str(n) for n in range(300) if n != 7)
    for message in clean:
        pathway, topic, _, _ = _origin(message)
        assert pathway == ("east" if topic.rpartition(".")[2] in ("one", "two") else "west")
        number = int(json.loads(message.value())["n"])
        own = {name: value for name, value in message.headers() if not name.startswith("surecount.")}
        kept = {"way": topic.rpartition(".")[2].encode(), "producer.surecount.relayed": b"9 9 9 forged"}
        assert own == (kept if number % 3 else {})
        assert message.timestamp()[1] == NOW + number
    rejects = run.read(run.pipeline.topics.rejects)
    assert {dict(m.headers())["surecount.reason"] for m in rejects} == {b"above_maximum"}
    assert sorted(_origin(m)[:2] for m in rejects) == sorted(
        [("east", f"{name}.one"), ("east", f"{name}.two"), ("west", f"{name}.three"), ("west", f"{name}.four")]
    )
    report = audit(run.pipeline, bounded=True)
    assert report.balanced, report.summary()


def test_a_relay_that_comes_late_is_not_waited_for(make: Callable[..., Running], stack: Any) -> None:
    west = stack.bootstrap_servers.replace("127.0.0.1", "localhost")
    run = make(
        f"""
        [source]
        event_time = {{ field = "ts", unit = "ms" }}
        event_id = {{ field = "n", type = "int" }}
        out_of_orderness = "1 s"
        idle_after = "20 s"
        [[source.pathway]]
        name = "east"
        topics = ["NAME.one"]
        [[source.pathway]]
        name = "west"
        topics = ["NAME.two"]
        bootstrap_servers = "{west}"
        [checkpoint]
        interval = "1 s"
        """
        + AGGREGATES,
        partitions=1,
    )
    name = run.pipeline.name
    submit(run.pipeline, run.file, run.flink, run.stack.flink_env(), job="ingest")
    producer = _producer(run)
    numbers = count()
    began = now_ms()

    def send(topic: str, ts: int, headers: dict[str, bytes]) -> None:
        value = json.dumps({**GOOD, "ts": ts, "n": next(numbers)}).encode()
        for partition in producer.list_topics(topic, timeout=10).topics[topic].partitions:
            producer.produce(topic, value, timestamp=now_ms(), headers=headers, partition=partition)

    def watermark_is_young() -> bool:
        # The relay copies what is ten minutes old.
        headers = {"surecount.relayed": f"0 {next(numbers)} {now_ms() // 1000} {name}.two".encode()}
        send(run.pipeline.relay_topic(run.pipeline.pathways[1]), now_ms() - 600_000, headers)
        send(f"{name}.one", now_ms(), {})
        producer.flush()
        clean = [dict(m.headers()) for m in run.read(run.pipeline.topics.clean)]
        return any(int(headers.get("surecount.watermark", 0)) > began - 60_000 for headers in clean)

    wait_until(watermark_is_young, 60, "a watermark that does not wait for the relay", poll_s=0.5)


def test_without_an_id_each_record_is_an_event_of_its_own(make: Callable[..., Running]) -> None:
    run = make(
        """
        [source]
        [[source.pathway]]
        name = "east"
        topics = ["NAME.in"]
        """
        + AGGREGATES
    )
    producer = _producer(run)
    value = json.dumps(GOOD).encode()
    topic = f"{run.pipeline.name}.in"
    for _ in range(10):
        producer.produce(topic, value, timestamp=NOW)
    run.submit_all(bounded=True)
    clean = run.read(run.pipeline.topics.clean)
    assert len(clean) == 10
    assert {_origin(m)[:2] for m in clean} == {("east", topic)}
    report = audit(run.pipeline, bounded=True)
    assert report.balanced, report.summary()


FORGED = {
    "surecount.pathway": b"main", "surecount.topic": b"NAME.in", "surecount.partition": b"0", "surecount.offset": b"0",
    "surecount.replayed": b"0@0", "surecount.relayed": b"0 0 0 NAME.in", "surecount.watermark": b"9" * 14,
    "surecount.timestamp": b"1", "surecount.reason": b"empty", "surecount.detail": b"none", "surecount.job": b"a.b",
    "surecount.version": b"0", "surecount.value-sha256": b"0",
    "surecount.omitted": b"value", "surecount.sha256": b"", "producer.surecount.topic": b"z",
}  # fmt: skip
"""All headers of ours, and one under whose name one of them is kept, as a producer may send them."""


def test_headers_that_a_producer_forges_are_its_own(make: Callable[..., Running]) -> None:
    run = make(
        """
        [source]
        event_time = { field = "ts", unit = "ms" }
        idle_after = "2 min"
        horizon = "1 s"
        [[source.pathway]]
        name = "main"
        topics = ["NAME.in"]
        [checkpoint]
        interval = "1 s"
        """
        + AGGREGATES,
        partitions=1,
    )
    topic = f"{run.pipeline.name}.in"
    forged = {name: value.replace(b"NAME", run.pipeline.name.encode()) for name, value in FORGED.items()}
    producer = _producer(run)
    numbers = count()
    sent: dict[int, dict[str, bytes]] = {}

    def send(headers: dict[str, bytes], **changed: Any) -> int:
        number = next(numbers)
        value = json.dumps({**GOOD, "n": number, **changed}).encode()
        # An event that is ahead of its Kafka timestamp would move the watermark no further than that.
        producer.produce(topic, value, timestamp=changed.get("ts", NOW), headers=headers)
        producer.flush()
        sent[number] = headers
        return number

    for _ in range(3):
        send({"trace": b"1"})
        send(forged)
    rejected = send(forged, amount="many")
    young = send({}, ts=NOW + 50_000)
    jobs = {job: submit(run.pipeline, run.file, run.flink, run.stack.flink_env(), job=job) for job in run.pipeline.jobs}

    def last_watermark() -> int:
        return max((int(_ours(m).get("watermark", b"0")) for m in run.read(run.pipeline.topics.clean)), default=0)

    def horizon_has_passed() -> bool:
        send({}, ts=NOW + 50_000)
        return last_watermark() > NOW + 10_000

    wait_until(horizon_has_passed, 60, "a watermark beyond the horizon of the first records", poll_s=0.5)
    too_old = [send(headers) for headers in (forged, {"surecount.replayed": b"0@0"})]
    wait_until(lambda: len(run.read(run.pipeline.topics.rejects)) == 3, 60, "what is too old to be rejected")

    rejects = {json.loads(m.value())["n"]: m for m in run.read(run.pipeline.topics.rejects)}
    assert {number: _ours(m)["reason"] for number, m in rejects.items()} == {
        rejected: b"mistyped_field",
        **dict.fromkeys(too_old, b"beyond_horizon"),
    }
    clean = run.read(run.pipeline.topics.clean)
    assert sorted(json.loads(m.value())["n"] for m in clean) == sorted(sent.keys() - rejects.keys())
    for message in [*clean, *rejects.values()]:
        number = json.loads(message.value())["n"]
        assert _origin(message) == ("main", topic, 0, number)
        kept = {name: value for name, value in message.headers() if not name.startswith("surecount.")}
        assert {as_sent(name): value for name, value in kept.items()} == sent[number]
        assert _ours(message).keys() - {"watermark"} == {
            "pathway", "topic", "partition", "offset", "version",
            *({"reason", "timestamp", "detail", "job"} if number in rejects else ()),
        }  # fmt: skip
    assert all(run.flink.checkpoints(job)["counts"]["restored"] == 0 for job in jobs.values())

    # Those that only a replay lets in, once; nothing waits for their times, and they move no watermark.
    before = last_watermark()
    assert replay(run.pipeline, ["beyond_horizon"]).replayed == {("beyond_horizon", run.pipeline.topics.replay): 2}
    assert replay(run.pipeline, ["beyond_horizon"]).replayed == {}
    wait_until(lambda: len(run.read(run.pipeline.topics.clean)) == len(clean) + 2, 60, "what was replayed")
    found = {json.loads(m.value())["n"]: m for m in run.read(run.pipeline.topics.clean)}
    for number in too_old:
        assert _origin(found[number]) == ("main", topic, 0, number)
        assert found[number].timestamp()[1] == NOW
        assert int(_ours(found[number])["watermark"]) >= before
        own = {as_sent(n): value for n, value in found[number].headers() if not n.startswith("surecount.")}
        assert own == sent[number]

    def goes_on() -> bool:
        send({}, ts=NOW + 58_000)
        return last_watermark() > before

    wait_until(goes_on, 60, "a watermark that does not wait for the replay topic", poll_s=0.5)
    assert young in found
    # Of both sources.
    wait_until(lambda: run.flink.records_read(jobs["ingest"]) == len(sent) + 2, 30, "the metrics to tell what was read")
    report = audit(run.pipeline)
    assert report.balanced, report.summary()
    assert report.ingest is not None and report.ingest.total.duplicates == 0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def _producer(run: Running) -> Producer:
    return Producer({**topics.client_config(run.pipeline.kafka), "message.max.bytes": 8 << 20})


def _numbered(value: bytes, number: int) -> bytes:
    """The JSON object with one more member in front."""
    return b'{"n": %d, ' % number + value[1:]


def _ours(message: Message) -> dict[str, bytes]:
    """The headers that jobs have added, without their prefix."""
    return {n.removeprefix("surecount."): value for n, value in message.headers() or [] if n.startswith("surecount.")}


def _origin(message: Message) -> tuple[str, str, int, int]:
    found = dict(message.headers() or [])
    pathway, topic, partition, offset = (
        found[f"surecount.{name}"].decode() for name in ("pathway", "topic", "partition", "offset")
    )
    return pathway, topic, int(partition), int(offset)
