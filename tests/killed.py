"""Run a command of surecount's, and kill it with SIGKILL at a step: ``python -m tests.killed STEP COMMAND …``.

The step is heard from the command's own status line: nothing in the command knows of it. With ``client:SECONDS`` in
place of a step it is the child of the command that is killed, Flink's command line, so long after it has begun.
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

CLIENT = "client:"


def kill_at(step: str) -> None:
    """Kill this process when its status line begins with a step."""
    update = Status.update

    def updated(self: Status, status: Any = None, **options: Any) -> None:
        update(self, status, **options)
        if str(status).startswith(step):
            os.kill(os.getpid(), signal.SIGKILL)

    Status.update = updated  # type: ignore[method-assign]


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
    if wanted.startswith(CLIENT):
        threading.Thread(target=kill_client, args=(float(wanted.removeprefix(CLIENT)),), daemon=True).start()
    else:
        kill_at(wanted)
    sys.argv = ["surecount", *arguments]
    main()
