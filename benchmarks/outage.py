"""Two pathways on two clusters, one of which is killed for a while: do results go on, are the books exact?"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from confluent_kafka import Consumer, TopicPartition
from rich.table import Table

from benchmarks.stage import PARTITIONS, Stage, feeding, stage
from surecount import topics
from surecount.audit import Report, audit
from surecount.config import Pipeline
from surecount.console import err, out
from surecount.generator.options import Options
from surecount.local.spec import SUPERVISOR
from surecount.local.stack import Stack
from surecount.ops.flink import Flink

IDLE_AFTER_S = 30
"""The default of pipelines."""
_WINDOW_MS = _INTERVAL_MS = 2_000
"""Short, since results wait for their window and for the checkpoints of three jobs, killed or not; with 5 s each, that
alone is as long as what a gap may be beyond ``idle_after``."""
_KEYS = 100

_PIPELINE = f"""
[source]
event_time = {{{{ field = "ts", unit = "ms" }}}}
event_id = "id"
out_of_orderness = "2 s"
idle_after = "{{idle_after_s}} s"

[[source.pathway]]
name = "east"
topics = ["outage.east"]

[[source.pathway]]
name = "west"
topics = ["outage.west"]
bootstrap_servers = "{{west}}"

[[aggregate]]
name = "totals"
key = ["key"]
sum = ["amount"]
window = "{_WINDOW_MS} ms"

[checkpoint]
interval = "{_INTERVAL_MS} ms"
"""


@dataclass(frozen=True, order=True)
class Gap:
    """A time without results, and when it ended, in s since sending began."""

    seconds: float = 0.0
    until_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.seconds:.1f}, until {self.until_s:.0f} s"


@dataclass(frozen=True)
class Outage:
    """What was seen: events sent on each pathway, the longest times without a result that could be read, before
    the kill, when JVMs are cold, and from then on, each with when it ended; restarts by job, and the audit."""

    events: int
    cold_gap: Gap
    gap: Gap
    allowed_s: int
    restarts: dict[str, int]
    report: Report


def run(rate: int, before_s: int, away_s: int, after_s: int, idle_after_s: int) -> None:
    """Print what was seen."""
    seen = measure(rate, before_s, away_s, after_s, idle_after_s)
    seen.report.print(out)
    table = Table(
        "events on each", "away s", "longest gap before, s", "from the kill on, s", "allowed s", "restarts",
        title=f"outage at {rate:,}/s from {before_s} s on",
    )  # fmt: skip
    restarts = ", ".join(f"{job} {number}" for job, number in seen.restarts.items())
    gaps = (str(seen.cold_gap), str(seen.gap))
    table.add_row(f"{seen.events:,}", str(away_s), *gaps, str(seen.allowed_s), restarts)
    out.print(table)


def measure(rate: int, before_s: int, away_s: int, after_s: int, idle_after_s: int) -> Outage:
    """Send all events on both pathways, the west one's cluster being killed with -9 and started again.

    No gap may be longer than ``idle_after_s``, the pipeline's, and 10 s.
    """
    with stage(slots=4) as on, _kafka_only(on) as west:
        pipeline, file = on.pipeline("outage", _PIPELINE.format(west=west.bootstrap_servers, idle_after_s=idle_after_s))
        jobs = {job: on.start(pipeline, file, job) for job in pipeline.jobs}
        start = time.time_ns() // 1_000_000 // _WINDOW_MS * _WINDOW_MS
        events = rate * (before_s + away_s + after_s)
        gaps = _Gaps(pipeline, before_s)
        with ExitStack() as feeders:
            for pathway in pipeline.pathways:
                options = Options(
                    events=events, keys=_KEYS, rate=rate, start_ms=start, partitions=PARTITIONS, pathway=pathway.name
                )
                feeder = feeders.enter_context(feeding(pipeline, options))
            threading.Thread(target=_outage, args=(west, before_s, away_s), daemon=True).start()
            with err.status(f"{rate:,} events/s on two pathways"):
                while feeder.is_alive():
                    gaps.poll()
        restarts = {job: _restarts(on.flink, job_id) for job, job_id in jobs.items()}
        gaps.close()
        with err.status("auditing"):
            report = audit(pipeline, timeout_s=240)
    return Outage(events, gaps.before, gaps.after, idle_after_s + 10, restarts, report)


def _restarts(flink: Flink, job_id: str) -> int:
    return int(flink.checkpoints(job_id)["counts"]["restored"])


@contextmanager
def _kafka_only(on: Stage) -> Iterator[Stack]:
    west = Stack(on.folder / "west", is_owned=True)
    west.up(flink=False, kafka_port=0)
    try:
        yield west
    finally:
        west.down(purge=True)


def _outage(west: Stack, before_s: int, away_s: int) -> None:
    """Kill the cluster, with what would start it again, and start it again later on its port."""
    time.sleep(before_s)
    port = int(west.bootstrap_servers.rpartition(":")[2])
    found = west.processes()
    for name in sorted(found, key=lambda name: name != SUPERVISOR):
        os.kill(found[name], signal.SIGKILL)
    time.sleep(away_s)
    west.up(flink=False, kafka_port=port)


class _Gaps:
    """Reads results as a user would; remembers the longest time without any that ended in the first ``split_s``
    seconds, and later."""

    def __init__(self, pipeline: Pipeline, split_s: float) -> None:
        self.before = self.after = Gap()
        self._split_s = split_s
        self._began = time.monotonic()
        self._last: float | None = None
        settings = {"group.id": "outage", "enable.auto.commit": False, "isolation.level": "read_committed"}
        self._consumer = Consumer({**topics.client_config(pipeline.kafka), **settings})
        found = topics.offsets(pipeline.kafka, [pipeline.topics.results])
        self._consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in found])

    def poll(self) -> None:
        if self._consumer.consume(10_000, 0.2):
            self._until_now()
            self._last = time.monotonic()

    def close(self) -> None:
        """Ends the last gap."""
        self._until_now()
        self._consumer.close()

    def _until_now(self) -> None:
        if self._last is None:
            return
        now = time.monotonic()
        gap = Gap(now - self._last, now - self._began)
        if gap.until_s < self._split_s:
            self.before = max(self.before, gap)
        else:
            self.after = max(self.after, gap)
