"""The interceptor of Kafka's consumer: every polled record is in a pack, once and in order, and no pack is cut."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from surecount.local import flink
from surecount.local.prerequisites import find_java
from surecount.local.stack import Stack
from tests.unit.packing import Sent, unpacked
from tests.unit.test_contract import ODD
from tests.unit.test_decode import GOOD, NOW, SPEC
from udfs import packs
from udfs.decode import Batch, Decoder, Int64s
from udfs.headers import as_sent

PROGRAM = Path(__file__).with_name("packing") / "Pack.java"
LAYOUT = {"surecount.pack.layout": packs.LAYOUT, "surecount.pack.records": "20", "topic": "events"}

Polled = dict[int, list[Sent]]
"""Records by partition."""


class Pack:
    """A pack as the interceptor returns it: a record of Kafka's, and the records in it."""

    def __init__(self, line: str) -> None:
        partition, offset, kafka_ms, key, whole, *headers = line.split("\t")
        self.partition, self.offset, self.kafka_ms = int(partition), int(offset), int(kafka_ms)
        self.headers = {
            bytes.fromhex(name).decode(): _bytes(content)
            for name, content in zip(headers[::2], headers[1::2], strict=True)
        }
        self.whole = _bytes(whole)
        value = self.headers.get(packs.SKIMMED_HEADER, self.whole)
        further = (packs.KEYS_HEADER, packs.HEADER_LENGTHS_HEADER, packs.HEADER_BYTES_HEADER)
        contents = [_bytes(key), value, *(self.headers.get(name) for name in further)]
        found = packs.unpack(*(pa.array([c], pa.binary()) for c in contents))
        self.records = [one for _, one in unpacked(found)]
        self.wholes = [
            None if size < 0 else (self.whole or b"")[start : start + size]
            for start, size in zip(found.starts().tolist(), found.size.tolist(), strict=True)
        ]


def _bytes(digits: str) -> bytes | None:
    return None if digits == "-" else bytes.fromhex(digits)


def _digits(data: bytes | None) -> str:
    return "-" if data is None else data.hex()


def intercepted(polled: Polled, **settings: str) -> list[Pack]:
    """What the interceptor makes of one poll."""
    return [Pack(line) for line in _printed(polled, settings)]


def _printed(polled: Polled, settings: dict[str, str]) -> list[str]:
    """What comes of one poll, as the program prints it."""
    lines = [
        "\t".join(
            [
                *map(str, (partition, record.offset, record.kafka_ms)),
                *map(_digits, (record.key, record.value)),
                *(part for name, value in record.headers for part in (_digits(name.encode()), _digits(value))),
            ]
        )
        for partition, records in polled.items()
        for record in records
    ]
    command = [str(find_java()), "-cp", os.pathsep.join(map(str, flink.jars())), str(PROGRAM)]
    command += [f"{name}={value}" for name, value in (LAYOUT | settings).items()]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def made(count: int, chance: random.Random, *, size: int = 8) -> list[Sent]:
    """Records with gaps between their offsets, as transactions leave them, and anything in them."""

    def data() -> bytes | None:
        return chance.choice([None, b"", chance.randbytes(chance.randint(1, size))])

    offset = chance.randrange(1000)
    found = []
    for _ in range(count):
        names = chance.sample(["a", "a", "ü", "", packs.KEYS_HEADER, packs.SAMPLE_HEADER], chance.choice([0, 0, 3]))
        headers = tuple((name, data()) for name in names)
        found.append(Sent(data(), data(), headers, chance.choice([-1, 1, chance.randrange(1 << 62)]), offset))
        offset += chance.choice([1, 1, 1, 2, 50])
    return found


def test_every_record_is_in_a_pack_as_it_was() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    polled = {partition: made(count, chance) for partition, count in enumerate([1, 16, 17, 20, 1000])}
    found = intercepted(polled)
    for partition, records in polled.items():
        of_partition = [pack for pack in found if pack.partition == partition]
        assert [record for pack in of_partition for record in pack.records] == records
        for pack in of_partition:
            last = pack.records[-1]
            assert (pack.offset, pack.kafka_ms) == (last.offset, last.kafka_ms)
            assert (pack.headers.get(packs.SAMPLE_HEADER) or b"") == (last.value or b"")
            own = {n: v for n, v in last.headers if not n.startswith("surecount.pack")}
            assert {n: v for n, v in pack.headers.items() if not n.startswith("surecount.pack")} == own
        # Of few each is by itself, and so can move the watermark.
        assert max(len(pack.records) for pack in of_partition) == (1 if len(records) <= 16 else min(len(records), 20))


def test_the_youngest_record_can_be_the_sample() -> None:
    # Those at the end are no times, however young.
    stamps = [NOW + at % 7 if at < 15 else NOW * 1000 for at in range(20)]
    records = [Sent(b"%d" % at, kafka_ms=ms, offset=at, headers=(("at", b"%d" % at),)) for at, ms in enumerate(stamps)]
    [pack] = intercepted({0: records}, **{"surecount.pack.sample": "youngest"})
    sample = (pack.kafka_ms, pack.headers["at"], pack.headers[packs.SAMPLE_HEADER], pack.offset)
    assert sample == (NOW + 6, b"6", b"6", 19)


OWN_NAMES = [
    "x",
    "surecount",
    "producer.x",
    "surecount.",
    "surecount.topic",
    "producer.surecount.topic",
    "surecount.ü\n",
]
KEPT_NAMES = ["x", "surecount", "producer.x", "producer.surecount.", "producer.surecount.topic",
    "producer.producer.surecount.topic", "producer.surecount.ü\n"]  # fmt: skip
NAMED = [
    [Sent(b"1", headers=tuple((name, b"%d" % n) for n, name in enumerate(names))), Sent(b"2", headers=(("a", None),))]
    for names in (OWN_NAMES, KEPT_NAMES)
]


@pytest.mark.parametrize(("topics", "kept"), [("other;events", NAMED[1]), ("other", NAMED[0])])
def test_headers_named_as_ours_are_put_aside_in_topics_of_others(topics: str, kept: list[Sent]) -> None:
    found = intercepted({0: NAMED[0]}, **{"surecount.pack.foreign": topics})
    assert [record for pack in found for record in pack.records] == kept
    for name, given in zip(OWN_NAMES, KEPT_NAMES, strict=True):
        assert as_sent(given) == name


def test_a_relay_puts_them_aside_before_it_adds_its_own() -> None:
    lines = [line.split("\t") for line in _printed({0: NAMED[0], 3: NAMED[0]}, {"aside": ""})]
    headers = [tuple(zip(line[5::2], line[6::2], strict=True)) for line in lines]
    named = [tuple((name.encode().hex(), _digits(value)) for name, value in sent.headers) for sent in NAMED[1]]
    assert sorted(headers) == sorted(named * 2)
    assert sorted((line[0], line[4]) for line in lines) == [(p, v) for p in "03" for v in ("31", "32")]


def test_a_pack_of_large_records_holds_fewer_and_not_each_is_looked_into() -> None:
    # Two of these are 32 KiB, with what the index says of them.
    most = (32 << 10) // 2 - packs.ENTRY.itemsize
    found = intercepted({size: [Sent(bytes(size), offset=at) for at in range(42)] for size in (most, most + 1)})
    in_pairs, alone = ([pack for pack in found if pack.partition == size] for size in (most, most + 1))
    assert [len(pack.records) for pack in in_pairs] == [2] * 21
    assert [at for at, pack in enumerate(in_pairs) if packs.SAMPLE_HEADER in pack.headers] == [7, 15, 20]
    assert [len(pack.records) for pack in alone] == [1] * 42
    assert [at for at, pack in enumerate(alone) if packs.SAMPLE_HEADER in pack.headers] == [15, 31, 41]


SKIMMED: dict[str, str | None] = {
    '{"ts":1,"x":{"ts":[1,{"a":null}]},"amount":-2.5e3}': '{"ts":1,"amount":-2.5e3}',
    ' { "x" : [ ] , "ts" :\t[ 1, true ] , "amount" : "\\u0031" } \n': None,
    ' { "x" : [ ] , "ts" :\t[ 1, true ] , "amount" : "\\n" } \n': '{"ts" :\t[ 1, true ],"amount" : "\\n"}',
    '{"ts":1,"ts":2,"x":"ü€😀","Größe":"ü"}': '{"ts":1,"ts":2,"Größe":"ü"}',
    '{"x":"\\"","y":"\\\\","ts":"\\/"}': '{"ts":"\\/"}',
    '{"x":-0.0,"y":1E+5,"z":0e-1,"ts":false}': '{"ts":false}',
    '{"x":1}': "{}",
    '{"x\\n":1}': None,
    '{"x":{"\\u0074s":1}}': None,
    '{"x":"a\nb"}': None,
    '{"x":"\x7f"}': "{}",
    '{"x":NaN}': None,
    '{"x":01}': None,
    '{"x":1.}': None,
    '{"x":-}': None,
    '{"x":+1}': None,
    '{"x":.5}': None,
    '{"x":1e}': None,
    '{"x":tru}': None,
    '{"x":nul}': None,
    '{"x":[1,]}': None,
    '{"x":[1}]': None,
    '{"x":{"a":1,}}': None,
    '{"x":{1:1}}': None,
    '{"x":"a}': None,
    '{"x":"\\x"}': None,
    '{"x":1,}': None,
    '{"x" 1}': None,
    '{"x":}': None,
    '{"x":1}{': None,
    '{"x":1} x': None,
    '["x"]': None,
    '"x"': None,
    '{"x":%s}' % ("[" * 63 + "]" * 63): "{}",
    '{"x":%s}' % ("[" * 64 + "]" * 64): None,
    '{"x":%s}' % ('{"a":' * 62 + "1" + "}" * 62): "{}",
}
"""What is left of values with a long string before ``x``, or None where they stay whole."""


def test_members_that_no_field_is_in_are_left_out_of_what_is_json_beyond_doubt() -> None:
    padded = [whole.replace('"x"', '"pad":"%s","x"' % ("x" * 1000), 1) for whole in SKIMMED]
    polled = {number: [Sent(whole.encode())] for number, whole in enumerate(padded)}
    found = {pack.partition: pack for pack in intercepted(polled, **FIELDS)}
    left = [found[number].records[0].value for number in range(len(padded))]
    expected = [whole if wanted is None else wanted for whole, wanted in zip(padded, SKIMMED.values(), strict=True)]
    assert left == [value.encode() for value in expected]
    assert [found[number].wholes for number in range(len(padded))] == [[whole.encode()] for whole in padded]


FIELDS = {"surecount.pack.fields": '"'.join(("ts", "amount", "Größe"))}


def test_what_is_left_of_a_value_is_judged_as_the_whole() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    sent = [Sent(document(chance), offset=at) for at in range(6000)]
    fields = '"'.join({field.parts[0] for field in SPEC.fields})
    found = intercepted({0: sent}, **{"surecount.pack.fields": fields, "surecount.pack.records": "1"})
    whole = [value for pack in found for value in pack.wholes]
    left = [record.value for pack in found for record in pack.records]
    assert whole == [record.value for record in sent]
    sizes = np.array([len(value or b"") for value in whole])
    assert np.count_nonzero([len(value or b"") < size / 2 for value, size in zip(left, sizes, strict=True)]) > 1000
    judged = [judge(values, sizes) for values in (whole, left)]
    assert len(set(judged[0])) > 10, "of many kinds"
    for value, *verdicts in zip(whole, *judged, strict=True):
        assert verdicts[0] == verdicts[1], value


def judge(values: Sequence[bytes | None], sizes: Int64s) -> list[str]:
    """What the decoder finds in each of them by itself: its fields, or what is wrong with it."""
    decode = Decoder(SPEC)
    verdicts = []
    for value, size in zip(values, sizes, strict=True):
        columns, rejected = decode(Batch(pa.array([value], pa.binary()), np.array([NOW]), np.array([size])))
        fields = {path: column.to_pylist() for path, column in columns.fields.items()}
        verdicts.append(f"{rejected[0].reason}: {rejected[0].detail}" if rejected else f"{columns.time_ms} {fields}")
    return verdicts


def document(chance: random.Random) -> bytes:
    """A record with members that nobody reads, most often long ones; every other one is damaged somewhere."""
    members = [*GOOD.items()] + [(f"x{number}", anything(chance)) for number in range(chance.randrange(4))]
    members.append(("pad", "x" * chance.choice([0, 1000, 3000])))
    chance.shuffle(members)
    text = json.dumps(
        dict(members), indent=chance.choice([None, 0, 1]), ensure_ascii=chance.random() < 0.3, allow_nan=True
    )
    value = text.encode(errors="replace")
    if chance.random() < 0.5:
        # Near one of the ends of a long run of characters, where most is.
        at = chance.choice([*(m.start() for m in re.finditer(rb"[^x]", value))]) + chance.randint(0, 1)
        value = value[:at] + chance.choice(ODD) + value[at + chance.choice([0, 0, 1, 2, 6]) :]
    return value


def anything(chance: random.Random, level: int = 0) -> Any:
    """A value of JSON, and some that are none."""
    match chance.randrange(9 if level < 3 else 7):
        case 0:
            return chance.choice([None, True, False])
        case 1:
            return chance.randint(-(10 ** chance.randrange(1, 40)), 10**20)
        case 2:
            return chance.choice([chance.uniform(-1, 1), 1e300, -5e-324, 0.0, float("nan")])
        case 7:
            return [anything(chance, level + 1) for _ in range(chance.randrange(4))]
        case 8:
            return {chance.choice([*GOOD, "x", "ü"]): anything(chance, level + 1) for _ in range(chance.randrange(4))}
        case _:
            alphabet = chance.choice(["abc", '"\\/\n\t\x7fü€😀{}[],: ', "\x00\x1f"])
            return "".join(chance.choices(alphabet, k=chance.choice([1, 10, 100])))


def test_no_pack_reaches_beyond_the_end_where_a_bounded_source_may_stop(stack: Stack) -> None:
    servers = {"bootstrap.servers": stack.bootstrap_servers}
    ends = {0: 30, 1: 0, 2: 45}
    admin = AdminClient(servers)
    admin.create_topics([NewTopic("events-bounded", 3)])["events-bounded"].result(timeout=10)
    producer = Producer(servers)
    for partition, end in ends.items():
        for _ in range(end):
            producer.produce("events-bounded", b"there", partition=partition)
    producer.flush()
    polled = {partition: [Sent(b"later", offset=at) for at in range(100)] for partition in ends}
    deserializer = "org.apache.flink.kafka.shaded.org.apache.kafka.common.serialization.ByteArrayDeserializer"
    found = intercepted(
        polled,
        topic="events-bounded",
        **{"surecount.pack.bounded": "events-bounded", "key.deserializer": deserializer},
        **{"value.deserializer": deserializer, **servers},
    )
    for partition, end in ends.items():
        packed = [[record.offset for record in pack.records] for pack in found if pack.partition == partition]
        assert [offset for offsets in packed for offset in offsets] == [*range(100)]
        assert [len(offsets) for offsets in packed] == [*_lengths(end), *[1] * (100 - end)]


def _lengths(end: int) -> Sequence[int]:
    edges = [*range(0, end, 20), end]
    return [last - first for first, last in pairwise(edges)]


@pytest.mark.parametrize("layout", ["2", "4"])
def test_a_job_of_another_layout_is_refused(layout: str) -> None:
    with pytest.raises(AssertionError, match="job and jar have to be of one version"):
        intercepted({0: [Sent()]}, **{"surecount.pack.layout": layout})
