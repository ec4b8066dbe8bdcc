"""What a stack looks like from outside: the process table, the supervisor's notes, and whether
Kafka and Flink answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import psutil

from surecount.kafka.security import for_librdkafka
from surecount.local import flink, kafka, processes, secure, zookeeper
from surecount.local.layout import Layout
from surecount.local.ports import HOST
from surecount.local.processes import StackProcess
from surecount.local.spec import (
    SUPERVISOR,
    ZOOKEEPER,
    Observed,
    Role,
    StackSpec,
    load_observed,
    load_stack,
    role_of,
)


@dataclass(frozen=True)
class ProcessStatus:
    """One process. ``pid`` and ``uptime_s`` are None while it does not run; ``rss_bytes`` counts
    its children (a TaskManager's Python workers); ``exit_code`` is that of its last death."""

    name: str
    role: Role
    state: Literal["running", "restarting", "dead"]
    pid: int | None
    uptime_s: float | None
    restarts: int
    rss_bytes: int
    exit_code: int | None


@dataclass(frozen=True)
class StackStatus:
    """``running``: some process of the stack lives. ``ok``: all do, Kafka and, where the stack has it,
    Flink answer with all of their members; else ``problems`` says, a line each, what is wrong.
    ``leader`` is the JobManager that leads, where there are several and one does."""

    directory: str
    running: bool
    ok: bool
    bootstrap_servers: str | None
    flink_url: str | None
    leader: str | None
    processes: tuple[ProcessStatus, ...]
    problems: tuple[str, ...]


def bootstrap_servers(stack: StackSpec) -> str:
    return ",".join(f"{HOST}:{port}" for port in stack.kafka_ports)


def flink_url(stack: StackSpec) -> str | None:
    """The root of Flink's REST API, of each JobManager with a comma between; None where the stack has no Flink."""
    return ",".join(f"http://{HOST}:{port}" for port in stack.flink_ports) or None


def ready_names(layout: Layout, stack: StackSpec, timeout_s: float = 2.0) -> set[str]:
    """The names of the processes that are in service: brokers, ZooKeeper and JobManagers that answer,
    TaskManagers that are registered."""
    client = for_librdkafka(secure.as_user(layout, stack, secure.ADMIN)) if stack.secure else {}
    names = {
        f"kafka-{number}"
        for number, port in enumerate(stack.kafka_ports, start=1)
        if kafka.in_service(number, port, timeout_s, client=client)
    }
    if stack.zookeeper_port is not None and zookeeper.in_service(stack.zookeeper_port, timeout_s):
        names.add(ZOOKEEPER)
    for name, port in stack.jobmanagers.items():
        registered = flink.registered_taskmanagers(f"http://{HOST}:{port}", timeout_s)
        if registered is not None:
            names |= {name, *registered}
    return names


def find_leader(stack: StackSpec, found: Sequence[StackProcess]) -> str | None:
    """The name of the JobManager that leads; None where there is only one, or where none of them does."""
    port = zookeeper.leaders_port(stack.zookeeper_port) if stack.zookeeper_port is not None else None
    jobmanagers = [p for p in found if p.main and p.name in stack.jobmanagers]
    return next((p.name for p in jobmanagers if port in _ports(p.process)), None)


def _ports(process: psutil.Process) -> set[int]:
    try:
        return {connection.laddr.port for connection in process.net_connections(kind="tcp")}
    except psutil.NoSuchProcess:
        return set()


def read_status(layout: Layout) -> StackStatus:
    """Look at the stack in ``layout``; never raises because it is stopped or broken."""
    stack = load_stack(layout.stack_file)
    found = processes.find(layout.root)
    if stack is None:
        problem = f"there is no stack in {layout.root}"
        return StackStatus(str(layout.root), bool(found), False, None, None, None, (), (problem,))
    observed = load_observed(layout.state_file)
    names = [SUPERVISOR, *(process.name for process in stack.processes)]
    supervised = any(p.name == SUPERVISOR for p in found)
    statuses = tuple(_process_status(name, found, observed, supervised) for name in names)
    leader = find_leader(stack, found)
    problems = _problems(layout, stack, statuses, leader) if found else ("the stack is stopped",)
    return StackStatus(
        directory=str(layout.root),
        running=bool(found),
        ok=not problems,
        bootstrap_servers=bootstrap_servers(stack),
        flink_url=flink_url(stack),
        leader=leader,
        processes=statuses,
        problems=problems,
    )


def _process_status(
    name: str, found: Sequence[StackProcess], observed: Observed | None, supervised: bool
) -> ProcessStatus:
    own = [p.process for p in found if p.name == name]
    main = next((p.process for p in found if p.name == name and p.main), None)
    notes = observed.processes.get(name) if observed else None
    uptime_s = _uptime_s(main) if main else None
    return ProcessStatus(
        name=name,
        role=role_of(name),
        state="running" if uptime_s is not None else "restarting" if supervised else "dead",
        pid=main.pid if main and uptime_s is not None else None,
        uptime_s=uptime_s,
        restarts=notes.restarts if notes else 0,
        rss_bytes=sum(_rss_bytes(process) for process in own),
        exit_code=notes.exit_code if notes else None,
    )


def _uptime_s(process: psutil.Process) -> float | None:
    try:
        return max(0.0, time.time() - process.create_time())
    except psutil.NoSuchProcess:
        return None


def _rss_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _problems(
    layout: Layout, stack: StackSpec, statuses: Sequence[ProcessStatus], leader: str | None
) -> tuple[str, ...]:
    problems = [f"{status.name} is {status.state}" for status in statuses if status.state != "running"]
    if any(status.name == SUPERVISOR and status.state != "running" for status in statuses):
        problems.append("without its supervisor nothing restarts what dies: `surecount up` starts anew")
    running = {status.name for status in statuses if status.state == "running"}
    silent = running - {SUPERVISOR} - ready_names(layout, stack)
    problems += [f"{name} runs but is not in service" for name in sorted(silent)]
    if stack.zookeeper_port is not None and leader is None:
        problems.append("no JobManager leads: while that is so, no job goes on")
    return tuple(problems)
