"""Kafka brokers of a local stack or in containers: each is broker and KRaft controller."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from surecount.errors import SurecountError
from surecount.local import jvm
from surecount.local.layout import BROKER_JARS, BROKER_LOGGING, Layout
from surecount.local.ports import HOST, answers
from surecount.local.spec import ProcessSpec, write_private

# A value of 5 MB fits with room for its batch.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_JARS = (f"{BROKER_JARS}/*",)


@dataclass(frozen=True)
class Node:
    """One broker. ``number`` is its node id, from 1. All of its ports are on ``host``; clients that come through
    ``outside_port`` are told to come back to that port of their own machine, where a container publishes it. In a
    secured cluster other brokers come through ``broker_port``."""

    number: int
    port: int
    controller_port: int
    host: str = HOST
    outside_port: int | None = None
    broker_port: int | None = None

    @property
    def name(self) -> str:
        return f"kafka-{self.number}"


def new_cluster_id() -> str:
    """A Kafka UUID: 16 bytes in base64 without padding, never with a leading dash, which
    Kafka's command lines would take for an option."""
    while True:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        if not cluster_id.startswith("-"):
            return cluster_id


def server_properties(
    node: Node, nodes: Sequence[Node], data: Path, own: Mapping[str, str] = MappingProxyType({})
) -> str:
    """The text of a broker's configuration in a cluster of ``nodes``, with ``own`` settings in place of its own."""
    replicas = min(3, len(nodes))
    min_isr = max(1, replicas - 1)
    advertised = {"PLAINTEXT": f"{node.host}:{node.port}"}
    listeners = {**advertised, "CONTROLLER": f"{node.host}:{node.controller_port}"}
    if node.outside_port is not None:
        listeners["OUTSIDE"] = f"{node.host}:{node.outside_port}"
        advertised["OUTSIDE"] = f"{HOST}:{node.outside_port}"
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": node.number,
        "listeners": _listed(listeners, "://"),
        "advertised.listeners": _listed(advertised, "://"),
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": _listed(dict.fromkeys(listeners, "PLAINTEXT"), ":"),
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.quorum.voters": ",".join(f"{n.number}@{n.host}:{n.controller_port}" for n in nodes),
        "log.dirs": data,
        # A mistyped topic is an error, not a new and empty topic.
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": min_isr,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "replica.fetch.max.bytes": MAX_MESSAGE_BYTES,
        # The broker's default, written down because a sink that asks for more is refused at start.
        "transaction.max.timeout.ms": 900_000,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": min_isr,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": min_isr,
        # Far fewer than in production (50), so that a new broker is quick to create and load them.
        "offsets.topic.num.partitions": 5,
        "transaction.state.log.num.partitions": 5,
        "share.coordinator.state.topic.num.partitions": 5,
        # A broker that was killed cannot register anew before its old session ends, and without
        # replicas its partitions wait for that. Shorter than the default, 9 s and 2 s, but not so
        # short that a busy laptop loses a live broker.
        "broker.session.timeout.ms": 6_000,
        "broker.heartbeat.interval.ms": 1_000,
        # Consumers of a local stack need not wait for others to join their group.
        "group.initial.rebalance.delay.ms": 0,
    }
    return "".join(f"{key}={value}\n" for key, value in {**settings, **own}.items())


def _listed(settings: Mapping[str, str], separator: str) -> str:
    return ",".join(f"{name}{separator}{value}" for name, value in settings.items())


def write_config(
    layout: Layout, node: Node, nodes: Sequence[Node], own: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Write the broker's server.properties, with ``own`` settings; its data stays as it is."""
    home = layout.broker(node.number)
    home.mkdir(parents=True, exist_ok=True)
    write_private(_config(layout, node), server_properties(node, nodes, home / "data", own))


def format_storage(java: Path, layout: Layout, node: Node, cluster_id: str, secret: Sequence[str] = ()) -> None:
    """Make the broker's data folder, once: a marker says that an earlier call came to its end.

    ``secret`` are further arguments of StorageTool, which stay out of the process table.
    """
    home = layout.broker(node.number)
    marker = layout.formatted(node.number)
    if marker.exists():
        return
    if (home / "data").exists():
        shutil.rmtree(home / "data")
    command = [
        *java_command(java, layout, node.name, heap="128m", jars=_JARS),
        "kafka.tools.StorageTool",
        "format",
        "--cluster-id",
        cluster_id,
        "--config",
        str(_config(layout, node)),
    ]
    # Java reads arguments from a file, those of the program among them.
    arguments = home / "format.arguments"
    write_private(arguments, "\n".join(json.dumps(argument) for argument in (*command[1:], *secret)))
    try:
        done = subprocess.run([str(java), f"@{arguments}"], capture_output=True, text=True, check=False)
    finally:
        arguments.unlink()
    if done.returncode != 0:
        raise SurecountError(f"the data folder of {node.name} cannot be made: {done.stdout}{done.stderr}")
    marker.write_text(f"{cluster_id}\n", encoding="utf-8")


def process(java: Path, layout: Layout, node: Node, *, brokers: int, console: bool = False) -> ProcessSpec:
    """How to run the broker, which logs to its file and, if so asked, to the ``console``."""
    heap = "1g" if brokers == 1 else "512m"
    level = "ALL" if console else "OFF"
    options = ["-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError", f"-Dconsole.log.level={level}"]
    argv = [*java_command(java, layout, node.name, heap, _JARS), *options, "kafka.Kafka"]
    return ProcessSpec(
        name=node.name,
        argv=(*argv, str(_config(layout, node))),
        env={"TMPDIR": str(layout.scratch(node.name))},
        output=str(layout.output(node.name)),
        scratch=str(layout.scratch(node.name)),
    )


def java_command(java: Path, layout: Layout, name: str, heap: str, jars: Sequence[object]) -> list[str]:
    """The start of a command line: a JVM of the process ``name`` that logs as brokers do."""
    return [
        str(java),
        f"-Xmx{heap}",
        *jvm.QUIET,
        jvm.QUICK_COMPILER,
        *jvm.archived(jvm.kind_of(name)),
        f"-Djava.io.tmpdir={layout.scratch(name)}",
        f"-XX:ErrorFile={layout.logs}/{name}-crash.log",
        f"-Dlog.file={layout.log(name)}",
        f"-Dlog4j2.configurationFile=file:{BROKER_LOGGING}",
        "-Djava.awt.headless=true",
        "-cp",
        ":".join(str(jar) for jar in jars),
    ]


def _config(layout: Layout, node: Node) -> Path:
    return layout.broker(node.number) / "server.properties"


def in_service(
    number: int,
    port: int,
    timeout_s: float = 2.0,
    host: str = HOST,
    client: Mapping[str, str] = MappingProxyType({}),
) -> bool:
    """Whether broker ``number`` answers at ``port`` of ``host`` and the cluster counts it in.

    The broker itself is asked: others list one that was killed until its session ends. ``client`` are librdkafka's
    settings with which a secured broker lets one in.
    """
    if not answers(port, host):
        return False  # spares the client's attempts to connect
    # At level 2 (critical) the client does not print about brokers that are not up yet.
    admin = AdminClient({**client, "bootstrap.servers": f"{host}:{port}", "log_level": 2})
    try:
        return number in admin.list_topics(timeout=timeout_s).brokers
    except KafkaException:
        return False
