"""The interceptor of Kafka's consumer: every polled record is in a pack, once and in order, and no pack is cut."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from surecount.local import flink
from surecount.local.prerequisites import find_java
from surecount.local.stack import Stack
from tests.unit.packing import Sent, unpacked
from udfs import packs

PROGRAM = Path(__file__).with_name("packing") / "Pack.java"
LAYOUT = {"surecount.pack.layout": packs.LAYOUT, "surecount.pack.records": "20", "topic": "events"}

Polled = dict[int, list[Sent]]
"""Records by partition."""


class Pack:
    """A pack as the interceptor returns it: a record of Kafka's, and the records in it."""

    def __init__(self, line: str) -> None:
        partition, offset, kafka_ms, key, value, *headers = line.split("\t")
        self.partition, self.offset, self.kafka_ms = int(partition), int(offset), int(kafka_ms)
        self.headers = {
            bytes.fromhex(name).decode(): _bytes(content)
            for name, content in zip(headers[::2], headers[1::2], strict=True)
        }
        further = (packs.KEYS_HEADER, packs.HEADER_LENGTHS_HEADER, packs.HEADER_BYTES_HEADER)
        contents = [_bytes(key), _bytes(value), *(self.headers.get(name) for name in further)]
        self.records = [one for _, one in unpacked(packs.unpack(*(pa.array([c], pa.binary()) for c in contents)))]


def _bytes(digits: str) -> bytes | None:
    return None if digits == "-" else bytes.fromhex(digits)


def _digits(data: bytes | None) -> str:
    return "-" if data is None else data.hex()


def intercepted(polled: Polled, **settings: str) -> list[Pack]:
    """What the interceptor makes of one poll."""
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
    return [Pack(line) for line in done.stdout.splitlines()]


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
    records = [Sent(b"%d" % at, kafka_ms=at % 7, offset=at, headers=(("at", b"%d" % at),)) for at in range(20)]
    [pack] = intercepted({0: records}, **{"surecount.pack.sample": "youngest"})
    sample = (pack.kafka_ms, pack.headers["at"], pack.headers[packs.SAMPLE_HEADER], pack.offset)
    assert sample == (6, b"6", b"6", 19)


def test_a_pack_of_large_records_holds_fewer_and_not_each_is_looked_into() -> None:
    records = [Sent(bytes(40_000), offset=at) for at in range(42)]
    found = intercepted({0: records})
    assert [len(pack.records) for pack in found] == [2] * 21
    assert [at for at, pack in enumerate(found) if packs.SAMPLE_HEADER in pack.headers] == [7, 15, 20]


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


@pytest.mark.parametrize("layout", ["0", "2"])
def test_a_job_of_another_layout_is_refused(layout: str) -> None:
    with pytest.raises(AssertionError, match="job and jar have to be of one version"):
        intercepted({0: [Sent()]}, **{"surecount.pack.layout": layout})
