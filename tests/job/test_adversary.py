"""A producer that means harm: whatever it sends, no job restarts, and the books balance."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from surecount import topics
from surecount.audit import audit
from surecount.audit.report import Report
from surecount.waiting import wait_until
from tests.conftest import Running
from tests.unit.test_decode import BAD, FINE

AGGREGATES = """
[[aggregate]]
name = "a"
key = ["名前", "a{0}b"]
sum = ["100%", { field = "{}.%s", type = "decimal", scale = 2 }, { field = "<w>", type = "float" }]
window = "5 s"

[[aggregate]]
name = "b"
key = ["名前"]
window = "30 d"

[checkpoint]
interval = "1 s"
"""
SOURCE = """
[source]
topics = ["NAME.in"]
event_time = { field = "{ts}.$", unit = "ms" }
out_of_orderness = "1 s"
idle_after = "2 s"
max_ahead = "1 d"
"""
OWN = '''
"""A user's function that does whatever it is told to."""

import json


class UntoldError(Exception):
    def __str__(self):
        raise self


class Odd(dict):
    def __contains__(self, name):
        raise SystemExit(name)


def decode(value):
    document = json.loads(value)
    match document.get("do"):
        case "surrogate":
            raise ValueError("\\ud800")
        case "untold":
            raise UntoldError
        case "long":
            raise ValueError("\\t\\n\\x00" + "x" * 3_000_000)
        case "exit":
            raise SystemExit(1)
        case "deep":
            return decode(value)
        case "odd":
            return Odd(document)
        case "generator":
            return (x for x in value)
    return document
'''
DEEDS = ["surrogate", "untold", "long", "exit", "deep", "odd", "generator"]
TEXTS = ["ada", "", "\x00", "a\tb\nc", 'q"\\u', "{}", "%s", "名前", "ا\u202eب", "😀", "\ud7ff", "x" * 200_000, "\u2028"]


class Adversary:
    """Sends to a pipeline's topic what a seed says."""

    def __init__(self, run: Running) -> None:
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        self.sent = 0
        self._chance = random.Random(seed)
        self._topic = f"{run.pipeline.name}.in"
        self._producer = Producer({**topics.client_config(run.pipeline.kafka), "message.max.bytes": 8 << 20})

    def send(self, rounds: int) -> None:
        """All kinds of values, so many times, each with any key, headers and timestamp."""
        chance = self._chance
        for _ in range(rounds):
            values = [*self._values()]
            chance.shuffle(values)
            for value in values:
                key = chance.choice(
                    [None, b"", b"key", chance.randbytes(9), b"k" * 300_000 if not self.sent % 97 else b"k"]
                )
                stamp = chance.choice([0, 0, 0, -1, 1, int(time.time()), int(time.time() * 1000) - 9_000_000])
                self._producer.produce(self._topic, value, key, headers=self._headers(), timestamp=stamp)
                self.sent += 1
            self._producer.flush()

    def _headers(self) -> list[tuple[str, bytes | None]]:
        chance = self._chance
        names = ["", "a", "a", "ü", "x" * 300, *(f"surecount.{n}" for n in ("topic", "offset", "watermark", "relayed"))]
        names += ["surecount.replayed", "surecount.pack.sample", "surecount.pack.keys", "producer.surecount.topic"]
        contents = [None, b"", b"1", b"\xff\x00", b"1 2 3 in", b"99999999999999999999", b"{" * 3000]
        return [(chance.choice(names), chance.choice(contents)) for _ in range(chance.choice([0, 0, 1, 3, 9]))]

    def _values(self) -> Iterator[bytes | None]:
        chance = self._chance
        yield from (value for value, _ in BAD.values())
        yield from (value for value, *_ in FINE.values())
        yield from (chance.randbytes(size) for size in (1, 2, 7, 300, 3000))
        yield from (b"[" * 500_000, b'{"a":' * 100_000, b'"' * 300_000, b'{"a"' + b" " * 300_000)
        good = self._document()
        text = json.dumps(good).encode()
        yield text[:-1] + b"," + b",".join(b'"x%d":1' % n for n in range(30_000)) + b"}"
        yield text[:-1] + b"," + b",".join(b'"x":1' for _ in range(60_000)) + b"}"
        yield text.replace(b'"1.5"', b'"' + b"1" * 500_000 + b'x"')
        yield text.replace(b'"1.5"', b"9" * 500_000)
        now = int(time.time() * 1000)
        for at in (
            -1,
            0,
            1,
            now // 1000,
            now * 1000,
            253_370_764_799_999,
            253_370_764_800_000,
            1 << 62,
            10**40,
            now + 10**8,
        ):
            yield json.dumps(self._document() | {"{ts}": {"$": at}}).encode()
        for name, value in (
            ("名前", 5),
            ("a{0}b", None),
            ("100%", 10**38),
            ("100%", 1e400),
            ("{}", {"%s": "1e9999999"}),
            ("<w>", float("nan")),
        ):
            yield json.dumps(self._document() | {name: value}).encode()
        for deed in DEEDS:
            yield json.dumps(self._document() | {"do": deed}).encode()
        for name in TEXTS:
            yield json.dumps(self._document() | {"名前": name}, ensure_ascii=chance.choice([True, False])).encode()
        for _ in range(300):
            yield json.dumps(self._document()).encode()

    def _document(self) -> dict[str, Any]:
        chance = self._chance
        return {
            "{ts}": {"$": int(time.time() * 1000) - chance.choice([0, 0, 0, 10_000, 10**9])},
            "名前": chance.choice(["ada", "bob"]),
            "a{0}b": chance.choice(["{}", "%s", "😀"]),
            "100%": chance.choice([1, -5, 10**37, -(1 << 64)]),
            "{}": {"%s": chance.choice(["1.5", 2, -0.25, "1e20"])},
            "<w>": chance.choice([0.1, 1e308, 5e-324, -3, 10**30]),
            "id": chance.choice([chance.randbytes(8).hex(), "twice", ""]),
        }


def counted(report: Report) -> int:
    return report.ingest.total.raw_in if report.ingest else report.books[0].records_in


def test_json_is_judged_record_by_record(make: Callable[..., Running]) -> None:
    run = make(SOURCE + AGGREGATES)
    adversary = Adversary(run)
    adversary.send(3)
    job = run.submit(bounded=True)
    assert run.flink.checkpoints(job)["counts"]["restored"] == 0
    report = audit(run.pipeline, bounded=True)
    assert report.balanced, (report.summary(), report.differences)
    assert counted(report) == adversary.sent
    assert not report.notes
    assert report.books[0].results > 500


def test_a_user_s_function_may_do_anything_while_records_are_ingested(
    make: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(SOURCE + 'decode = "NAME_own:decode"\nevent_id = "id"\n' + AGGREGATES)
    (run.file.parent / f"{run.pipeline.name}_own.py").write_text(OWN)
    monkeypatch.syspath_prepend(run.file.parent)
    jobs = run.submit_all()
    adversary = Adversary(run)
    for _ in range(3):
        adversary.send(1)

    def all_counted() -> Report | None:
        report = audit(run.pipeline)
        return report if counted(report) == adversary.sent else None

    report = wait_until(all_counted, 90, "all records to be in the books", poll_s=1)
    assert report.balanced, (report.summary(), report.differences)
    assert report.rejected_by_reason["decode_failed"] > len(DEEDS)
    assert "internal_error" not in report.rejected_by_reason
    assert [run.flink.checkpoints(job)["counts"]["restored"] for job in jobs.values()] == [0, 0]
    for message in run.read(run.pipeline.topics.rejects):
        detail = dict(message.headers())["surecount.detail"].decode()
        assert len(detail) <= 1000 and detail.isprintable()
