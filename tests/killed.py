"""Run a command of surecount's, and kill it with SIGKILL at a step: ``python -m tests.killed STEP COMMAND …``.

The step is heard from the command's own status line: nothing in the command knows of it. In place of a step,
``after:SECONDS`` kills the command at that time, and ``client:SECONDS`` its child, Flink's command line, so long after
that has begun.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import psutil
from rich.status import Status

from surecount.cli import main

AFTER, CLIENT = "after:", "client:"


def kill_at(step: str) -> None:
    """Kill this process when its status line begins with a step."""
    update = Status.update

    def updated(self: Status, status: Any = None, **options: Any) -> None:
        update(self, status, **options)
        if str(status).startswith(step):
            os.kill(os.getpid(), signal.SIGKILL)

    Status.update = updated  # type: ignore[method-assign]


def kill_after(seconds: float) -> None:
    """Kill this process, and not its children."""
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_client(after_s: float) -> None:
    """Kill Flink's command line, when this process has had one for so long."""
    while True:
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # a process of Flink's script that has ended since
                if "--detached" in child.cmdline() and time.time() - child.create_time() >= after_s:
                    child.kill()
                    return
        time.sleep(0.02)


if __name__ == "__main__":
    wanted, *arguments = sys.argv[1:]
    killers = {AFTER: kill_after, CLIENT: kill_client}
    kind, _, seconds = wanted.partition(":")
    if killer := killers.get(f"{kind}:"):
        threading.Thread(target=killer, args=(float(seconds),), daemon=True).start()
    else:
        kill_at(wanted)
    sys.argv = ["surecount", *arguments]
    main()
