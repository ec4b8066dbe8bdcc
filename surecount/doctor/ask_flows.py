"""What a job's metrics tell of records and event time, over Flink's REST API."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from surecount.doctor.facts import Flow, Split
from surecount.ops.flink import Flink, Spread
from udfs import flows

# Of the operators that act on it. Flink drops a watermark that comes from an operator whose input is idle by then, so
# sinks may never see one.
_WATERMARK = re.compile(r"^(?:windows|deduplicate)\.currentInputWatermark$")
_PENDING = ".pendingRecords"
_READ_RATE = ".KafkaConsumer.records-consumed-rate"
# Flink's own source has such metrics, too, of watermarks that it does not make.
_SPLIT = re.compile(r"\bwatermarks\.split\.(.+)\.watermark\.(currentWatermark|idleTimeMsPerSecond)$")
_FLOW = re.compile(rf"\.{flows.FLOWS}\.({'|'.join(flows.SPANS_S)})\.(\w+)$")
_WAITING = re.compile(rf"\.{flows.WINDOWS}\.(newest|since|moved)$")
# Flink has the least and the greatest long for a watermark that is not there yet, and for that of the end.
_NO_TIME = 9e18
# Over the last minute.
_IDLE_MS_PER_SECOND = 900


def flow(flink: Flink, job_id: str, topics: Collection[str], vertices: Mapping[str, Sequence[str]]) -> Flow:
    """The flow of a job that reads ``topics``; ``vertices`` are the names of each vertex's metrics."""
    wanted = {vertex: [name for name in names if _is_told(name)] for vertex, names in vertices.items()}
    return flow_of([flink.spreads(job_id, vertex, names) for vertex, names in wanted.items()], topics)


def flow_of(vertices: Sequence[Mapping[str, Spread]], topics: Collection[str]) -> Flow:
    """The same, of the values of each vertex's metrics."""
    found = {name: spread for of_vertex in vertices for name, spread in of_vertex.items()}
    marks = [spread.min for name, spread in found.items() if _WATERMARK.search(name)]
    # Of several subtasks what says least.
    waiting = {match[1]: _time(spread.max) for match, spread in _matches(_WAITING, found)}
    return Flow(
        watermark_ms=_time(min(marks, default=None)),
        splits=_splits(found, topics),
        pending=sum(spread.sum for name, spread in found.items() if name.endswith(_PENDING)),
        rate=sum(spread.sum for name, spread in found.items() if name.endswith(_READ_RATE)),
        newest_ms=waiting.get("newest"),
        since_ms=waiting.get("since"),
        moved_ms=waiting.get("moved"),
        **_counts(found),
    )


def _is_told(name: str) -> bool:
    return name.endswith((_PENDING, _READ_RATE)) or any(of.search(name) for of in (_WATERMARK, _SPLIT, _FLOW, _WAITING))


def _matches(pattern: re.Pattern[str], found: Mapping[str, Spread]) -> Iterator[tuple[re.Match[str], Spread]]:
    for name, spread in found.items():
        if match := pattern.search(name):
            yield match, spread


def _time(value: float | None) -> int | None:
    return None if value is None or value <= 0 or value > _NO_TIME else int(value)


def _splits(found: Mapping[str, Spread], topics: Collection[str]) -> dict[str, Split]:
    told: dict[str, dict[str, float]] = {}
    for match, spread in _matches(_SPLIT, found):
        told.setdefault(match[1], {})[match[2]] = spread.max
    return {
        _partition(name, topics): Split(
            _time(of.get("currentWatermark")), of.get("idleTimeMsPerSecond", 0) >= _IDLE_MS_PER_SECOND
        )
        for name, of in told.items()
    }


def _partition(split: str, topics: Collection[str]) -> str:
    """A partition as people write it: in a metric's name, dots are underscores."""
    name, _, number = split.rpartition("-")
    topic = next((topic for topic in topics if re.sub(r"[^\w-]", "_", topic) == name), name)
    return f"{topic} partition {number}"


def _counts(found: Mapping[str, Spread]) -> dict[str, Any]:
    """Events by kind: in the recent span, and in the rest of the long one. Flink tells a rate over each span."""
    counted: dict[str, dict[str, int]] = {name: {} for name in flows.SPANS_S}
    for match, spread in _matches(_FLOW, found):
        of_span = counted[match[1]]
        of_span[match[2]] = of_span.get(match[2], 0) + round(spread.sum * flows.SPANS_S[match[1]])
    recent = counted["recent"]
    before = {kind: max(0, number - recent.get(kind, 0)) for kind, number in counted["long"].items()}
    return {"recent": recent, "before": before}
