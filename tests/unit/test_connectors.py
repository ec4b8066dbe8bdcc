"""Properties of the consumers and producers that jobs have."""

from __future__ import annotations

from argparse import Namespace

import pytest

from jobs import connectors
from surecount import config

SHOP = {
    "name": "shop",
    "source": {"topics": ["in"], "event_time": "kafka", "event_id": "id", "discover_partitions_every": "7 s"},
    "aggregate": [{"name": "a", "key": ["k"], "window": "1 min"}],
}
PIPELINE = config.parse(SHOP, "shop.toml")


def read(topics: list[str], *, bounded: bool = False) -> dict[str, str]:
    arguments = Namespace(bounded=bounded, generation=0, moved=[])
    return connectors.packing_properties(PIPELINE, "ingest", topics, arguments, uid="1_kafka", projected=False)


def test_a_bounded_source_looks_for_no_partitions() -> None:
    assert "partition.discovery.interval.ms" not in read(["in"], bounded=True)
    assert read(["in"])["partition.discovery.interval.ms"] == "7000"


@pytest.mark.parametrize(
    ("topics", "foreign"),
    [
        (["in"], "in"),
        ([PIPELINE.topics.clean], None),
        ([PIPELINE.topics.replay], None),
        (["a", "shop.clean", "b"], "a;b"),
    ],
)
def test_headers_are_put_aside_in_topics_of_others(topics: list[str], foreign: str | None) -> None:
    assert read(topics).get("surecount.pack.foreign") == foreign


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_sinks_compress_as_they_are_told(codec: str) -> None:
    told = config.parse({**SHOP, "sink": {"compression": codec}}, "shop.toml")
    assert connectors.producer_properties(told)["compression.type"] == codec
