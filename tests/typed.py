"""Commands as a person types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import Running

COMMAND = [sys.executable, "-m", "surecount.cli"]


def typed(folder: Path, *arguments: str, expect: int = 0, answer: str | None = None) -> str:
    """All that a command prints in a folder, whose exit code is as expected; ``answer`` is typed when it asks."""
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=False, input=answer,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == expect, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def typed_of(run: Running, command: str, *arguments: str, **how: Any) -> str:
    """A command about a pipeline on its stack."""
    return typed(run.file.parent, command, run.file.name, "--dir", str(run.stack.directory), *arguments, **how)


def kill_of(run: Running, step: str, command: str, *arguments: str) -> None:
    """Kill a command about a pipeline at a step, or its child (see ``tests.killed``)."""
    said = [command, *arguments] if command == "recover" else [command, run.file.name, *arguments]
    done = subprocess.run(
        [sys.executable, "-m", "tests.killed", step, *said, "--dir", str(run.stack.directory)],
        cwd=run.file.parent, env={**os.environ, "PYTHONPATH": str(Path.cwd()), "TMPDIR": str(run.file.parent)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    expected = 1 if step.startswith("client:") else -signal.SIGKILL
    assert done.returncode == expected, f"{done.returncode}\n{done.stdout}\n{done.stderr}"


def told_of(run: Running, command: str, *arguments: str) -> Any:
    """The same, as it tells scripts."""
    said = typed_of(run, command, *arguments, "--json")
    # Notes go to stderr, and stand behind it here.
    told, _ = json.JSONDecoder().raw_decode(said, said.index("["))
    return told
