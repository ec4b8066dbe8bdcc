"""surecount itself as a peer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

import orjson

from benchmarks.peers.on_flink import FlinkRun, running
from benchmarks.peers.peer import About, Peer, Result
from benchmarks.peers.work import Work, key_fields
from benchmarks.stage import Stage
from surecount import __version__
from surecount.ops.submit import submit

_SOURCE = """
[source]
topics = ["{source}"]
event_time = {event_time}
out_of_orderness = "{out_of_orderness_ms} ms"

[topics]
results = "{results}"
corrections = "{results}.corrections"
rejects = "{results}.rejects"

[checkpoint]
interval = "{checkpoint_ms} ms"
"""
_AGGREGATE = """
[[aggregate]]
name = "totals_{number}"
key = ["{key}"]
sum = ["amount"]
window = "{window_ms} ms"
"""


@dataclass(frozen=True)
class Ours(Peer):
    """Pipelines of surecount on the Flink of a stage, named like their topics of results.

    Those need ``message.timestamp.type=LogAppendTime``: surecount refuses another.
    """

    stage: Stage

    @property
    def about(self) -> About:
        """What it is."""
        return About("surecount", __version__, "exactly-once")

    def start(self, work: Work) -> FlinkRun:
        """Start a run. Raises SurecountError where surecount or Flink refuses it."""
        pipeline, file = self.stage.pipeline(work.results, toml(work))
        job = submit(pipeline, file, self.stage.flink, self.stage.stack.flink_env(), parallelism=work.slots)
        return running(self.stage, job)

    def parse(self, value: bytes) -> Result:
        """One of surecount's results, as docs/records.md has them."""
        found = orjson.loads(value)
        number = int(found["aggregate"].removeprefix("totals_"))
        (key,) = found["key"].values()
        start_ms = round(datetime.fromisoformat(found["start"]).timestamp() * 1000)
        return number, key, start_ms, found["count"], found["sum"]["amount"]

    def leftovers(self, work: Work) -> list[str]:
        """What a run makes beside the results."""
        return [f"{work.results}.corrections", f"{work.results}.rejects"]


def toml(work: Work) -> str:
    """The pipeline file of a run, without name and [kafka]."""
    event_time = '"kafka"' if work.event_time == "kafka" else '{ field = "ts", unit = "ms" }'
    source = _SOURCE.format(**{**asdict(work), "event_time": event_time})
    aggregates = [
        _AGGREGATE.format(number=number, key=key, window_ms=work.window_ms)
        for number, key in enumerate(key_fields(work))
    ]
    return "".join([source, *aggregates])
