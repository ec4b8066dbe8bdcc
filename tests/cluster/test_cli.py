"""The commands as a person types them, in the order of README."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from surecount.local import processes
from surecount.local.layout import PROJECT
from tests.typed import COMMAND, typed


def first_line_of_readmes_reader(bootstrap_servers: str) -> str:
    """README's ten lines that read the results, run as they stand but for the address."""
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    program = readme.partition("```python\n")[2].partition("```")[0].replace("localhost:9092", bootstrap_servers)
    reader = subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True)
    # Ends a reader that finds nothing, so that the line below is empty and not waited for without end.
    watchdog = threading.Timer(60, reader.kill)
    watchdog.start()
    try:
        assert reader.stdout is not None
        return reader.stdout.readline()
    finally:
        watchdog.cancel()
        reader.kill()
        reader.wait()


def test_readmes_session(tmp_path: Path) -> None:
    stack = tmp_path / ".surecount"
    assert "nothing was running" in typed(tmp_path, "down")
    assert "surecount up" in typed(tmp_path, "jobs", expect=2)
    try:
        assert "✓ kafka-1" in typed(tmp_path, "up", "--kafka-port", "0", "--flink-port", "0")
        status = json.loads(typed(tmp_path, "status", "--json"))
        assert status["ok"]
        typed(tmp_path, "new", "shop")
        file = tmp_path / "shop.toml"
        file.write_text(file.read_text().replace("localhost:9092", status["bootstrap_servers"]))
        assert "shop.events" in typed(tmp_path, "check", "shop.toml")
        assert "shop.events" in typed(tmp_path, "submit", "shop.toml", expect=2)  # no such topic yet
        sent = typed(tmp_path, "generate", "shop.toml", "--events", "20000", "--keys", "100", "--bad", "0.01")
        assert "count 10, sum of amount 55" in sent
        submitted = typed(tmp_path, "submit", "shop.toml", "--bounded")
        assert "FINISHED" in submitted
        assert "earlier run" in typed(tmp_path, "submit", "shop.toml", "--bounded", expect=1)
        books = typed(tmp_path, "audit", "shop.toml", "--bounded")
        assert "books balance: 20,202 records in = 20,000 in results + 0 in corrections + 202 rejected" in books
        report = json.loads(typed(tmp_path, "audit", "shop.toml", "--bounded", "--json"))
        assert report["balanced"] is True
        assert "shop.aggregate" in typed(tmp_path, "jobs")
        assert "customer" in first_line_of_readmes_reader(status["bootstrap_servers"])
    finally:
        assert "kafka-1" in typed(tmp_path, "down", "--purge")
    assert processes.find(stack) == []
    assert not stack.exists()


def test_wrong_use_is_told_apart_from_a_failed_check(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('name = "bad"\n[source]\ntopics = ["x"]\nidle_after = "5"\n')
    said = typed(tmp_path, "check", "bad.toml", expect=2)
    assert "bad.toml: source.idle_after: '5' is not a duration" in said
    assert "bad.toml: aggregate is missing" in said
    typed(tmp_path, "nonsense", expect=2)
    assert "Commands" in typed(tmp_path, "--help")


def test_the_demo_ends_with_balanced_books_and_nothing_left(tmp_path: Path) -> None:
    said = typed(tmp_path, "demo", "--seconds", "20")
    assert "kill -9" in said
    assert "books balance: " in said
    assert list(tmp_path.iterdir()) == []


def test_a_demo_that_is_terminated_leaves_nothing(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    demo = subprocess.Popen(
        [*COMMAND, "demo"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "TMPDIR": str(scratch), "COLUMNS": "200"}, start_new_session=True,
    )  # fmt: skip
    assert demo.stdout is not None
    watchdog = threading.Timer(120, demo.kill)
    watchdog.start()
    try:
        said = ""
        while "taskmanager-1 ready" not in said and (line := demo.stdout.readline()):
            said += line
        folder = next(scratch.glob("surecount-demo-*"))
        # While it submits its job, with more processes than at any other time.
        # Unlike Ctrl-C at a terminal, this reaches one process only, which has to stop all others.
        os.kill(demo.pid, signal.SIGTERM)
        said += demo.stdout.read()
    finally:
        watchdog.cancel()
    assert demo.wait() == 128 + signal.SIGTERM, said
    assert "stopped all, nothing left behind" in said
    assert processes.find(folder / "stack") == []
    assert list(scratch.iterdir()) == []
