"""What commands show while they wait: processes that come up, results that come in, an audit that goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.live import Live

from surecount.audit import Report, audit
from surecount.config import Pipeline
from surecount.console import marked, out, progress
from surecount.local.stack import Stack
from surecount.ops.history import History
from surecount.watch import Watch


def start(stack: Stack, **options: Any) -> None:
    """Bring a stack up, with a line for each process that is ready."""
    with out.status("starting"):
        stack.up(
            **options,
            on_ready=lambda name, s: out.print(marked("✓", "green", f"{name} ready after {s:.1f} s")),
        )


def show(view: Watch, go_on: Callable[[float], bool]) -> None:
    """Show a watch until ``go_on(seconds)`` is false: live on a terminal, else once every 5 s."""
    began = time.monotonic()
    if not out.is_terminal:
        while go_on(time.monotonic() - began):
            view.poll(5.0)
            out.print(view.view())
        return
    with Live(view.view(), console=out, auto_refresh=False) as live:
        while go_on(time.monotonic() - began):
            view.poll(0.5)
            live.update(view.view(), refresh=True)


def audited(
    pipeline: Pipeline, past: History | None = None, *, bounded: bool = False, timeout_s: float = 120.0
) -> Report:
    """Audit with a progress bar."""
    with progress("records", None) as bar:
        return audit(pipeline, history=past, bounded=bounded, timeout_s=timeout_s, on_progress=bar.both)
