"""Peers that are jobs on the Flink of a stage."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.stage import Stage
from surecount.errors import SurecountError
from surecount.local.layout import flink_home
from surecount.local.spec import role_of
from surecount.ops.bounded import wait_until_running
from surecount.waiting import wait_until

_ENDED = ("FINISHED", "CANCELED", "FAILED")
_CANCEL_TIMEOUT_S = 60.0
# A run may survive the kill of a process. One that fails by itself does so again and again.
_MOST_RESTARTS = 3


@dataclass(frozen=True)
class FlinkRun:
    """A job that was submitted, with the id ``job``."""

    stage: Stage
    job: str

    def processes(self) -> Iterable[int]:
        """JobManagers and TaskManagers."""
        found = self.stage.stack.processes()
        return [pid for name, pid in found.items() if role_of(name) in ("jobmanager", "taskmanager")]

    def check(self) -> None:
        """Raise SurecountError, with the innermost cause, where the job has ended or restarts again and again."""
        state = self.stage.flink.state(self.job)
        restarts = self.stage.flink.job_metric(self.job, "numRestarts") or 0
        if state in _ENDED or restarts > _MOST_RESTARTS:
            cause = self.stage.flink.cause(self.job)
            raise SurecountError(f"the job is {state} after {restarts:.0f} restarts: {cause}", exit_code=1)

    def stop(self) -> None:
        """Cancel the job and wait until it has ended."""
        if self._state() not in _ENDED:
            self.stage.flink.cancel(self.job)
        wait_until(lambda: self._state() in _ENDED, _CANCEL_TIMEOUT_S, "the job to end", seen=self._state)

    def _state(self) -> str:
        return self.stage.flink.state(self.job)


def running(stage: Stage, job: str) -> FlinkRun:
    """The run of a submitted job, once all of it runs. A job that does not come so far is cancelled, and an error."""
    run = FlinkRun(stage, job)
    try:
        wait_until_running(stage.flink, job)
    except BaseException:
        run.stop()
        raise
    return run


def submit_jar(stage: Stage, jar: Path, main_class: str, arguments: list[str]) -> str:
    """Submit a Java program and return its job's id. Raises SurecountError with what Flink says."""
    environment = stage.stack.flink_env()
    command = [
        str(flink_home() / "bin" / "flink"), "run", "--detached",
        "--jobmanager", stage.flink.url.removeprefix("http://"), "--class", main_class, str(jar), *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"JobID ([0-9a-f]{32})", done.stdout + done.stderr)
    if found is None:
        raise SurecountError(f"Flink refused {jar}:\n{(done.stdout + done.stderr)[-2000:]}", exit_code=1)
    return found[1]
