"""The demonstration: a real cluster, a kill in the middle, and books that balance."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import tomllib
from pathlib import Path

from surecount import config, live, topics
from surecount.config import Pipeline
from surecount.console import err, marked, out
from surecount.errors import SurecountError
from surecount.generate import generate
from surecount.generator.options import Options
from surecount.local.layout import PROJECT
from surecount.local.stack import Stack
from surecount.ops.bounded import wait_until_running
from surecount.ops.flink import Flink
from surecount.ops.submit import submit
from surecount.watch import Watch

RATE = 5_000
KEYS = 100


def run(seconds: int, *, keep: bool) -> None:
    """Everything, in some ``seconds`` + 50; raises SurecountError (exit code 1) where the books don't balance."""
    folder = Path(tempfile.mkdtemp(prefix="surecount-demo-"))
    stack = Stack(folder / "stack", is_owned=True)
    kept = keep
    try:
        live.start(stack, brokers=1, taskmanagers=1, slots=2, kafka_port=0, flink_port=0)
        file = _pipeline_file(folder, stack)
        _show(stack, config.load(file), file, seconds)
    except SurecountError:
        kept = True
        raise
    finally:
        stack.down()
        if kept:
            out.print(f"kept {folder}, with logs in {stack.logs_dir}")
        else:
            shutil.rmtree(folder)
            out.print("stopped all, nothing left behind")


def _pipeline_file(folder: Path, stack: Stack) -> Path:
    """The example's pipeline, on this stack's ports."""
    text = (PROJECT / "examples" / "shop.toml").read_text(encoding="utf-8")
    servers = tomllib.loads(text)["kafka"]["bootstrap_servers"]
    file = folder / "shop.toml"
    file.write_text(text.replace(servers, stack.bootstrap_servers), encoding="utf-8")
    return file


def _show(stack: Stack, pipeline: Pipeline, file: Path, seconds: int) -> None:
    options = Options(events=RATE * seconds, keys=KEYS, rate=RATE, late=0.01, bad=0.005, disorder_ms=1500, partitions=2)
    topics.ensure_source(pipeline, options.partitions)
    topics.ensure_outputs(pipeline)
    flink = Flink(stack.flink_url)
    with err.status("submitting the job"):
        job_id = submit(pipeline, file, flink, stack.flink_env())
        wait_until_running(flink, job_id)
    out.print(
        marked(
            "✓",
            "green",
            f"job runs; {RATE:,} events/s for {seconds} s: {KEYS} customers, 1 % late, 0.5 % bad, out of order by up "
            "to 1.5 s",
        )
    )
    failures: list[BaseException] = []
    feeder = threading.Thread(target=_feed, args=(pipeline, options, failures), daemon=True)
    killed = False

    def go_on(elapsed: float) -> bool:
        nonlocal killed
        if not killed and elapsed > 0.4 * seconds:
            killed = True
            _kill_taskmanager(stack)
        return feeder.is_alive()

    with Watch(pipeline, flink) as view:
        feeder.start()
        live.show(view, go_on)
    if failures:
        raise failures[0]
    report = live.audited(pipeline)
    report.print(out)
    if not report.balanced:
        raise SurecountError("the books do not balance", exit_code=1)


def _feed(pipeline: Pipeline, options: Options, failures: list[BaseException]) -> None:
    try:
        generate(pipeline, options, lambda _: None)
    except SurecountError as error:
        failures.append(error)


def _kill_taskmanager(stack: Stack) -> None:
    name, pid = next(iter(stack.taskmanagers().items()))
    os.kill(pid, signal.SIGKILL)
    out.print(marked("✗", "red", f"kill -9 {pid} ({name})"))
