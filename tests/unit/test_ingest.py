"""What moves the watermark of the ingest job."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.ingest import event_times
from surecount import config
from udfs.event_times import OfRecords

FAR = {"bootstrap_servers": "far:9092"}


@pytest.mark.parametrize(
    ("pathways", "bounded", "expected"),
    [
        ([{}, {}], False, OfRecords()),
        ([FAR, FAR], False, OfRecords()),
        ([{}, FAR], False, OfRecords(5_000, 1_800_000)),
        ([{}, FAR], True, OfRecords()),
    ],
)
def test_a_late_relay_is_not_waited_for_beside_a_pathway_without_one(
    pathways: list[dict[str, str]], bounded: bool, expected: OfRecords
) -> None:
    shop: dict[str, Any] = {
        "name": "shop",
        "source": {
            "event_time": {"field": "ts", "unit": "ms"},
            "idle_after": "10 s",
            "horizon": "1 h",
            "pathway": [{"name": f"p{n}", "topics": [f"in{n}"], **more} for n, more in enumerate(pathways)],
        },
        "aggregate": [{"name": "a", "key": ["k"], "window": "1 min"}],
    }
    assert event_times(config.parse(shop, "shop.toml"), bounded=bounded) == expected
