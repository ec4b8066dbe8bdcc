"""The daemon that keeps a stack's processes running, as systemd or Kubernetes would.

``python -m surecount.local.supervisor DIR`` starts what DIR/stack.json lists, restarts what dies,
and writes what it sees to DIR/state.json. SIGTERM, or the loss of DIR, stops everything; so does the
end of the process PID in ``python -m surecount.local.supervisor DIR PID``.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from surecount.errors import SurecountError
from surecount.local import processes
from surecount.local.layout import Layout
from surecount.local.spec import (
    SUPERVISOR,
    Observed,
    ObservedProcess,
    ProcessSpec,
    StackSpec,
    load_stack,
    save_observed,
)

POLL_S = 0.1
FIRST_DELAY_S = 0.25
MAX_DELAY_S = 10.0
# A process that ran this long is healthy: its next death is the first again.
HEALTHY_AFTER_S = 60.0
# What processes print (user code in Python workers, too) is kept twice this size at most.
MAX_OUTPUT_BYTES = 16 * 1024 * 1024

log = logging.getLogger("supervisor")


def restart_delay_s(deaths: int) -> float:
    """Seconds to wait before the restart after ``deaths`` (>= 1) deaths in a row."""
    return min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(deaths - 1, 16))


@dataclass
class Child:
    """A process and its history. Times are of the monotonic clock, ``since`` of the wall clock."""

    spec: ProcessSpec
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    start_at: float = 0.0
    deaths: int = 0
    restarts: int = 0
    since: float = 0.0
    exit_code: int | None = None

    def observed(self) -> ObservedProcess:
        pid = self.process.pid if self.process else None
        return ObservedProcess(pid, self.restarts, self.since, self.exit_code)


class Supervisor:
    """Runs the processes of one stack until :meth:`stop` is called."""

    def __init__(self, layout: Layout, stack: StackSpec, owner: psutil.Process | None = None) -> None:
        self._layout = layout
        self._owner = owner
        self._children = [Child(spec) for spec in stack.processes]
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask :meth:`run` to stop all and return; safe in a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Keep the processes running, then stop them in order; also after an error of its own, for
        nobody would restart what dies from then on."""
        try:
            self._watch()
        finally:
            log.info("stopping")
            log.info("stopped %s", ", ".join(processes.stop(self._layout.root)))

    def _watch(self) -> None:
        while not self._stopping.is_set():
            if not self._layout.stack_file.exists():
                log.warning("%s is gone: stopping", self._layout.stack_file)
                return
            if self._owner is not None and not processes.is_alive(self._owner):
                log.warning("process %d is gone: stopping", self._owner.pid)
                return
            changed = [self._tend(child) for child in self._children]
            if any(changed):
                self._write_state()
            self._stopping.wait(POLL_S)

    def _tend(self, child: Child) -> bool:
        """Start, bury or leave alone one process; True if something changed."""
        if child.process is None:
            if time.monotonic() < child.start_at:
                return False
            self._start(child)
            return True
        if child.process.poll() is None:
            roll(Path(child.spec.output))
            return False
        self._bury(child, child.process.pid, child.process.returncode)
        return True

    def _start(self, child: Child) -> None:
        spec = child.spec
        scratch = Path(spec.scratch)
        if scratch.exists():
            shutil.rmtree(scratch)
        scratch.mkdir(parents=True)
        environ = {**processes.identified(self._layout.root, spec.name), **spec.env}
        child.started, child.since = time.monotonic(), time.time()
        try:
            with Path(spec.output).open("ab") as output:
                child.process = subprocess.Popen(
                    spec.argv,
                    env=environ,
                    cwd=self._layout.root,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError:
            log.exception("%s cannot be started", spec.name)
            self._plan_restart(child)
            return
        log.info("%s started, pid %d", spec.name, child.process.pid)

    def _bury(self, child: Child, pid: int, exit_code: int) -> None:
        log.warning("%s (pid %d) died with exit code %d", child.spec.name, pid, exit_code)
        # Python workers outlive a TaskManager that was killed: they would go on to hold memory
        # and ports. First its group, then what left the group but not the environment.
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            log.debug("nothing is left in the process group %d", pid)
        left = [p for p in processes.find(self._layout.root) if p.name == child.spec.name]
        processes.kill(p.process for p in left)
        child.process = None
        child.exit_code = exit_code
        self._plan_restart(child)

    def _plan_restart(self, child: Child) -> None:
        now = time.monotonic()
        child.deaths = 1 if now - child.started > HEALTHY_AFTER_S else child.deaths + 1
        delay_s = restart_delay_s(child.deaths)
        child.start_at, child.since = now + delay_s, time.time()
        child.restarts += 1
        log.info("%s will be restarted in %g s", child.spec.name, delay_s)

    def _write_state(self) -> None:
        seen = {child.spec.name: child.observed() for child in self._children}
        save_observed(self._layout.state_file, Observed(os.getpid(), seen))


def roll(output: Path) -> None:
    """Move what was printed aside once it is large. The process writes on in append mode."""
    if output.exists() and output.stat().st_size > MAX_OUTPUT_BYTES:
        shutil.copyfile(output, output.with_name(output.name + ".1"))
        os.truncate(output, 0)


def main() -> None:
    """Entry point: the stack's folder, and its owner, where it has one."""
    folder, *owner = sys.argv[1:]
    layout = Layout(Path(folder).resolve())
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)-7s %(message)s",
        handlers=[logging.handlers.RotatingFileHandler(layout.log(SUPERVISOR), maxBytes=1_000_000, backupCount=1)],
    )
    stack = load_stack(layout.stack_file)
    if stack is None:
        raise SurecountError(f"{layout.stack_file} is not there", "start a stack with `surecount up`")
    try:
        supervisor = Supervisor(layout, stack, psutil.Process(int(owner[0])) if owner else None)
    except psutil.NoSuchProcess as error:
        raise SurecountError(f"process {error.pid}, which the stack is to end with, is gone") from error

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        supervisor.stop()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    try:
        supervisor.run()
    except Exception:
        log.exception("the supervisor gives up, and with it the stack")
        raise


if __name__ == "__main__":
    main()
