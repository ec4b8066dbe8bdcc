"""Records that are small on the wire and large in memory, by values, by headers and by number."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256

import pytest
from confluent_kafka import Producer

from surecount import topics
from surecount.audit import audit
from surecount.local.stack import Stack
from tests.conftest import Running

INGEST = """
[[source.pathway]]
name = "main"
topics = ["NAME.in"]
"""
PIPELINE = """
[source]
event_time = { field = "at.ts", unit = "s" }
TOPICS

[[aggregate]]
name = "a"
key = ["k"]
window = "1 h"
"""
Record = tuple[bytes, list[tuple[str, bytes]]]

ONE = (1, 1, 1)
SOME = (1_000, 10_000, 20)
"""Of values of 900 kB, which one poll brought at once, of headers of 8 kB, and of values of 10 MB."""


def records(of_many: int, of_headers: int, of_large: int) -> Iterator[Record]:
    def of(key: str, pad: str) -> bytes:
        return json.dumps({"pad": pad, "at": {"ts": int(time.time())}, "k": key}).encode()

    many, headers, large, huge = (
        of("many", "x" * 900_000),
        of("headers", ""),
        of("", "x" * 10_000_000),
        "x" * 70_000_000,
    )
    yield from ((many, []) for _ in range(of_many))
    yield from ((headers, [("trace", b"h" * 8_000)]) for _ in range(of_headers))
    yield from ((large, []) for _ in range(of_large))
    yield of("", huge), []
    # As large as it is by a header: ingest cannot copy it, the aggregate job counts it.
    yield of("header", ""), [("trace", huge.encode())]
    # Half of it on the wire, and so within the topic's limit.
    yield of("", random.Random(7).randbytes(850_000).hex()), []


@pytest.mark.parametrize(
    ("has_ingest", "sent"), [(False, ONE), (True, ONE), (True, SOME)], ids=["one", "one ingested", "some"]
)
def test_what_is_large_in_memory_only_is_counted_or_rejected(
    has_ingest: bool, sent: tuple[int, int, int], make: Callable[..., Running]
) -> None:
    inlet = INGEST if has_ingest else 'topics = ["NAME.in"]'
    run = make(PIPELINE.replace("TOPICS", inlet), partitions=1)
    send(run, records(*sent))

    jobs = run.submit_all(bounded=True)

    for job in jobs.values():
        assert run.flink.checkpoints(job)["counts"]["restored"] == 0, "no input restarts a job"
    counted = Counter()
    for message in run.read(run.pipeline.topics.results):
        result = json.loads(message.value())
        counted[result["key"]["k"]] += result["count"]
    assert counted == {"many": sent[0], "headers": sent[1]} | ({} if has_ingest else {"header": 1})
    reasons = Counter[str]()
    for message in run.read(run.pipeline.topics.rejects):
        said = dict(message.headers())
        reason, size = said["surecount.reason"].decode(), said.get("surecount.size")
        reasons[f"{reason} {size.decode()}" if size else reason] += 1
        assert message.value() is None if size else message.value().startswith(b'{"pad": "')
    rejected = {"value_too_large": sent[2] + 1, "value_too_large 70000046": 1}
    assert reasons == rejected | ({"internal_error 52": 1} if has_ingest else {})
    if sent == ONE:  # of more it would read for long
        report = audit(run.pipeline, bounded=True)
        assert report.balanced, report.summary()


def test_a_relay_copies_what_no_sink_can_write_without_its_value(make: Callable[..., Running], stack: Stack) -> None:
    # By another name the stack's own broker is another cluster.
    other = stack.bootstrap_servers.replace("127.0.0.1", "localhost")
    run = make(PIPELINE.replace("TOPICS", f'{INGEST}bootstrap_servers = "{other}"'), partitions=1)
    huge = next(record for record in records(*ONE) if len(record[0]) > 70_000_000)
    send(run, iter([small := (huge[0].replace(b"x", b""), []), huge, small]))

    jobs = run.submit_all(bounded=True)

    for job in jobs.values():
        assert run.flink.checkpoints(job)["counts"]["restored"] == 0, "no input restarts a job"
    [reject] = run.read(run.pipeline.topics.rejects)
    said = dict(reject.headers())
    assert (said["surecount.size"], said["surecount.reason"]) == (b"%d" % len(huge[0]), b"internal_error")
    assert said["surecount.sha256"].decode() == sha256(huge[0]).hexdigest()
    report = audit(run.pipeline, bounded=True)
    assert report.balanced, report.summary()


def send(run: Running, records: Iterator[Record]) -> None:
    settings = {
        "compression.type": "zstd",
        "message.max.bytes": 100_000_000,
        "queue.buffering.max.kbytes": 200_000,
        # By their sizes before compression, so that a batch is of few records.
        "batch.size": 1_000_000,
    }
    producer = Producer({**topics.client_config(run.pipeline.kafka), **settings})
    for value, headers in records:
        while True:
            try:
                producer.produce(f"{run.pipeline.name}.in", value, headers=headers)
                break
            except BufferError:
                producer.poll(1)
        producer.poll(0)
    assert producer.flush(120) == 0
