"""How large checkpoints become while windows stay open."""

from __future__ import annotations

import time

from rich.table import Table

from benchmarks.stage import PARTITIONS, feeding, stage
from surecount.console import err, out
from surecount.generator.options import Options

_EVERY_S = 60
_POLL_S = 2

_PIPELINE = """
[source]
topics = ["state.events"]
event_time = { field = "ts", unit = "ms" }
out_of_orderness = "2 s"

[[aggregate]]
name = "totals"
key = ["key"]
sum = ["amount"]
window = "1 h"

[checkpoint]
interval = "5 s"
"""


def run(rate: int, seconds: int, keys: int) -> None:
    """Print the range of checkpoint sizes for each minute."""
    with stage() as on:
        pipeline, file = on.pipeline("state", _PIPELINE)
        job = on.start(pipeline, file)
        options = Options(events=rate * seconds, keys=keys, rate=rate, partitions=PARTITIONS)
        sizes: dict[int, tuple[int, int, int]] = {}
        with feeding(pipeline, options) as feeder, err.status("feeding") as status:
            began = time.time()
            while feeder.is_alive():
                for row in on.flink.checkpoints(job)["history"]:
                    if row["status"] == "COMPLETED":
                        second = row["trigger_timestamp"] / 1000 - began
                        sizes[row["id"]] = (int(second // _EVERY_S), row["state_size"], row["end_to_end_duration"])
                status.update(f"{time.time() - began:.0f} of {seconds} s")
                time.sleep(_POLL_S)
    table = Table(
        "minute", "checkpoints", "smallest kB", "largest kB", "longest ms", title=f"{rate:,}/s, {keys:,} keys"
    )
    for minute in sorted({minute for minute, _, _ in sizes.values()}):
        rows = [row for row in sizes.values() if row[0] == minute]
        least, most = min(row[1] for row in rows), max(row[1] for row in rows)
        table.add_row(
            str(minute), str(len(rows)), f"{least / 1000:,.0f}", f"{most / 1000:,.0f}", str(max(r[2] for r in rows))
        )
    out.print(table)
