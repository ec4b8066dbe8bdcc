"""Every bad input through a real job: its reason, its bytes, its origin; and the good ones beside it count."""

from __future__ import annotations

import json
from collections.abc import Callable

from confluent_kafka import Producer

from surecount import topics
from surecount.audit import audit
from tests.conftest import Running
from tests.unit.test_decode import BAD, FINE, GOOD

PIPELINE = """
[source]
topics = ["NAME.in"]
event_time = { field = "ts", unit = "ms" }

[[aggregate]]
name = "a"
key = ["customer", { field = "shop.id", type = "int" }]
sum = ["amount", { field = "shop.tax", type = "decimal", scale = 2 }, { field = "weight", type = "float" }]
window = "1 min"

[[aggregate]]
name = "b"
key = ["customer"]
window = "1 h"
"""


def test_every_bad_input_is_rejected_byte_for_byte_and_the_books_balance(make: Callable[..., Running]) -> None:
    run = make(PIPELINE)
    now = GOOD["ts"]
    topic = f"{run.pipeline.name}.in"
    producer = Producer({**topics.client_config(run.pipeline.kafka), "message.max.bytes": 8 << 20})
    good = json.dumps(GOOD).encode()
    sent: dict[bytes, tuple[bytes | None, str]] = {}
    headers = [("trace", b"\x00\xff"), ("empty", b"")]
    # Of a long record only what is read crosses to Python, where the rest is JSON.
    long = {
        f"long, {name}": (value.replace(b"{", b'{"note": "%s\xc3\xbc", ' % (b"x" * 2000), 1), reason)
        for name, (value, reason) in BAD.items()
        if value is not None and value.startswith(b'{"')
    }
    bad = BAD | long
    for name, (value, reason) in bad.items():
        key = name.encode()
        sent[key] = (value, reason)
        producer.produce(topic, value, key, timestamp=now, headers=headers)
        producer.produce(topic, good, b"good", timestamp=now)
    for value, _, _ in FINE.values():
        producer.produce(topic, value, None, timestamp=now)
    producer.produce(topic, b"no key", None, timestamp=now)
    producer.flush()

    job = run.submit(bounded=True)

    assert run.flink.checkpoints(job)["counts"]["restored"] == 0, "no input restarts the job"
    rejects = run.read(run.pipeline.topics.rejects)
    assert len(rejects) == len(bad) + 1
    for message in rejects:
        if message.key() is None:
            assert message.value() == b"no key"
            continue
        value, reason = sent.pop(message.key())
        assert message.value() == value
        found = dict(message.headers())
        assert found["surecount.reason"].decode() == reason
        assert (found["trace"], found["empty"]) == (b"\x00\xff", b"")
        assert found["surecount.topic"].decode() == f"{run.pipeline.name}.in"
        assert found["surecount.timestamp"] == str(now).encode()
        assert found["surecount.job"].decode() == f"{run.pipeline.name}.aggregate"
        assert {"surecount.partition", "surecount.offset", "surecount.detail", "surecount.version"} <= set(found)
    assert sent == {}
    report = audit(run.pipeline, bounded=True)
    assert report.balanced, report.summary()
    counts = sum(json.loads(m.value())["count"] for m in run.read(run.pipeline.topics.results)
                 if json.loads(m.value())["aggregate"] == "a")  # fmt: skip
    assert counts == len(bad) + len(FINE)


def test_an_own_decode_function_is_shipped_to_the_workers(make: Callable[..., Running]) -> None:
    from surecount import templates

    run = make(
        """
        [source]
        topics = ["NAME.in"]
        decode = "udfs.shipped:decode_fast"
        event_time = { field = "ts", unit = "ms" }
        [[aggregate]]
        name = "a"
        key = ["customer"]
        sum = ["amount"]
        window = "1 min"
        """
    )
    templates.write(run.file.parent, "shipped")
    now = GOOD["ts"]
    producer = Producer(topics.client_config(run.pipeline.kafka))
    for value in (b"%d,ada,5" % now, b"%d,ada,7" % now, b"junk", b"%d,bob,x" % now):
        producer.produce(f"{run.pipeline.name}.in", value, timestamp=now)
    producer.flush()
    run.submit(bounded=True)
    (result,) = run.read(run.pipeline.topics.results)
    assert json.loads(result.value())["sum"] == {"amount": 12}
    rejects = run.read(run.pipeline.topics.rejects)
    assert sorted(m.value() for m in rejects) == sorted([b"junk", b"%d,bob,x" % now])
    assert {dict(m.headers())["surecount.reason"] for m in rejects} == {b"decode_failed"}
    assert all(b"x" in dict(m.headers())["surecount.detail"] or m.value() == b"junk" for m in rejects)
