"""Counts and sums by Quix Streams, exactly once: re-keyed through a repartition topic, then in tumbling windows.

https://quix.io/docs/quix-streams/windowing.html and groupby.html, configuration.html beside it.
Run with the work as JSON, and the number of this process.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

from quixstreams import Application
from quixstreams.dataframe.windows import Count, Sum

from benchmarks.peers.work import Work, from_json, key_fields, result


def main(work: Work, process: int) -> None:
    """Work until SIGTERM."""
    app = Application(
        broker_address=work.bootstrap_servers,
        consumer_group=work.results,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=work.checkpoint_ms / 1_000,
        # Each process has state of its own, and takes what others had from the changelog.
        state_dir=work.folder / f"state-{process}",
    )
    source = app.topic(work.source, timestamp_extractor=_ts if work.event_time == "field" else None)
    fields = key_fields(work)

    def keyed(event: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"key": f"{n}|{event[field]}", "amount": event["amount"]} for n, field in enumerate(fields)]

    def total(window: dict[str, Any], key: str, _ts: int, _headers: object) -> dict[str, Any]:
        number, name = key.split("|", 1)
        return result(work, int(number), name, window["start"], window["count"], window["sum"])

    (
        app.dataframe(source)
        .apply(keyed, expand=True)
        # Events of a key may stand in several partitions.
        .group_by("key")
        .tumbling_window(timedelta(milliseconds=work.window_ms), timedelta(milliseconds=work.out_of_orderness_ms))
        .agg(count=Count(), sum=Sum("amount"))
        .final()
        .apply(total, metadata=True)
        .to_topic(app.topic(work.results, key_serializer="str"))
    )
    app.run()


def _ts(value: dict[str, Any], _headers: object, _timestamp: float, _type: object) -> int:
    ts: int = value["ts"]
    return ts


if __name__ == "__main__":
    main(from_json(sys.argv[1]), int(sys.argv[2]))
