"""ZooKeeper: of a local stack with --ha one server, on the loopback interface.

It keeps who of the JobManagers leads, and where the leader's jobs and checkpoints are. One is enough here, because
the supervisor starts it again; on machines that can be lost, ZooKeeper takes three.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path

from surecount.local.kafka import java_command
from surecount.local.layout import BROKER_JARS, Layout, flink_home
from surecount.local.ports import HOST
from surecount.local.spec import ZOOKEEPER, ProcessSpec

# ZooKeeper's own, not Flink's wrapper (FlinkZooKeeperQuorumPeer): that one never removes old transaction logs.
MAIN = "org.apache.flink.shaded.zookeeper3.org.apache.zookeeper.server.quorum.QuorumPeerMain"
# Written, in the folder of its cluster id, by the JobManager that leads, and gone with its session.
_LEADERS_NODE = re.compile(r"/leader/dispatcher/connection_info$")


def server_config(port: int, data: Path, host: str = HOST) -> str:
    """The text of the configuration of a server that listens at a host's address."""
    settings: dict[str, object] = {
        "dataDir": data,
        "clientPort": port,
        "clientPortAddress": host,
        # In ms. A session ends up to a tick late, and may last 2 to 20 of them.
        "tickTime": 1000,
        "autopurge.snapRetainCount": 3,
        "autopurge.purgeInterval": 1,
        "admin.enableServer": "false",
        # What readiness and `surecount status` ask for.
        "4lw.commands.whitelist": "srvr,dump,cons",
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def write_config(layout: Layout, port: int) -> None:
    """Write the server's configuration; its data stay as they are."""
    layout.zookeeper.mkdir(parents=True, exist_ok=True)
    _config(layout).write_text(server_config(port, layout.zookeeper / "data"), encoding="utf-8")


def process(java: Path, layout: Layout) -> ProcessSpec:
    """How to run the server."""
    # Flink brings ZooKeeper, whole; what it logs with comes from the broker's jars. No more than that, and a collector
    # that is soon there: jobs wait while it starts.
    logging = [jar for pattern in ("slf4j-api-*.jar", "log4j-*.jar") for jar in sorted(BROKER_JARS.glob(pattern))]
    jars = [*logging, *flink_home().glob("lib/flink-dist-*.jar")]
    options = ["-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-Dconsole.log.level=OFF"]
    argv = [*java_command(java, layout, ZOOKEEPER, heap="128m", jars=jars), *options, MAIN]
    return ProcessSpec(
        name=ZOOKEEPER,
        argv=(*argv, str(_config(layout))),
        env={"TMPDIR": str(layout.scratch(ZOOKEEPER))},
        output=str(layout.output(ZOOKEEPER)),
        scratch=str(layout.scratch(ZOOKEEPER)),
    )


def _config(layout: Layout) -> Path:
    return layout.zookeeper / "zoo.cfg"


def in_service(port: int, timeout_s: float = 2.0) -> bool:
    """Whether the server at ``port`` serves clients."""
    return "\nMode: " in ask(port, "srvr", timeout_s)


def leaders_port(port: int, timeout_s: float = 2.0) -> int | None:
    """The port from which the JobManager that leads is connected to the server; None where none leads."""
    session = leaders_session(ask(port, "dump", timeout_s))
    return None if session is None else session_ports(ask(port, "cons", timeout_s)).get(session)


def leaders_session(dump: str) -> int | None:
    """The session that holds the leader's node, in what the server says to ``dump``."""
    session = None
    for line in dump.splitlines():
        if found := re.fullmatch(r"0x([0-9a-f]+):", line.strip()):
            session = int(found[1], 16)
        elif session is not None and _LEADERS_NODE.search(line.strip()):
            return session
    return None


def session_ports(cons: str) -> dict[int, int]:
    """The client's port of each session with a connection, in what the server says to ``cons``."""
    found = re.findall(r"^\s*/[^\s\[]*:(\d+)\[.*\bsid=0x([0-9a-f]+)", cons, re.MULTILINE)
    return {int(session, 16): int(port) for port, session in found}


def ask(port: int, command: str, timeout_s: float) -> str:
    """What the server says to a four-letter command; nothing where it does not answer."""
    try:
        with socket.create_connection((HOST, port), timeout=timeout_s) as connection:
            connection.sendall(command.encode())
            with connection.makefile("r", encoding="utf-8", errors="replace") as answer:
                return answer.read()
    except OSError:
        return ""
