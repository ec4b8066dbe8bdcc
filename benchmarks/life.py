"""A job's whole life under load, in one run: what is done to it, how long until the next result, and the books."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Self

import orjson
from confluent_kafka import Consumer, KafkaException, TopicPartition
from rich.table import Table

from benchmarks.stage import PARTITIONS, Stage, feeding, stage
from surecount import config, topics
from surecount.audit import audit
from surecount.config import Pipeline
from surecount.console import err, out
from surecount.errors import SurecountError
from surecount.generator.options import Options
from surecount.ops.history import history
from surecount.ops.life import Life
from surecount.ops.submit import job_name
from surecount.ops.upgrade import Upgrade
from surecount.waiting import wait_until
from udfs import times

_WINDOW_MS = 1_000
_OUT_OF_ORDERNESS_MS = 1_000
_KEYS = 100
_HOURS = 10
_JOB = "aggregate"
_PATIENCE_S = 180
_WARM_UP_S = 90
# Windows end, wait for late records, and are committed at a checkpoint.
_YOUNG_S = 8

_PIPELINE = f"""
[source]
topics = ["life.events"]
event_time = {{ field = "ts", unit = "ms" }}
out_of_orderness = "{_OUT_OF_ORDERNESS_MS} ms"

[[aggregate]]
name = "totals"
key = ["key"]
sum = ["amount"]
window = "{_WINDOW_MS} ms"

[checkpoint]
interval = "2 s"
"""
_ADDED = """
[[aggregate]]
name = "all"
key = ["key"]
sum = ["amount"]
window = "5 s"
"""


def run(rate: int, rounds: int) -> None:
    """Print what was seen."""
    with stage(slots=2, brokers=3, taskmanagers=2, ha=True) as on:
        pipeline, file = on.pipeline("life", _PIPELINE)
        stop = threading.Event()
        options = Options(
            events=rate * 3_600 * _HOURS, keys=_KEYS, rate=rate, partitions=PARTITIONS,
            late=0.001, bad=0.001, duplicates=0.001, disorder_ms=_OUT_OF_ORDERNESS_MS // 2, seed=17,
        )  # fmt: skip
        with feeding(pipeline, options, stop), _Results(pipeline) as results:
            seen = _Run(on, pipeline, file, results)
            try:
                seen.live(rounds)
            finally:
                stop.set()
        with err.status("auditing"):
            last = config.load(file)
            report = audit(last, timeout_s=600, history=history(last, on.flink))
    report.print(out)
    out.print(_table(seen.seen, rate))
    if not report.balanced:
        raise SurecountError("the books do not balance", exit_code=1)


def _table(seen: dict[str, list[_Seen]], rate: int) -> Table:
    title = f"{rate:,} events/s, windows of {_WINDOW_MS / 1000:g} s, checkpoints every 2 s"
    table = Table(
        "what", "times", "no result for s, median", "each", "next result after s, median", "each", title=title
    )
    for what, found in seen.items():
        columns = []
        for figures in ([one.gap_s for one in found], [one.next_s for one in found if one.next_s is not None]):
            columns += [f"{median(figures):.1f}" if figures else "", " ".join(f"{figure:.1f}" for figure in figures)]
        table.add_row(what, str(len(found)), *columns)
    return table


@dataclass(frozen=True)
class _Seen:
    """The longest time without a result since something was done; and for kills, the time from there to the first
    result of a window that ended later."""

    gap_s: float
    next_s: float | None = None


class _Results:
    """Reads results as a user would, in a thread. It is a context manager."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.latest_end_ms = 0
        self._came: list[float] = []
        self._failure: Exception | None = None
        self._ended = threading.Event()
        settings = {"group.id": "life", "enable.auto.commit": False, "isolation.level": "read_committed"}
        self._consumer = Consumer({**topics.client_config(pipeline.kafka), **settings}, logger=topics.log)
        found = topics.offsets(pipeline.kafka, [pipeline.topics.results])
        self._consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in found])
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._reader.join()
        self._consumer.close()
        if self._failure is not None:
            raise self._failure

    def _read(self) -> None:
        try:
            self._read_on()
        except Exception as error:  # noqa: BLE001  # a thread's error is the caller's to raise
            self._failure = error

    def _read_on(self) -> None:
        while not self._ended.is_set():
            came = False
            for message in self._consumer.consume(10_000, 0.1):
                if (error := message.error()) is None:
                    end_ms = times.from_rfc3339(orjson.loads(message.value() or b"")["end"])
                    self.latest_end_ms = max(self.latest_end_ms, end_ms)
                    came = True
                elif not error.retriable():  # a broker that is away is, and the client tries again
                    raise KafkaException(error)
            if came:
                self._came.append(time.monotonic())

    def longest_gap(self, since: float) -> float:
        """The longest time between two results of which the later one came after ``since``, s."""
        came = list(self._came)
        return max((b - a for a, b in pairwise(came) if b > since), default=0.0)


@dataclass
class _Run:
    """Does everything, one after the other; ``seen`` is by what was done."""

    on: Stage
    pipeline: Pipeline
    file: Path
    results: _Results
    seen: dict[str, list[_Seen]] = field(default_factory=lambda: defaultdict(list))

    def live(self, rounds: int) -> None:
        """The life of the job."""
        environment = self.on.stack.flink_env()
        life = Life(self.pipeline, self.file, self.on.flink, environment)
        life.start([_JOB])
        with err.status(f"warming up for {_WARM_UP_S} s"):
            # Not a wait for anything: the JVMs compile what is hot, and would be measured at it.
            time.sleep(_WARM_UP_S)
        self._settled()
        with self._done("stop, then start"):
            life.stop([_JOB])
            life.start([_JOB])
        for parallelism in (4, 2):
            with self._done(f"rescale to {parallelism}"):
                life.rescale([_JOB], parallelism)
        self.file.write_text(self.file.read_text() + _ADDED)
        upgrade = Upgrade(config.load(self.file), self.file, self.on.flink, environment)
        with self._done("upgrade that adds an aggregate"):
            upgrade.run(upgrade.plans([_JOB]), within_s=_PATIENCE_S)
        for _ in range(rounds):
            for what, pid in self._victims().items():
                self._kill(what, pid())

    def _victims(self) -> dict[str, Callable[[], int | None]]:
        stack = self.on.stack
        brokers = [name for name in stack.processes() if name.startswith("kafka-")]
        broker = brokers[len(self.seen.get("a broker of three", ())) % len(brokers)]
        return {
            "nothing": lambda: None,
            "a TaskManager": lambda: stack.taskmanagers()[self._worker()[0]],
            "a Python worker": lambda: self._worker()[1],
            "the JobManager that leads": lambda: stack.processes()[stack.status().leader or ""],
            "a broker of three": lambda: stack.processes()[broker],
            "ZooKeeper": lambda: stack.processes()["zookeeper"],
        }

    def _worker(self) -> tuple[str, int]:
        """A Python worker, and the name of its TaskManager: one that has slots of the job."""
        stack = self.on.stack
        found = [(name, child) for name in stack.taskmanagers() for child in stack.children(name)]
        return next((name, child.pid) for name, child in found if "beam_boot" in " ".join(child.process.cmdline()))

    def _kill(self, what: str, pid: int | None) -> None:
        began, now_ms = time.monotonic(), time.time_ns() // 1_000_000
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        with err.status(f"{what}: waiting for the next result"):
            later = lambda: self.results.latest_end_ms > now_ms  # noqa: E731
            wait_until(later, _PATIENCE_S, f"a result after the end of {what}", poll_s=0.02)
        next_s = time.monotonic() - began
        self._settled()
        self.seen[what].append(_Seen(self.results.longest_gap(began), next_s))
        err.print(f"{what}: {next_s:.1f} s", highlight=False)

    @contextmanager
    def _done(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        with err.status(what):
            yield
        self._settled()
        self.seen[what].append(_Seen(self.results.longest_gap(began)))
        err.print(f"{what}: no result for {self.seen[what][-1].gap_s:.1f} s", highlight=False)

    def _settled(self) -> None:
        """All processes and copies are there, results are as young as they get, and the job makes checkpoints."""
        stack, flink = self.on.stack, self.on.flink
        with err.status("waiting until all is well again"):
            wait_until(lambda: stack.status().ok, _PATIENCE_S, "a whole stack", poll_s=0.5, seen=stack.status)
            wait_until(self._in_sync, _PATIENCE_S, "all copies to be in sync", poll_s=0.5)
            wait_until(lambda: self._age_s() < _YOUNG_S, _PATIENCE_S, "young results", seen=self._age_s)
            job = flink.running(job_name(self.pipeline, _JOB))
            assert job is not None
            before = flink.checkpoints(job.id)["counts"]["completed"]
            done = lambda: flink.checkpoints(job.id)["counts"]["completed"] > before + 1  # noqa: E731
            wait_until(done, _PATIENCE_S, "two checkpoints", poll_s=0.2)

    def _age_s(self) -> float:
        return time.time() - self.results.latest_end_ms / 1000

    def _in_sync(self) -> bool:
        found = topics.Admin(self.pipeline.kafka).metadata().topics.values()
        return all(len(p.isrs) == len(p.replicas) for topic in found for p in topic.partitions.values())
