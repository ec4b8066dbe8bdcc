"""What each role of the image runs, and what must be there before.

A role writes into one folder, SURECOUNT_ROLE_DIR: configuration, links to jars, logs, temporary files, and a
broker's or ZooKeeper's data. Flink's settings are those of flink-conf/, the role's own addresses, and
FLINK_PROPERTIES (lines of ``key: value``), which has the last word.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from surecount.errors import SurecountError
from surecount.local import flink, jvm, kafka, zookeeper
from surecount.local.kafka import Node
from surecount.local.layout import Layout, flink_home
from surecount.local.prerequisites import find_java

USAGE = """\
surecount ARGUMENT…      the command line
broker NUMBER            of the brokers in SURECOUNT_BROKERS; the cluster's id is SURECOUNT_CLUSTER_ID
zookeeper HOST:PORT
jobmanager HOST          HOST is the name under which the others reach it
taskmanager HOST
health ROLE ARGUMENT…    whether a server is in service; `health --help` says more
anything else            a command, with Flink's bin/ in PATH and its folders in the environment"""

# Where Flink on Kubernetes mounts its configuration if nothing else is said (kubernetes.flink.conf.dir).
_KUBERNETES_CONF = "/opt/flink/conf"


@dataclass(frozen=True)
class Command:
    """What a role runs; ``env`` is its whole environment."""

    argv: tuple[str, ...]
    env: dict[str, str]


def prepare(words: Sequence[str], environ: Mapping[str, str]) -> Command:
    """Make ready the role that ``words`` name with its arguments. Raises SurecountError."""
    if not words:
        raise SurecountError("no role is named", USAGE)
    command = _prepare(words, environ)
    # They are in config.yaml now. PyFlink and Flink's client log their environment, and passwords may be among them.
    return replace(command, env={name: value for name, value in command.env.items() if name != "FLINK_PROPERTIES"})


def _prepare(words: Sequence[str], environ: Mapping[str, str]) -> Command:
    role, *arguments = words
    layout = _layout(environ)
    if server := _SERVERS.get(role):
        if len(arguments) != 1:
            raise SurecountError(f"{role} takes one argument, not {arguments}", USAGE)
        # A restarted container still has the temporary files of the process that was killed.
        shutil.rmtree(layout.scratch(role), ignore_errors=True)
        layout.scratch(role).mkdir(parents=True)
        return server(layout, environ, arguments[0])
    if role == "surecount":
        return _surecount(layout, environ, arguments)
    return _other(layout, environ, words)


def parse_properties(text: str) -> dict[str, str]:
    """Flink settings from lines of ``key: value``; blank ones and comments count for nothing. Raises SurecountError."""
    settings = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, _, value = (part.strip() for part in line.partition(":"))
        if not key or not value:
            raise SurecountError(f"FLINK_PROPERTIES: {line!r} is no setting", "write it as key: value")
        settings[key] = value
    return settings


def parse_nodes(text: str) -> list[Node]:
    """Brokers from ``host:port:controller-port[:outside-port]`` each, with blanks between. Raises SurecountError."""
    nodes = []
    for number, word in enumerate(text.split(), start=1):
        host, *ports = word.split(":")
        if len(ports) not in (2, 3) or not all(port.isdecimal() for port in ports):
            raise SurecountError(
                f"SURECOUNT_BROKERS: {word!r} is no broker", "write it as host:port:controller-port[:outside-port]"
            )
        port, controller, *outside = map(int, ports)
        nodes.append(Node(number, port, controller, host, *outside))
    return nodes


def _layout(environ: Mapping[str, str]) -> Layout:
    folder = environ.get("SURECOUNT_ROLE_DIR")
    if not folder:
        raise SurecountError("SURECOUNT_ROLE_DIR is not set", "name the folder that the role may write to")
    layout = Layout(Path(folder).resolve())
    layout.logs.mkdir(parents=True, exist_ok=True)
    return layout


def _broker(layout: Layout, environ: Mapping[str, str], number: str) -> Command:
    nodes = parse_nodes(environ.get("SURECOUNT_BROKERS", ""))
    node = next((node for node in nodes if str(node.number) == number), None)
    cluster_id = environ.get("SURECOUNT_CLUSTER_ID")
    if node is None or not cluster_id:
        raise SurecountError(
            f"broker {number}: SURECOUNT_BROKERS names {len(nodes)}, SURECOUNT_CLUSTER_ID is {cluster_id}",
            "set both, to the same for all brokers",
        )
    java = find_java()
    layout.scratch(node.name).mkdir(parents=True, exist_ok=True)
    kafka.write_config(layout, node, nodes)
    kafka.format_storage(java, layout, node, cluster_id)
    process = kafka.process(java, layout, node, brokers=len(nodes), console=True)
    return Command(process.argv, {**environ, **process.env})


def _zookeeper(layout: Layout, environ: Mapping[str, str], address: str) -> Command:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise SurecountError(f"zookeeper: {address!r} is no address", "write it as HOST:PORT")
    _write_conf(layout, environ, {})
    conf = layout.conf / "zoo.cfg"
    conf.write_text(zookeeper.server_config(int(port), layout.root / "zookeeper", host), encoding="utf-8")
    options = [
        *jvm.QUIET,
        f"-Djava.io.tmpdir={layout.scratch('zookeeper')}",
        f"-Dlog.file={layout.log('zookeeper')}",
        f"-Dlog4j.configurationFile=file:{layout.conf}/log4j-console.properties",
    ]
    java = str(find_java())
    return Command((java, "-Xmx256m", *options, "-cp", f"{layout.lib}/*", zookeeper.MAIN, str(conf)), dict(environ))


def _jobmanager(layout: Layout, environ: Mapping[str, str], host: str) -> Command:
    settings = dict.fromkeys(
        ("jobmanager.rpc.address", "jobmanager.bind-host", "rest.address", "rest.bind-address"), host
    )
    env = _flink_environment(layout, environ, "jobmanager", settings)
    return Command((_bin("jobmanager.sh"), "start-foreground"), env)


def _taskmanager(layout: Layout, environ: Mapping[str, str], host: str) -> Command:
    # With an id that stays, the JobManager knows a restarted TaskManager at once for the one that it lost.
    settings = dict.fromkeys(("taskmanager.host", "taskmanager.bind-host", "taskmanager.resource-id"), host)
    env = _flink_environment(layout, environ, "taskmanager", settings)
    return Command((_bin("taskmanager.sh"), "start-foreground"), env)


def _surecount(layout: Layout, environ: Mapping[str, str], arguments: Sequence[str]) -> Command:
    _write_conf(layout, environ, {})
    env = {**environ, **flink.client_env(layout, find_java())}
    # -P: a folder `udfs` beside the caller's pipeline file must not hide the project's own.
    return Command((sys.executable, "-P", "-m", "surecount.cli", *arguments), env)


def _other(layout: Layout, environ: Mapping[str, str], words: Sequence[str]) -> Command:
    """On Kubernetes Flink names the script, and mounts the configuration."""
    layout.scratch("other").mkdir(parents=True, exist_ok=True)
    flink.link_jars(layout.lib)
    conf = environ.get("FLINK_CONF_DIR", _KUBERNETES_CONF)
    return Command(tuple(words), {**_server_environment(layout, environ, "other"), "FLINK_CONF_DIR": conf})


def _flink_environment(
    layout: Layout, environ: Mapping[str, str], role: str, settings: Mapping[str, str]
) -> dict[str, str]:
    _write_conf(layout, environ, settings)
    return _server_environment(layout, environ, role)


def _write_conf(layout: Layout, environ: Mapping[str, str], settings: Mapping[str, str]) -> None:
    python = dict.fromkeys(("python.executable", "python.client.executable"), sys.executable)
    properties = parse_properties(environ.get("FLINK_PROPERTIES", ""))
    flink.write_conf(layout, {**python, **settings, **properties})


def _server_environment(layout: Layout, environ: Mapping[str, str], role: str) -> dict[str, str]:
    scratch = layout.scratch(role)
    client = flink.client_env(layout, find_java())
    return {
        **environ,
        **client,
        "FLINK_BIN_DIR": _bin(""),  # where Flink's scripts look for one another
        "PATH": os.pathsep.join([_bin(""), client["PATH"]]),
        "JVM_ARGS": shlex.join([*jvm.QUIET, f"-Djava.io.tmpdir={scratch}"]),
        "TMPDIR": str(scratch),
        "FLINK_PID_DIR": str(scratch),
    }


def _bin(script: str) -> str:
    return str(flink_home() / "bin" / script)


_SERVERS: dict[str, Callable[[Layout, Mapping[str, str], str], Command]] = {
    "broker": _broker,
    "zookeeper": _zookeeper,
    "jobmanager": _jobmanager,
    "taskmanager": _taskmanager,
}
