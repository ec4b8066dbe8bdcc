"""Finding and stopping the processes of a stack.

Every process of a stack carries two environment variables, and so does all that it starts: the
Python workers of a TaskManager too. The process table is the truth; no pid file is believed.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from surecount.local.spec import SUPERVISOR, Role, role_of
from surecount.waiting import WaitTimeoutError, wait_until

STACK_VARIABLE = "SURECOUNT_STACK"
ROLE_VARIABLE = "SURECOUNT_ROLE"

# TaskManagers stop first, so that no task sees its JobManager or its broker go away; then JobManagers, so that they
# can give up their leadership to ZooKeeper.
STOP_ORDER: tuple[Role, ...] = ("taskmanager", "jobmanager", "zookeeper", "broker")

# How long a process may take after SIGTERM. A broker that closes its logs cleanly spares the
# next start a recovery.
GRACE_S = 15.0
KILL_WAIT_S = 10.0


@dataclass(frozen=True)
class StackProcess:
    """A live process. ``name`` is that of the stack's process it is or descends from, ``main``
    tells which of the two."""

    name: str
    main: bool
    process: psutil.Process

    @property
    def pid(self) -> int:
        return self.process.pid


def identified(directory: Path, name: str) -> dict[str, str]:
    """This process's environment for the process ``name`` of the stack in ``directory``."""
    return {**os.environ, STACK_VARIABLE: str(directory), ROLE_VARIABLE: name}


def without_identity() -> dict[str, str]:
    """This process's environment for one that is no part of any stack."""
    return {k: v for k, v in os.environ.items() if k not in (STACK_VARIABLE, ROLE_VARIABLE)}


def find(directory: Path) -> list[StackProcess]:
    """The live processes of the stack in ``directory``, without zombies, without this process and
    its ancestors: a command may well run in an environment that was copied from the stack."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [found for found in _marked(str(directory)) if found.pid not in own]


def _marked(directory: str) -> Iterator[StackProcess]:
    for process in psutil.process_iter():
        try:
            environ = process.environ()
            if environ.get(STACK_VARIABLE) != directory or not is_alive(process):
                continue
            # A process that the supervisor starts leads a group of its own.
            main = os.getpgid(process.pid) == process.pid
        except (psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError):
            continue  # gone meanwhile, or somebody else's
        if name := environ.get(ROLE_VARIABLE):
            yield StackProcess(name, main, process)


def is_alive(process: psutil.Process) -> bool:
    """Whether this very process (not another with its pid) still runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def owner_of_port(port: int) -> str:
    """Who listens on a TCP port, in words; an empty string where it cannot be known."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return ""  # macOS shows other processes' ports to root only
    pids = {c.pid for c in connections if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port}
    for pid in pids:
        if pid is None:
            continue
        try:
            process = psutil.Process(pid)
            words = f"process {pid} ({process.name()})"
            stack = process.environ().get(STACK_VARIABLE)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        return f"{words} of the stack in {stack}" if stack else words
    return ""


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL, and wait until they are gone."""
    waiting = list(processes)
    for process in waiting:
        _signal(process, signal.SIGKILL)
    _wait_gone(waiting, KILL_WAIT_S)


def stop(directory: Path) -> list[str]:
    """Stop every process of the stack but its supervisor, and return the names of those stopped.

    Roles stop in :data:`STOP_ORDER`. A main process gets SIGTERM and ``GRACE_S`` seconds; what is
    left of it then, its children included, SIGKILL.
    """
    stopped: list[str] = []
    for role in STOP_ORDER:
        stage = [p for p in find(directory) if role_of(p.name) == role]
        mains = [p.process for p in stage if p.main]
        for process in mains:
            _signal(process, signal.SIGTERM)
        with contextlib.suppress(WaitTimeoutError):  # the grace is over: SIGKILL for all
            _wait_gone(mains, GRACE_S)
        kill(p.process for p in find(directory) if role_of(p.name) == role)
        stopped += sorted({p.name for p in stage})
    return stopped


def stop_supervisor(processes: Collection[StackProcess]) -> bool:
    """SIGTERM to the supervisor among ``processes``, which stops the stack; True if there was one.

    A supervisor that has not stopped its stack in time is killed; what is left is the caller's.
    """
    supervisors = [p.process for p in processes if p.name == SUPERVISOR]
    for process in supervisors:
        _signal(process, signal.SIGTERM)
    try:
        _wait_gone(supervisors, len(STOP_ORDER) * (GRACE_S + KILL_WAIT_S))
    except WaitTimeoutError:
        kill(supervisors)
    return bool(supervisors)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)  # psutil checks that the pid was not given to another process
    except psutil.NoSuchProcess:
        return


def _wait_gone(processes: list[psutil.Process], timeout_s: float) -> None:
    def left() -> list[int]:
        return [process.pid for process in processes if is_alive(process)]

    wait_until(lambda: not left(), timeout_s, "processes to end", poll_s=0.05, seen=left)
