"""Make the kept savepoint of a state version: ``python -m tests.savepoints.make VERSION``; see README.md here."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Producer

from surecount import config, topics
from surecount.local.stack import Stack
from surecount.ops.life import Life
from surecount.waiting import wait_until
from tests.conftest import Running, read_committed
from tests.savepoints import records

HERE = Path(__file__).parent
JOBS = ("ingest", "aggregate")


def main(version: str) -> None:
    """Read what comes before the savepoint, stop both jobs, and keep what that leaves."""
    target = HERE / version
    if target.exists():
        sys.exit(f"{target} exists: a savepoint of a released version is never made anew")
    folder = Path(tempfile.mkdtemp(prefix="surecount-kept-"))
    stack = Stack(folder, is_owned=True)
    stack.up(slots=4, kafka_port=0, flink_port=0)
    try:
        run = running(stack, folder)
        topics.ensure_source(run.pipeline, 1)
        topics.ensure_outputs(run.pipeline)
        life = Life(run.pipeline, run.file, run.flink, stack.flink_env(), print)
        life.start(JOBS)
        values = [records.encode(event) for event in records.before()]
        clean = count(run, run.pipeline.topics.clean)
        # In two parts: a clean record says how far ingest's watermark was when its batch came.
        for first, end in ((0, records.KNOWN), (records.KNOWN, records.READ)):
            produce(run, values[first:end])
            wait_until(lambda end=end: clean() == end, 120, f"{end} clean records", 2, seen=clean)
        closed = len(
            {(event["who"], event["shard"]) for event in records.before() if event["ts"] < records.T0 + 60_000}
        )
        results = count(run, run.pipeline.topics.results)
        wait_until(lambda: results() == closed, 120, "the results of the first minute", 2, seen=results)
        committed = run.flink.checkpoints(run.flink.running("kept.aggregate").id)["counts"]["completed"]
        # A checkpoint later nothing is left to be committed, which no other cluster could do.
        wait_until(lambda: completed(run) > committed + 1, 120, "another checkpoint")
        life.stop(JOBS)
        shutil.copytree(stack.savepoints_dir, target, ignore=shutil.ignore_patterns("*-stopped-*", "code-*"))
    finally:
        stack.down(purge=True)
    print(f"{target}: {sum(path.stat().st_size for path in target.rglob('*') if path.is_file()):,} bytes")


def completed(run: Running) -> int:
    """Checkpoints of the aggregate job."""
    return int(run.flink.checkpoints(run.flink.running("kept.aggregate").id)["counts"]["completed"])


def running(stack: Stack, folder: Path) -> Running:
    """The kept pipeline on a stack; its file is written into ``folder``."""
    file = folder / "kept.toml"
    kafka = f'[kafka]\nbootstrap_servers = "{stack.bootstrap_servers}"\n\n[source]'
    file.write_text((HERE / "kept.toml").read_text().replace("[source]", kafka, 1))
    return Running(config.load(file), file, stack)


def produce(run: Running, values: list[bytes], topic: str = "kept.in", partition: int = 0) -> None:
    """Send values to one partition."""
    producer = Producer(topics.client_config(run.pipeline.kafka))
    for value in values:
        producer.produce(topic, value, partition=partition)
    producer.flush()


def count(run: Running, topic: str) -> Callable[[], int]:
    """A function that counts the committed records of a topic."""
    return lambda: len(read_committed(run.pipeline, topic))


if __name__ == "__main__":
    main(sys.argv[1])
