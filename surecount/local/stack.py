"""Kafka and Flink, or Kafka only, as processes of this machine, in one folder; ZooKeeper too with ``ha``.

A supervisor (:mod:`surecount.local.supervisor`) runs them; :class:`Stack` writes what it shall
run, starts it, waits until all are in service, and stops it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from surecount.config import Kafka
from surecount.errors import SurecountError
from surecount.local import processes
from surecount.local.flink import client_env
from surecount.local.layout import PROJECT, Layout
from surecount.local.prepare import Wanted, prepare
from surecount.local.prerequisites import check_disk, check_prerequisites, find_java
from surecount.local.processes import StackProcess
from surecount.local.secure import ADMIN, USER, as_user, client_file
from surecount.local.secure import check as check_secure
from surecount.local.spec import (
    SUPERVISOR,
    StackSpec,
    load_observed,
    load_stack,
    role_of,
)
from surecount.local.status import StackStatus, bootstrap_servers, flink_url, read_status, ready_names
from surecount.waiting import wait_until

DEFAULT_DIRECTORY = Path(".surecount")
READY_TIMEOUT_S = 120.0
_LOG_LINES_SHOWN = 15


class StackRunsError(SurecountError):
    """``up`` where a stack already runs; nothing was changed."""


class Stack:
    """The stack in one folder, running or not. Any number of objects and commands may look at the
    same folder: all state is in files and in the process table."""

    def __init__(self, directory: Path = DEFAULT_DIRECTORY, *, is_owned: bool = False) -> None:
        """Where it ``is_owned``, what :meth:`up` starts stops when the process that called it is gone, even killed."""
        self._is_owned = is_owned
        self._layout = Layout(directory.resolve())
        self._supervisor: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        return self._layout.root

    @property
    def checkpoints_dir(self) -> Path:
        return self._layout.checkpoints

    @property
    def savepoints_dir(self) -> Path:
        return self._layout.savepoints

    @property
    def logs_dir(self) -> Path:
        return self._layout.logs

    @property
    def bootstrap_servers(self) -> str:
        """Kafka's address, ``host:port`` of every broker with commas between."""
        return bootstrap_servers(self._stack())

    @property
    def client_file(self) -> Path:
        """Where the part of a pipeline file is with which it comes to this stack, when it is secured."""
        return client_file(self._layout)

    @property
    def kafka(self) -> Kafka:
        """Kafka as pipelines come to it: with ``secure`` as a user who may do what ACLs allow."""
        return as_user(self._layout, self._stack(), USER)

    @property
    def kafka_as_admin(self) -> Kafka:
        """Kafka as one comes to it who may do anything."""
        return as_user(self._layout, self._stack(), ADMIN)

    @property
    def flink_url(self) -> str:
        """The root of Flink's REST API, without a slash at its end; with ``ha`` those of all JobManagers, with
        commas between."""
        url = flink_url(self._stack())
        if url is None:
            raise SurecountError(
                f"the stack in {self.directory} has no Flink: it was started with --no-flink",
                "choose the stack that has it with --dir, or another cluster with --flink",
            )
        return url

    def flink_env(self) -> dict[str, str]:
        """The whole environment for running Flink's client against this stack."""
        _ = self.flink_url  # an error where there is none
        return client_env(self._layout, find_java())

    def status(self) -> StackStatus:
        """What runs, what does not, and whether all is well. Takes some 0.1–4 s."""
        return read_status(self._layout)

    def processes(self) -> dict[str, int]:
        """The pids of the stack's live main processes by name, the supervisor's among them."""
        return {p.name: p.pid for p in processes.find(self.directory) if p.main}

    def taskmanagers(self) -> dict[str, int]:
        """The pids of the live TaskManagers by name."""
        return {name: pid for name, pid in self.processes().items() if role_of(name) == "taskmanager"}

    def children(self, name: str) -> tuple[StackProcess, ...]:
        """What the process ``name`` started and is alive: a TaskManager's Python workers and the
        shells around them. They are found when the TaskManager itself is gone, too."""
        return tuple(p for p in processes.find(self.directory) if p.name == name and not p.main)

    def up(
        self,
        *,
        brokers: int = 1,
        taskmanagers: int = 1,
        slots: int = 2,
        kafka_port: int = 9092,
        flink_port: int = 8081,
        flink: bool = True,
        ha: bool = False,
        secure: bool = False,
        archiving: bool = False,
        flink_settings: Mapping[str, str] = MappingProxyType({}),
        kafka_settings: Mapping[str, str] = MappingProxyType({}),
        on_ready: Callable[[str, float], None] = lambda _name, _seconds: None,
    ) -> None:
        """Start the stack and return once every process is in service.

        Port 0 takes any that is free; ``kafka_port`` is the first broker's, others follow it, and so with
        ``flink_port``. Without ``flink`` there is Kafka only, and what is asked for of TaskManagers counts for
        nothing. With ``ha`` there are two JobManagers, of which one leads, and ZooKeeper; jobs that ran at
        :meth:`down` go on at the next ``up`` with ``ha``, and are forgotten by one without.
        With ``secure`` clients come over TLS, have to authenticate, and may do what ACLs allow
        (:mod:`surecount.local.secure`).
        With ``archiving`` processes record which classes they load (:mod:`surecount.local.archive`).
        ``flink_settings`` take the place of those in flink-conf/, but not of addresses and folders;
        ``kafka_settings`` that of brokers' settings.
        ``on_ready`` gets a process's name and the seconds since the call. Data of an earlier ``up``
        in the folder is used again. Raises :class:`StackRunsError` where a supervisor runs, and
        :class:`SurecountError` for what a person can mend; then, as after Ctrl-C, nothing runs.
        """
        started = time.monotonic()
        _check_counts(brokers, taskmanagers, slots)
        if ha and not flink:
            raise SurecountError("--ha with --no-flink: there is no JobManager to have two of", "leave one of them out")
        jobmanagers = (2 if ha else 1) if flink else 0
        wanted = Wanted(
            brokers, jobmanagers, taskmanagers, slots, kafka_port, flink_port, flink_settings, kafka_settings,
            secure, archiving,
        )  # fmt: skip
        java = check_prerequisites()
        if secure:
            check_secure(self.directory)
        self._check_directory()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SurecountError(f"{self.directory}: {error.strerror}", "choose another --dir") from error
        check_disk(self.directory)
        with self._lock():
            if SUPERVISOR in self.processes():
                raise StackRunsError(
                    f"a stack already runs in {self.directory}",
                    "see `surecount status`; stop it with `surecount down`, or choose another --dir",
                )
            processes.stop(self.directory)  # what an earlier supervisor left when it was killed
            try:
                stack = prepare(java, self._layout, wanted)
                self._start_supervisor()
                self._await_ready(stack, started, on_ready)
            except BaseException:  # Ctrl-C too: a failed up leaves nothing running
                self._stop()
                raise

    def down(self, *, purge: bool = False) -> list[str]:
        """Stop the stack and return the names of the processes that were stopped, in order.

        Works without a supervisor too, and on a stopped stack. ``purge`` removes the folder.
        """
        if not self.directory.exists():
            return self._stop()  # processes may have outlived a removed folder
        if not self._is_own():
            if purge:
                raise SurecountError(
                    f"{self.directory} holds other files than a stack's, and is not removed",
                    "give the folder of a stack with --dir",
                )
            return self._stop()
        with self._lock():
            stopped = self._stop()
            if purge:
                shutil.rmtree(self.directory)
        return stopped

    def _stack(self) -> StackSpec:
        stack = load_stack(self._layout.stack_file)
        if stack is None:
            raise SurecountError(f"there is no stack in {self.directory}", "start one with `surecount up`")
        return stack

    def _is_own(self) -> bool:
        """Whether the folder is this program's to fill and remove."""
        root = self.directory
        if not root.exists() or root.name == DEFAULT_DIRECTORY.name or self._layout.stack_file.exists():
            return True
        return all(entry == self._layout.lock_file for entry in root.iterdir())

    def _check_directory(self) -> None:
        # The wheel's scripts split on blanks, Java's class paths and Flink's io.tmp.dirs on the others.
        for path in (self.directory, PROJECT, Path(sys.executable)):
            if any(c in str(path) for c in " \t\n:,"):
                raise SurecountError(
                    f"{path} has a blank, a colon or a comma in it, which Flink's scripts cannot take",
                    "choose another folder (--dir for the stack)",
                )
        if not self._is_own():
            raise SurecountError(
                f"{self.directory} is neither empty nor the folder of a stack",
                "choose a new folder with --dir",
            )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with self._layout.lock_file.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise SurecountError(
                    f"another command is just starting or stopping the stack in {self.directory}",
                    "wait for it to end",
                ) from error
            yield

    def _start_supervisor(self) -> None:
        owner = [str(os.getpid())] if self._is_owned else []
        with self._layout.output(SUPERVISOR).open("wb") as output:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-m", "surecount.local.supervisor", str(self.directory), *owner],
                cwd=PROJECT,
                env=processes.identified(self.directory, SUPERVISOR),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _await_ready(self, stack: StackSpec, started: float, on_ready: Callable[[str, float], None]) -> None:
        waiting = {process.name for process in stack.processes}

        def all_ready() -> bool:
            self._check_nothing_died()
            for name in sorted(waiting & ready_names(self._layout, stack, timeout_s=1.0)):
                waiting.discard(name)
                on_ready(name, time.monotonic() - started)
            return not waiting

        wait_until(
            all_ready,
            READY_TIMEOUT_S,
            "the stack to be in service",
            seen=lambda: f"{', '.join(sorted(waiting))} not in service; logs are in {self.logs_dir}",
        )

    def _check_nothing_died(self) -> None:
        if self._supervisor is not None and self._supervisor.poll() is not None:
            raise self._died(SUPERVISOR, self._supervisor.returncode)
        observed = load_observed(self._layout.state_file)
        for name, process in (observed.processes if observed else {}).items():
            if process.restarts:
                raise self._died(name, process.exit_code)

    def _died(self, name: str, exit_code: int | None) -> SurecountError:
        files = [self._layout.log(name), self._layout.output(name)]
        lines = [line for file in files for line in _last_lines(file)]
        shown = "\n".join(f"    {line}" for line in lines)
        return SurecountError(
            f"{name} died while it started (exit code {exit_code}); its last lines:\n{shown}",
            f"all of its log: {files[0]}",
        )

    def _stop(self) -> list[str]:
        found = processes.find(self.directory)
        processes.stop_supervisor(found)
        processes.stop(self.directory)
        self._supervisor = None
        return sorted({p.name for p in found}, key=_stop_position)


def _stop_position(name: str) -> tuple[int, str]:
    order = [SUPERVISOR, *processes.STOP_ORDER]
    return order.index(role_of(name)), name


def _check_counts(brokers: int, taskmanagers: int, slots: int) -> None:
    if brokers not in (1, 3):
        raise SurecountError(f"--brokers is {brokers}", "1, or 3: two brokers have no majority without one another")
    if not 0 <= taskmanagers <= 16:
        raise SurecountError(f"--taskmanagers is {taskmanagers}", "give 0 to 16")
    if not 1 <= slots <= 64:
        raise SurecountError(f"--slots is {slots}", "give 1 to 64")


def _last_lines(file: Path) -> list[str]:
    if not file.exists():
        return []
    return file.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
