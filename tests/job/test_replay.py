"""Rejects that are replayed after a fix: each counts exactly once, whatever is repeated or killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from surecount import topics
from surecount.commands.rejects import app
from surecount.errors import SurecountError
from surecount.local.stack import Stack
from surecount.ops.bounded import wait_until_running
from surecount.ops.submit import submit
from surecount.replay import replay
from surecount.waiting import wait_until
from tests.conftest import Running
from udfs.headers import ORIGIN_HEADERS

AGGREGATE = """
decode = "NAME_own:decode"
event_time = { field = "ts", unit = "ms" }
out_of_orderness = "1 s"

[[aggregate]]
name = "a"
key = ["customer"]
sum = ["amount"]
window = "1 s"

[checkpoint]
interval = "1 s"
"""
PLAIN = f"""
[source]
topics = ["NAME.in"]
{AGGREGATE}"""
PATHWAYS = f"""
[source]
pathway = [
    {{ name = "web", topics = ["NAME.in"] }},
    {{ name = "far", topics = ["NAME.far"], bootstrap_servers = "FAR" }},
]
{AGGREGATE}"""
DECODE = """
def decode(value):
    ts, customer, amount = value.decode().split(",")
    return {"ts": int(ts), "customer": customer, "amount": int(AMOUNT)}
"""
OWN_HEADERS = {"trace": b"\x00\xff", "empty": b""}
COMMAND = [sys.executable, "-m", "surecount.cli", "rejects", "replay"]


def ship(run: Running, amount: str) -> None:
    """Write the decode function; ``amount`` is how it reads one."""
    (run.file.parent / f"{run.pipeline.name}_own.py").write_text(DECODE.replace("AMOUNT", amount))


def send(run: Running, topic: str, *values: bytes, at_ms: int, relayed: str | None = None) -> None:
    """Send to ``NAME.topic``; as a relay does from a topic's partition 7, from offset 100 on, where it is named."""
    producer = Producer(topics.client_config(run.pipeline.kafka))
    for offset, value in enumerate(values, 100):
        by_relay = {"surecount.relayed": f"7 {offset} {at_ms // 1000} {relayed}".encode()} if relayed else {}
        headers = OWN_HEADERS | by_relay
        producer.produce(f"{run.pipeline.name}.{topic}", value, b"", timestamp=at_ms, headers=headers)
    producer.flush()


def start(run: Running, job: str, snapshot: str | None = None) -> str:
    job_id = submit(run.pipeline, run.file, run.flink, run.stack.flink_env(), job=job, snapshot=snapshot)
    wait_until_running(run.flink, job_id)
    return job_id


def stop(run: Running, job_id: str) -> str:
    """Cancel a job; the path of its last checkpoint."""
    run.flink.cancel(job_id)
    wait_until(lambda: run.flink.state(job_id) == "CANCELED", 60, "the job to end")
    return str(run.flink.checkpoints(job_id)["latest"]["completed"]["external_path"])


def has(run: Running, topic: str, number: int) -> None:
    """Wait until a topic holds so many committed records."""
    wait_until(lambda: len(run.read(topic)) >= number, 60, f"{number} records in {topic}", poll_s=0.3)


def counted(run: Running) -> dict[str, tuple[int, int]]:
    """Count and sum by customer."""
    found: dict[str, tuple[int, int]] = {}
    for message in run.read(run.pipeline.topics.results) + run.read(run.pipeline.topics.corrections):
        value = json.loads(message.value())
        count, total = found.get(value["key"]["customer"], (0, 0))
        found[value["key"]["customer"]] = count + value["count"], total + value["sum"]["amount"]
    return found


def origin_of(message: Message) -> dict[str, bytes]:
    return {name: value for name, value in message.headers() if name in ORIGIN_HEADERS}


def own_headers(message: Message) -> dict[str, bytes]:
    return {name: value for name, value in message.headers() if not name.startswith("surecount.")}


def test_each_counts_once_after_a_fix(make: Callable[..., Running]) -> None:
    run = make(PLAIN, partitions=1)
    raw, rejects = f"{run.pipeline.name}.in", run.pipeline.topics.rejects
    ship(run, "amount")
    job = start(run, "aggregate")
    now = int(time.time() * 1000)
    bad = [b"%d,ada,5 EUR" % now, b"%d,bob,7 EUR" % now, b"", b"junk"]
    send(run, "in", b"%d,ada,1" % now, *bad, at_ms=now)
    has(run, rejects, 4)
    snapshot = stop(run, job)
    ship(run, 'amount.removesuffix(" EUR")')

    would_be = replay(run.pipeline, ["decode_failed"], dry_run=True)
    assert would_be.replayed == {("decode_failed", raw): 4}
    assert replay(run.pipeline, ["missing_field"]).left_out == {("decode_failed", "not named"): 4}
    assert len(run.read(raw)) == 5
    assert replay(run.pipeline).replayed == would_be.replayed
    again = replay(run.pipeline)
    assert (again.replayed, again.left_out) == ({}, {("decode_failed", "was replayed or left out before"): 4})
    replayed = run.read(raw)[5:]
    assert [message.value() for message in replayed] == bad
    for message, rejected in zip(replayed, run.read(rejects), strict=True):
        assert (message.key(), message.timestamp()[1], own_headers(message)) == (b"", now, OWN_HEADERS)
        assert dict(message.headers())["surecount.replayed"] == b"0@%d" % rejected.offset()

    start(run, "aggregate", snapshot)
    has(run, rejects, 6)  # what is rejected again is a new reject
    assert replay(run.pipeline).replayed == {("decode_failed", raw): 2}
    now = int(time.time() * 1000)
    send(run, "in", b"%d,last,1" % now, at_ms=now)

    def last_is_counted() -> bool:
        # A beat: the watermark needs newer records to move on.
        beat = int(time.time() * 1000)
        send(run, "in", b"%d,beat,1" % beat, at_ms=beat)
        return "last" in counted(run)

    wait_until(last_is_counted, 60, "the last window's result", poll_s=0.5)
    found = counted(run)
    del found["beat"]
    assert found == {"ada": (2, 6), "bob": (1, 7), "last": (1, 1)}


def test_ingest_writes_each_event_once_whichever_way_it_came(make: Callable[..., Running], stack: Stack) -> None:
    # The same broker by another name, which makes it another cluster; what its relay copies is sent below.
    run = make(PATHWAYS.replace("FAR", stack.bootstrap_servers.replace("127.0.0.1", "localhost")))
    name, outputs = run.pipeline.name, run.pipeline.topics
    ship(run, "amount")
    job = start(run, "ingest")
    now = int(time.time() * 1000)
    good = [b"%d,web,1" % now, b"%d,far,2" % now]
    bad = [b"%d,web,3 EUR" % now, b"%d,web,4 EUR" % now, b"%d,far,5 EUR" % now, b"%d,far,6 EUR" % now]
    send(run, "in", good[0], *bad[:2], at_ms=now)
    send(run, "pathway.far", good[1], *bad[2:], at_ms=now, relayed=f"{name}.far")
    has(run, outputs.rejects, 4)
    snapshot = stop(run, job)
    ship(run, 'amount.removesuffix(" EUR")')

    assert replay(run.pipeline).replayed == {("decode_failed", outputs.replay): 4}
    assert replay(run.pipeline).replayed == {}
    start(run, "ingest", snapshot)
    has(run, outputs.clean, 6)
    send(run, "in", b"%d,last,1" % now, at_ms=now)
    has(run, outputs.clean, 7)

    found = run.read(outputs.clean)
    assert Counter(message.value() for message in found) == dict.fromkeys([*good, *bad, b"%d,last,1" % now], 1)
    rejects = {message.value(): message for message in run.read(outputs.rejects)}
    assert sorted(rejects) == sorted(bad)
    for message in found:
        assert (message.key(), message.timestamp()[1], own_headers(message)) == (b"", now, OWN_HEADERS)
        replayed = dict(message.headers()).get("surecount.replayed")
        if rejected := rejects.get(message.value()):
            assert replayed == b"%d@%d" % (rejected.partition(), rejected.offset())
            assert origin_of(message) == origin_of(rejected)
        else:
            assert replayed is None
        if message.value() in bad[2:]:
            assert origin_of(message)["surecount.partition"] == b"7"


def written(run: Running, topic: str) -> int:
    """How far a topic is written, transactions not regarded."""
    return sum(end for _, end in topics.offsets(run.pipeline.kafka, [topic]).values())


def fill(run: Running, number: int, job: str = "aggregate", at_ms: int = 0) -> list[bytes]:
    """Write rejects of three reasons in turn, as a job would, now or at a time; their values."""
    values = [b"%d" % i for i in range(number)]
    producer = Producer(topics.client_config(run.pipeline.kafka))
    for i, value in enumerate(values):
        stated = {
            "topic": f"{run.pipeline.name}.in", "partition": i % 2, "offset": i, "timestamp": 1_000 + i,
            "reason": ("empty", "not_json", "tombstone")[i % 3], "detail": "\x1b[31m",
            "job": f"{run.pipeline.name}.{job}", "version": "1.0", "pathway": "web",
        }  # fmt: skip
        headers = [(f"surecount.{name}", str(what).encode()) for name, what in stated.items()]
        producer.produce(run.pipeline.topics.rejects, value, b"\xff", headers=headers, timestamp=at_ms)
    producer.flush()
    return values


def slowed(run: Running) -> Path:
    """The pipeline's file, with a request for each record, one after the other: so there is time for what is to happen
    meanwhile."""
    slow = run.file.with_name("slow.toml")
    properties = '[kafka.properties]\n"batch.num.messages" = "1"\n"max.in.flight" = "1"\n'
    slow.write_text(run.file.read_text() + properties)
    return slow


def test_of_two_replays_at_once_one_goes_on_with_the_rest(make: Callable[..., Running]) -> None:
    run = make(PLAIN)
    raw = f"{run.pipeline.name}.in"
    values = fill(run, 9_000)
    command = [*COMMAND, str(slowed(run))]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        wait_until(lambda: written(run, raw) > 500, 60, "some to be replayed", poll_s=0.01)
        # Else it may be through before the second one begins.
        first.send_signal(signal.SIGSTOP)
        try:
            second = subprocess.run(command, capture_output=True, text=True, check=False)
        finally:
            first.send_signal(signal.SIGCONT)
        said = first.communicate(timeout=60)[1]
    assert second.returncode == 0, second.stderr
    assert first.returncode == 1
    assert "another replay has taken over" in said
    assert replay(run.pipeline).replayed == {}
    replay(run.pipeline, ["tombstone", "empty"])
    assert Counter(message.value() for message in run.read(raw)) == dict.fromkeys(values, 1)


def test_a_replay_that_is_killed_goes_on(make: Callable[..., Running]) -> None:
    run = make(f'[source]\npathway = [{{ name = "web", topics = ["NAME.in"] }}]\n{AGGREGATE}')
    topic = run.pipeline.topics.replay
    values = fill(run, 20_000, "ingest")
    slow = slowed(run)
    for _ in range(2):
        enough = written(run, topic) + 3_000
        with subprocess.Popen([*COMMAND, str(slow)]) as process:
            try:
                wait_until(lambda: written(run, topic) > enough, 60, "some to be replayed", poll_s=0.01)  # noqa: B023
            finally:
                process.kill()
    replayed = len(run.read(topic))
    assert 0 < replayed < 13_334
    assert replay(run.pipeline).replayed.total() == 13_334 - replayed
    assert replay(run.pipeline).replayed == {}
    assert replay(run.pipeline, ["tombstone", "empty"]).replayed == {("tombstone", topic): 6_666}
    assert Counter(message.value() for message in run.read(topic)) == dict.fromkeys(values, 1)


def forget(run: Running) -> None:
    """Have Kafka forget how far each reason is replayed."""
    admin = AdminClient(topics.client_config(run.pipeline.kafka))
    prefix = run.pipeline.group_id("replay.")
    groups = [group for group in topics.Admin(run.pipeline.kafka).groups() if group.startswith(prefix)]
    assert groups
    for done in admin.delete_consumer_groups(groups).values():
        done.result(30)


def test_the_replay_topic_tells_what_kafka_has_forgotten(make: Callable[..., Running]) -> None:
    run = make(f'[source]\npathway = [{{ name = "web", topics = ["NAME.in"] }}]\n{AGGREGATE}')
    fill(run, 30, "ingest")
    assert replay(run.pipeline, ["empty"]).replayed.total() == 10
    forget(run)
    again = replay(run.pipeline)
    assert again.replayed == {("not_json", run.pipeline.topics.replay): 10}
    assert again.left_out["empty", "was replayed or left out before"] == 10
    assert len(run.read(run.pipeline.topics.replay)) == 20


def test_a_reject_older_than_positions_are_kept_is_not_sent_unasked(make: Callable[..., Running]) -> None:
    run = make(PLAIN)
    raw, rejects = f"{run.pipeline.name}.in", run.pipeline.topics.rejects
    admin = AdminClient(topics.client_config(run.pipeline.kafka))
    # Recreated with its settings: a broker applies changed settings some time after they were changed.
    admin.delete_topics([rejects])[rejects].result(30)
    config = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
    admin.create_topics([NewTopic(rejects, 2, 1, config=config)])[rejects].result(30)
    fill(run, 3, at_ms=int(time.time() * 1000) - 8 * 86_400_000)
    with pytest.raises(SurecountError, match=r"whether it was replayed before is not known") as refused:
        replay(run.pipeline)
    assert "--forgotten skip" in refused.value.hint
    assert replay(run.pipeline, forgotten="skip").replayed == {}
    assert run.read(raw) == []
    assert replay(run.pipeline, forgotten="send").replayed.total() == 2
    # Now there are positions.
    assert replay(run.pipeline).replayed == {}
    fill(run, 3)
    assert replay(run.pipeline).replayed.total() == 2


def test_rejects_are_listed_and_counted(make: Callable[..., Running]) -> None:
    run = make(PLAIN)
    job = f"{run.pipeline.name}.aggregate"

    def said(*arguments: str) -> str:
        done = CliRunner().invoke(app, [arguments[0], str(run.file), *arguments[1:]], catch_exceptions=False)
        assert done.exit_code == 0
        return done.stdout

    assert said("list") == said("count") == "no rejects\n"
    assert said("replay") == "nothing to replay\n"
    fill(run, 30)
    found = [json.loads(line) for line in said("list", "--json", "--limit", "2", "--reason", "empty").splitlines()]
    assert [(reject["value"], reject["key"], reject["when"]) for reject in found] == [
        ("24", {"base64": "/w=="}, "1970-01-01T00:00:01.024Z"),
        ("27", {"base64": "/w=="}, "1970-01-01T00:00:01.027Z"),
    ]
    assert "\x1b" not in said("list")
    assert said("list").count("1970-01-01") == 20
    counts = json.loads(said("count", "--json"))
    assert (counts["total"], counts["by_reason"]) == (30, {"empty": 10, "not_json": 10, "tombstone": 10})
    assert counts["rejects"][0] == {"reason": "empty", "job": job, "pathway": "web", "count": 10}
    assert json.loads(said("replay", "--dry-run", "--json"))["replayed"][0]["count"] == 10
