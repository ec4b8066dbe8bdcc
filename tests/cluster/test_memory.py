"""What a TaskManager has to hold at once."""

from __future__ import annotations

from benchmarks import deduplication


def test_a_backlog_that_ingest_reads_at_full_speed_fits_into_direct_memory() -> None:
    # It raises where a TaskManager dies, and where an event is not there once. With half of what Flink grants where
    # nobody asks for more: whether all of that fills up depends on how much slower Python is than the JVM.
    deduplication.run(
        events=800_000, duplicates=0.1, rounds=1, limit=400, batch_records=100_000, alone=True,
        settings={"taskmanager.memory.task.off-heap.size": "0", "taskmanager.memory.framework.off-heap.size": "64 mb"},
    )  # fmt: skip
