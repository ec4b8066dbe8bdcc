"""A stack of its own for a measurement, with pipelines on it; nothing is left behind."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from surecount import cli, config, topics
from surecount.config import Pipeline
from surecount.generate import generate
from surecount.generator.options import Options
from surecount.local.stack import Stack
from surecount.ops.bounded import wait_until_running
from surecount.ops.flink import Flink
from surecount.ops.submit import submit

PARTITIONS = 2


@dataclass(frozen=True)
class Stage:
    """A running stack and a folder for pipeline files."""

    stack: Stack
    folder: Path

    @property
    def flink(self) -> Flink:
        return Flink(self.stack.flink_url)

    def pipeline(self, name: str, toml: str) -> tuple[Pipeline, Path]:
        """A pipeline of that name on this stack, with its topics; ``toml`` lacks name and [kafka]."""
        file = self.folder / f"{name}.toml"
        servers = self.stack.bootstrap_servers
        file.write_text(f'name = "{name}"\n[kafka]\nbootstrap_servers = "{servers}"\n{toml}', encoding="utf-8")
        loaded = config.load(file)
        topics.ensure_source(loaded, PARTITIONS)
        topics.ensure_outputs(loaded)
        return loaded, file

    def start(self, pipeline: Pipeline, file: Path, job: str = "aggregate", *, bounded: bool = False) -> str:
        """Submit a job; one that is not bounded is waited for until it runs. Returns its id."""
        job_id = submit(pipeline, file, self.flink, self.stack.flink_env(), job=job, bounded=bounded)
        if not bounded:
            wait_until_running(self.flink, job_id)
        return job_id


@contextmanager
def stage(slots: int = 2) -> Iterator[Stage]:
    """One broker, a JobManager and a TaskManager, on free ports."""
    folder = Path(tempfile.mkdtemp(prefix="surecount-bench-"))
    stack = Stack(folder / "stack")
    try:
        cli.start(stack, brokers=1, taskmanagers=1, slots=slots, kafka_port=0, flink_port=0)
        yield Stage(stack, folder)
    finally:
        stack.down(purge=True)
        shutil.rmtree(folder)


@contextmanager
def feeding(pipeline: Pipeline, options: Options) -> Iterator[threading.Thread]:
    """Generate events in a thread; what went wrong in it is raised at the end."""
    failures: list[BaseException] = []

    def feed() -> None:
        try:
            generate(pipeline, options, lambda _: None)
        except BaseException as error:  # noqa: BLE001  # a thread's error is the caller's to raise
            failures.append(error)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    yield feeder
    feeder.join()
    if failures:
        raise failures[0]
