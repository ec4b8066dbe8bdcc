"""Ingest with exact deduplication beside Flink SQL's own deduplication, on the same topic in one run."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import psutil
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from rich.table import Table

from benchmarks.stage import PARTITIONS, Stage, stage
from surecount.audit.reader import TopicReader
from surecount.config import Kafka
from surecount.console import err, out
from surecount.errors import SurecountError
from surecount.generate import generate
from surecount.generator.options import Options
from surecount.topics import offsets

_EVENTS_A_MINUTE = 600_000
_KEYS = 1_000
_SQL = Path(__file__).parent / "peers" / "deduplicate_sql.py"

_PIPELINE = """
[source]
topics = ["raw.events"]
event_time = { field = "ts", unit = "ms" }
event_id = "id"
out_of_orderness = "5 s"

[[aggregate]]
name = "totals"
key = ["key"]
sum = ["amount"]
window = "1 min"

[checkpoint]
interval = "5 s"

[performance]
batch_records = BATCH_RECORDS
"""


@dataclass(frozen=True)
class _Run:
    """Seconds; the largest state of a checkpoint in bytes; the most memory (proportional set size) of TaskManager
    and Python workers together in bytes, before the run and in it."""

    seconds: float
    state: int
    before: int
    memory: int


def run(
    events: int,
    duplicates: float,
    rounds: int,
    limit: int,
    settings: Mapping[str, str],
    *,
    batch_records: int,
    alone: bool,
) -> None:
    """Print each run as it ends, then medians and the ratio. Each has to leave every event once.

    ``settings`` are Flink's, for both.
    """
    pipeline = _PIPELINE.replace("BATCH_RECORDS", str(batch_records))
    runs: dict[str, list[_Run]] = defaultdict(list)
    options = Options(
        events=events, keys=_KEYS, per_window=_EVENTS_A_MINUTE // _KEYS, duplicates=duplicates, partitions=PARTITIONS
    )
    programs: dict[str, Callable[[Stage, int, int], _Run]] = {"surecount ingest": partial(_ours, pipeline)}
    if not alone:
        programs["Flink SQL"] = _sql
    with stage(settings=settings) as on:
        filled, _ = on.pipeline("raw", pipeline)
        with err.status(f"generating {events:,} events, {duplicates:.0%} of them twice"):
            summary = generate(filled, options, lambda _: None)
        out.print(f"{summary.records:,} records, {summary.duplicates:,} duplicates", highlight=False)
        for _ in range(rounds):
            for name, program in programs.items():
                with err.status(name):
                    done = program(on, events, limit)
                runs[name].append(done)
                out.print(f"{name}: {_text(done)}", highlight=False)
    table = Table("program", "median s", "all s", "ratio", "records/s", "largest state", "memory, before → most")
    ours = median(r.seconds for r in runs["surecount ingest"])
    for name, found in runs.items():
        middle = median(r.seconds for r in found)
        worst = max(found, key=lambda r: r.memory)
        table.add_row(
            name, f"{middle:.1f}", " ".join(f"{r.seconds:.1f}" for r in found), f"{ours / middle:.2f}",
            f"{summary.records / middle:,.0f}", _mb(max(r.state for r in found)),
            f"{_mb(worst.before)} → {_mb(worst.memory)}",
        )  # fmt: skip
    out.print(table)


def _ours(text: str, on: Stage, events: int, limit: int) -> _Run:
    pipeline, file = on.pipeline(f"raw{uuid.uuid4().hex[:8]}", text)
    return _measured(on, lambda: on.start(pipeline, file, "ingest", bounded=True), pipeline.topics.clean, events, limit)


def _sql(on: Stage, events: int, limit: int) -> _Run:
    clean = f"sql{uuid.uuid4().hex[:8]}.clean"
    admin = AdminClient({"bootstrap.servers": on.stack.bootstrap_servers})
    admin.create_topics([NewTopic(clean, PARTITIONS)])[clean].result(timeout=10)
    arguments = ["--src", "raw.events", "--clean", clean, "--bootstrap", on.stack.bootstrap_servers]
    return _measured(on, lambda: on.run(_SQL, [*arguments, "--remember", "1 h"]), clean, events, limit)


def _measured(on: Stage, start: Callable[[], str], clean: str, events: int, limit: int) -> _Run:
    before = _memory(on)
    memory, state = [before], [0]
    job = start()

    def look() -> None:
        memory.append(_memory(on))
        completed = on.flink.checkpoints(job)["latest"]["completed"]
        state.append(completed["state_size"] if completed else 0)

    seconds = on.elapsed(job, limit, look)
    left = _count(on, clean)
    if left != events:
        raise SurecountError(f"{left:,} records in {clean}, not {events:,}", exit_code=1)
    on.delete([clean])
    return _Run(seconds, max(state), before, max(memory))


def _memory(on: Stage) -> int:
    """Proportional set size of the TaskManager and what it started."""
    total = 0
    for name, pid in on.stack.taskmanagers().items():
        for process in [pid, *(child.pid for child in on.stack.children(name))]:
            try:
                total += psutil.Process(process).memory_full_info().pss
            except psutil.NoSuchProcess:  # a worker that has just ended
                continue
    return total


def _count(on: Stage, topic: str) -> int:
    """Committed records of a topic."""
    kafka = Kafka(bootstrap_servers=on.stack.bootstrap_servers)
    ranges = offsets(kafka, [topic])
    count = 0
    with TopicReader(kafka, ranges, spread_ms=1 << 60, timeout_s=60) as reader:
        while not reader.done:
            count += sum(len(run.messages) for run in reader.poll())
    return count


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _text(done: _Run) -> str:
    return f"{done.seconds:.1f} s, state {_mb(done.state)}, memory {_mb(done.before)} → {_mb(done.memory)}"
