"""The SQL at the edges of the jobs."""

from __future__ import annotations

import pytest

from jobs import tables
from surecount import config

SHOP = {
    "name": "shop",
    "source": {"topics": ["in"], "event_time": "kafka", "event_id": "id", "idle_after": "7 s"},
    "aggregate": [{"name": "a", "key": ["k"], "window": "1 min"}],
}
PIPELINE = config.parse(SHOP, "shop.toml")


@pytest.mark.parametrize("job", ["ingest", "aggregate"])
def test_a_bounded_source_is_never_idle(job: str) -> None:
    # Flink drops the last watermark of a source that is idle, and the windows that it would close stay open.
    assert "idle-timeout" not in tables.source(PIPELINE, job, ["in"], bounded=True)
    assert "'scan.watermark.idle-timeout' = '7000 ms'" in tables.source(PIPELINE, job, ["in"], bounded=False)


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_sinks_compress_as_they_are_told(codec: str) -> None:
    told = config.parse({**SHOP, "sink": {"compression": codec}}, "shop.toml")
    sink = tables.sink(told, "aggregate", "results", "shop.results", key_value_type="STRING")
    assert f"'properties.compression.type' = '{codec}'" in sink
