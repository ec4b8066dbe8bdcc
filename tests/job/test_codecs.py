"""Every codec of Kafka's, mixed in one topic, and zstd everywhere: sources, copies, clean records and outputs."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from surecount import topics
from surecount.audit import audit
from surecount.local.stack import Stack
from tests.conftest import Running

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
"""By the number that a batch names its own by."""
EACH = 40

PIPELINE = """
[source]
event_time = { field = "ts", unit = "ms" }
event_id = { field = "n", type = "int" }
[[source.pathway]]
name = "east"
topics = ["NAME.one", "NAME.two"]
[[source.pathway]]
name = "west"
topics = ["NAME.three"]
bootstrap_servers = "WEST"
[topics]
duplicates = "NAME.duplicates"
[sink]
compression = "zstd"
[[aggregate]]
name = "a"
key = ["customer"]
window = "1 min"
"""


def test_all_codecs_in_one_topic_and_zstd_at_every_sink(make: Callable[..., Running], stack: Stack) -> None:
    # By another name the stack's own broker is another cluster, whose topics a relay copies.
    run = make(PIPELINE.replace("WEST", stack.bootstrap_servers.replace("127.0.0.1", "localhost")), partitions=1)
    name, outputs = run.pipeline.name, run.pipeline.topics
    compress_at_the_broker(run, f"{name}.two", f"{name}.three")
    sent = 0
    for codec in CODECS:
        for topic in (f"{name}.one", f"{name}.two", f"{name}.three"):
            send(run, topic, codec, range(sent, sent + EACH))
            sent += EACH
    send(run, f"{name}.one", "zstd", range(10))  # duplicates
    send(run, f"{name}.one", "zstd", ["no number"] * 10)  # rejects

    jobs = run.submit_all(bounded=True)

    assert all(run.flink.checkpoints(job)["counts"]["restored"] == 0 for job in jobs.values())
    assert codecs(stack, f"{name}.one") == {*CODECS}
    written = [run.pipeline.relay_topic(run.pipeline.pathways[1]), outputs.clean, outputs.results]
    for topic in (f"{name}.two", f"{name}.three", *written, outputs.rejects, f"{name}.duplicates"):
        assert codecs(stack, topic) == {"zstd"}, topic
    report = audit(run.pipeline, bounded=True)
    assert report.balanced, report.summary()
    assert sum(json.loads(m.value())["count"] for m in run.read(outputs.results)) == sent
    assert (len(run.read(f"{name}.duplicates")), len(run.read(outputs.rejects))) == (10, 10)


def test_a_sink_writes_with_snappy(make: Callable[..., Running], stack: Stack) -> None:
    run = make(
        """
        [source]
        topics = ["NAME.in"]
        event_time = { field = "ts", unit = "ms" }
        [sink]
        compression = "snappy"
        [[aggregate]]
        name = "a"
        key = ["n", "customer"]
        window = "1 min"
        """,
        partitions=1,
    )
    send(run, f"{run.pipeline.name}.in", "snappy", [str(n) for n in range(EACH)])
    run.submit(bounded=True)
    assert len(run.read(run.pipeline.topics.results)) == EACH
    assert codecs(stack, run.pipeline.topics.results) == {"snappy"}


def compress_at_the_broker(run: Running, *names: str) -> None:
    entry = ConfigEntry("compression.type", "zstd", incremental_operation=AlterConfigOpType.SET)
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=[entry]) for name in names]
    admin = AdminClient(topics.client_config(run.pipeline.kafka))
    for done in admin.incremental_alter_configs(resources).values():
        done.result(timeout=10)


def send(run: Running, topic: str, codec: str, numbers: range | list[str]) -> None:
    """One batch of records that become smaller by every codec."""
    settings = {"compression.type": codec, "linger.ms": 1_000, "enable.idempotence": True}
    producer = Producer({**topics.client_config(run.pipeline.kafka), **settings})
    for n in numbers:
        value = {"ts": 1_700_000_000_000, "n": n, "customer": "c" * 30, "padding": " " * 100}
        producer.produce(topic, json.dumps(value), timestamp=1_700_000_000_000)
    assert producer.flush(30) == 0


def codecs(stack: Stack, topic: str) -> set[str]:
    """With what the batches of records in a topic are compressed, as they are in the broker's files."""
    files = Path(stack.directory, "kafka-1", "data").glob(f"{topic}-*/*.log")
    return {codec for file in files for codec in _batches(file.read_bytes())}


def _batches(log: bytes) -> Iterator[str]:
    """The codec of each batch but those of markers (https://kafka.apache.org/documentation/#recordbatch)."""
    at = 0
    while at < len(log) and (size := struct.unpack_from(">i", log, at + 8)[0]):
        attributes = struct.unpack_from(">h", log, at + 21)[0]
        if not attributes & 0x20:
            yield CODECS[attributes & 0x07]
        at += 12 + size
