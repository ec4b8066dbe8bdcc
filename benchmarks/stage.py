"""A stack of its own for a measurement, with pipelines on it; nothing is left behind."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from confluent_kafka.admin import AdminClient

from surecount import config, live, topics
from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.generate import generate
from surecount.generator.options import Options
from surecount.local.layout import flink_home
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

    def run(self, program: Path, arguments: list[str]) -> str:
        """Submit another PyFlink program, with Flink's own command, and return its job's id."""
        environment = self.stack.flink_env()
        command = [
            str(flink_home() / "bin" / "flink"), "run", "--detached",
            "--jobmanager", self.flink.url.removeprefix("http://"), "--python", str(program), *arguments,
        ]  # fmt: skip
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        found = re.search(r"JobID ([0-9a-f]{32})", done.stdout + done.stderr)
        if found is None:
            raise SurecountError(f"Flink refused {program}:\n{(done.stdout + done.stderr)[-2000:]}", exit_code=1)
        return found[1]

    def elapsed(self, job: str, limit: int, each: Callable[[], None] = lambda: None) -> float:
        """Flink's own duration of a job in seconds, when it has finished; ``each`` is called now and then.

        One that takes longer than ``limit`` seconds is cancelled, and is an error.
        """
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            state = self.flink.get(f"/jobs/{job}")
            if state["state"] == "FINISHED":
                return float(state["duration"]) / 1000
            if state["state"] in ("FAILED", "CANCELED", "RESTARTING"):
                raise SurecountError(f"the job is {state['state']}: {self.flink.cause(job)}", exit_code=1)
            each()
            time.sleep(0.3)
        self.flink.cancel(job)
        raise SurecountError(f"not finished after {limit} s", exit_code=1)

    def delete(self, names: Iterable[str]) -> None:
        """Remove topics, so that the next run begins with none and the disk stays free."""
        admin = AdminClient({"bootstrap.servers": self.stack.bootstrap_servers})
        for deleted in admin.delete_topics(list(names)).values():
            deleted.result(timeout=10)


@contextmanager
def stage(slots: int = 2, settings: Mapping[str, str] = MappingProxyType({}), **options: Any) -> Iterator[Stage]:
    """One broker, a JobManager and a TaskManager, on free ports, with ``settings`` of Flink's; or more of them, as the
    ``options`` of ``surecount up`` have it."""
    folder = Path(tempfile.mkdtemp(prefix="surecount-bench-"))
    stack = Stack(folder / "stack", is_owned=True)
    try:
        live.start(stack, slots=slots, kafka_port=0, flink_port=0, flink_settings=settings, **options)
        yield Stage(stack, folder)
    finally:
        stack.down(purge=True)
        shutil.rmtree(folder)


@contextmanager
def feeding(pipeline: Pipeline, options: Options, stop: threading.Event | None = None) -> Iterator[threading.Thread]:
    """Generate events in a thread until all are sent or ``stop`` is set; what went wrong is raised at the end."""
    failures: list[BaseException] = []
    stop = stop or threading.Event()

    def feed() -> None:
        try:
            generate(pipeline, options, stop=stop)
        except BaseException as error:  # noqa: BLE001  # a thread's error is the caller's to raise
            failures.append(error)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    try:
        yield feeder
    except BaseException:
        stop.set()
        raise
    finally:
        feeder.join()
    if failures:
        raise failures[0]
