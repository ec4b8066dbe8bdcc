"""What is written down about a stack: what shall run (stack.json) and what was seen (state.json).

The supervisor and the commands share nothing but these two files and the process table.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from surecount.errors import SurecountError

VERSION = 2

Role = Literal["broker", "zookeeper", "jobmanager", "taskmanager", "supervisor"]

SUPERVISOR = "supervisor"
ZOOKEEPER = "zookeeper"
JOBMANAGER = "jobmanager"

# A process is named for its role, and by a number from 1 where there can be several.
_ROLES: dict[str, Role] = {
    "kafka": "broker",
    "zookeeper": "zookeeper",
    "jobmanager": "jobmanager",
    "taskmanager": "taskmanager",
    "supervisor": "supervisor",
}


def role_of(name: str) -> Role:
    """The role of a process by its name: ``kafka-2`` is a broker. KeyError for another's name."""
    return _ROLES[name.partition("-")[0]]


@dataclass(frozen=True)
class ProcessSpec:
    """One process to keep running. Paths are absolute; ``env`` is added to the supervisor's own."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    output: str
    scratch: str

    @property
    def role(self) -> Role:
        return role_of(self.name)


@dataclass(frozen=True)
class StackSpec:
    """What the last ``up`` asked for, with every port chosen.

    ``flink_ports`` are those of the JobManagers' REST servers, none without Flink; ``zookeeper_port`` is None
    without --ha; ``secure`` tells whether clients have to authenticate.
    """

    cluster_id: str
    slots: int
    kafka_ports: tuple[int, ...]
    flink_ports: tuple[int, ...]
    zookeeper_port: int | None = None
    processes: tuple[ProcessSpec, ...] = ()
    version: int = VERSION
    secure: bool = False

    def names(self, role: Role) -> tuple[str, ...]:
        return tuple(process.name for process in self.processes if process.role == role)

    @property
    def jobmanagers(self) -> dict[str, int]:
        """The port of each JobManager's REST server by its name, which has a number where there are several."""
        if len(self.flink_ports) == 1:
            return {JOBMANAGER: self.flink_ports[0]}
        return {f"{JOBMANAGER}-{number}": port for number, port in enumerate(self.flink_ports, start=1)}


@dataclass(frozen=True)
class ObservedProcess:
    """One process as the supervisor saw it. ``since`` is a Unix time in seconds; ``exit_code`` is
    that of the last death, negative for a signal, None if it never died."""

    pid: int | None
    restarts: int
    since: float
    exit_code: int | None = None


@dataclass(frozen=True)
class Observed:
    """The supervisor's view: its own pid and every process by name."""

    pid: int
    processes: dict[str, ObservedProcess] = field(default_factory=dict)


def write_json(path: Path, value: object) -> None:
    """Write so that a reader sees the old file or the new one, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def write_private(path: Path, text: str) -> None:
    """Write a file anew that only its owner may read, from its first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def save_stack(path: Path, stack: StackSpec) -> None:
    write_json(path, asdict(stack))


def load_stack(path: Path) -> StackSpec | None:
    """The stack written at ``path``; None where there is none. A file that cannot be understood
    is a :class:`SurecountError`."""
    found = _read(path)
    if found is None:
        return None
    try:
        if found["version"] != VERSION:
            raise SurecountError(
                f"{path} was written by another version of surecount",
                "stop that stack with the surecount that started it, or choose another --dir",
            )
        processes = tuple(ProcessSpec(**{**p, "argv": tuple(p["argv"])}) for p in found["processes"])
        ports = {name: tuple(found[name]) for name in ("kafka_ports", "flink_ports")}
        return StackSpec(**{**found, **ports, "processes": processes})
    except (KeyError, TypeError) as error:
        raise _unreadable(path, error) from error


def save_observed(path: Path, observed: Observed) -> None:
    write_json(path, asdict(observed))


def load_observed(path: Path) -> Observed | None:
    """The supervisor's last view; None where no supervisor has written one."""
    found = _read(path)
    if found is None:
        return None
    try:
        processes = {name: ObservedProcess(**process) for name, process in found["processes"].items()}
        return Observed(pid=found["pid"], processes=processes)
    except (KeyError, TypeError) as error:
        raise _unreadable(path, error) from error


def _read(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise _unreadable(path, error) from error
    if not isinstance(value, dict):
        raise _unreadable(path, "not an object")
    return value


def _unreadable(path: Path, reason: object) -> SurecountError:
    return SurecountError(
        f"{path} cannot be read: {reason}",
        f"`surecount down --purge` removes {path.parent} with all of its data",
    )
