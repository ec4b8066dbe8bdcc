"""Flink of a local stack: configuration, command lines, readiness.

The wheel's ``bin/jobmanager.sh`` and ``bin/taskmanager.sh`` start three JVMs each to read the
configuration before the one that counts, at every restart again. Here the same class of Flink's
(``BashJavaUtils``) derives a process's memory settings once an ``up``, and the JVM is started with
the command that the scripts would arrive at.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

import requests

from surecount.errors import SurecountError
from surecount.local import jvm
from surecount.local.layout import FLINK_CONF, FLINK_JARS, FLINK_LIB, Layout, flink_home
from surecount.local.ports import HOST, answers
from surecount.local.processes import without_identity
from surecount.local.spec import JOBMANAGER, ProcessSpec
from surecount.rest_tls import RestTls

_RESULT = "BASH_JAVA_UTILS_EXEC_RESULT:"
_JVM_OPTIONS = "env.java.opts.all"
_TASKMANAGER_OPTIONS = "env.java.opts.taskmanager"
_CLIENT = Path(__file__).with_name("client")


@dataclass(frozen=True)
class Resources:
    """What Flink derives from the memory sizes of its configuration for one kind of process."""

    jvm: tuple[str, ...]
    dynamic: tuple[str, ...]


def stack_settings(layout: Layout, *, slots: int) -> dict[str, str]:
    """The settings that belong to this place, and so not to flink-conf/."""
    return {
        "jobmanager.rpc.address": HOST,
        "jobmanager.bind-host": HOST,
        "rest.address": HOST,
        "rest.bind-address": HOST,
        "taskmanager.host": HOST,
        "taskmanager.bind-host": HOST,
        "taskmanager.numberOfTaskSlots": str(slots),
        "execution.checkpointing.dir": layout.checkpoints.as_uri(),
        "execution.checkpointing.savepoint-dir": layout.savepoints.as_uri(),
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
    }


def addresses(*, rest_port: int, rpc_port: int) -> dict[str, str]:
    """The ports of one JobManager; the RPC port has another name where there are several."""
    return {
        "rest.port": str(rest_port),
        "rest.bind-port": str(rest_port),
        "jobmanager.rpc.port": str(rpc_port),
        "high-availability.jobmanager.port": str(rpc_port),
    }


def ha_settings(layout: Layout, *, zookeeper_port: int) -> dict[str, str]:
    """What makes of several JobManagers one cluster, with the settings for it in flink-conf/."""
    return {
        "high-availability.type": "zookeeper",
        "high-availability.zookeeper.quorum": f"{HOST}:{zookeeper_port}",
        "high-availability.storageDir": layout.ha_storage.as_uri(),
        "high-availability.cluster-id": "/surecount",
        "zookeeper.sasl.disable": "true",  # the stack's has no users
    }


def merge_conf(text: str, settings: Mapping[str, str]) -> str:
    """``text`` in the form of flink-conf/config.yaml with ``settings`` in place of its own."""
    kept = [line for line in text.splitlines() if line.partition(":")[0].strip() not in settings]
    added = [f"{key}: {value}" for key, value in settings.items()]
    return "\n".join([*kept, "", "# Of this place, written by surecount.", *added, ""])


def parse_settings(texts: Iterable[str]) -> dict[str, str]:
    """Flink settings from ``KEY=VALUE`` each; raises SurecountError."""
    settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not re.fullmatch(r"[a-z][A-Za-z0-9-]*(\.[A-Za-z0-9-]+)+", key) or not equals or not _is_plain(value):
            raise SurecountError(
                f"--set {text!r} is no setting of Flink's",
                "write it as KEY=VALUE, such as taskmanager.memory.process.size=2gb",
            )
        settings[key] = value
    return settings


def _is_plain(value: str) -> bool:
    return value == value.strip() != "" and value.isprintable()


def quickly_compiled() -> dict[str, str]:
    """The setting with which TaskManagers use the quick compiler only, as JobManagers and clients do anyway: where
    none lives until the other compiler's work pays. One takes 4/7 of the CPU seconds so."""
    return {_JVM_OPTIONS: f"{_jvm_options()} {jvm.QUICK_COMPILER}"}


def _jvm_options() -> str:
    return conf_value((FLINK_CONF / "config.yaml").read_text(encoding="utf-8"), _JVM_OPTIONS)


def conf_value(text: str, key: str) -> str:
    """The value of a flat ``key: value`` line; raises where it is missing."""
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == key:
            return value.strip()
    raise SurecountError(f"{key} is missing in {FLINK_CONF / 'config.yaml'}")


def write_conf(layout: Layout, settings: Mapping[str, str]) -> None:
    """Write the stack's conf/, of flink-conf/ and ``settings``, and link the jars where that was not done for all."""
    layout.conf.mkdir(parents=True, exist_ok=True)
    for source in FLINK_CONF.iterdir():
        text = source.read_text(encoding="utf-8")
        if source.name == "config.yaml":
            text = merge_conf(text, settings)
        (layout.conf / source.name).write_text(text, encoding="utf-8")
    if layout.lib != FLINK_LIB:
        link_jars(layout.lib)


def link_jars(lib: Path) -> None:
    """Make a folder of links to all that a Flink process or client has on its classpath."""
    lib.mkdir(parents=True, exist_ok=True)
    for old in lib.iterdir():
        old.unlink()
    for jar in jars():
        (lib / jar.name).symlink_to(jar)


def jars() -> list[Path]:
    """All that a Flink process needs on its class path. Where the wheel has a jar of ours in another version, ours."""
    home = flink_home()
    ours = {artifact(jar.name): jar for jar in FLINK_JARS.glob("*.jar")}
    wheels = [*home.glob("lib/*.jar"), *home.glob("opt/flink-python-*.jar")]
    return [*(jar for jar in wheels if artifact(jar.name) not in ours), *ours.values()]


def artifact(jar: str) -> str:
    """The name of a jar without its version: ``log4j-1.2-api`` of ``log4j-1.2-api-2.25.4.jar``."""
    return re.sub(r"-\d[^-]*(-\d[\d.]*)?\.jar$", "", jar)


def client_env(layout: Layout, java: Path) -> dict[str, str]:
    """The environment for running Flink's client, ``flink`` in its FLINK_BIN_DIR, against this stack."""
    scratch = layout.scratch("client")
    scratch.mkdir(parents=True, exist_ok=True)
    environ = without_identity()
    python = Path(sys.executable)
    opened = _jvm_options().split()
    return {
        **environ,
        **_flink_variables(layout),
        "FLINK_BIN_DIR": str(_CLIENT),
        "JAVA_HOME": str(java.resolve().parents[1]),
        "PYFLINK_CLIENT_EXECUTABLE": str(python),
        # The scripts and the client call `python` by name.
        "PATH": os.pathsep.join([str(python.parent), environ.get("PATH", os.defpath)]),
        "JVM_ARGS": shlex.join(
            [*jvm.QUIET, jvm.QUICK_COMPILER, *opened, *jvm.archived(jvm.CLIENT), f"-Djava.io.tmpdir={scratch}"]
        ),
        "TMPDIR": str(scratch),
    }


def _flink_variables(layout: Layout) -> dict[str, str]:
    home = flink_home()
    return {
        "FLINK_HOME": str(home),
        "FLINK_BIN_DIR": str(home / "bin"),
        "FLINK_OPT_DIR": str(home / "opt"),
        "FLINK_PLUGINS_DIR": str(home / "plugins"),
        "FLINK_LIB_DIR": str(layout.lib),
        "FLINK_CONF_DIR": str(layout.conf),
        "FLINK_LOG_DIR": str(layout.logs),
        "FLINK_IDENT_STRING": "surecount",  # in the name of the client's log
    }


def derive_resources(java: Path, layout: Layout, kind: Literal["JM", "TM"]) -> Resources:
    """Ask Flink what its configuration in ``layout.conf`` means in JVM and memory options."""
    # The class path begins as a JobManager's, whose archive of classes does for this, too.
    classpath = f"{_classpath(layout)}:{flink_home()}/bin/bash-java-utils.jar"
    command = [
        *(str(java), *jvm.QUIET, jvm.QUICK_COMPILER, *jvm.archived(JOBMANAGER), "-cp", classpath),
        "org.apache.flink.runtime.util.bash.BashJavaUtils",
        *(f"GET_{kind}_RESOURCE_PARAMS", "--configDir", str(layout.conf)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    results = parse_results(done.stdout)
    if done.returncode != 0 or len(results) != 2:
        raise SurecountError(
            f"Flink does not accept the configuration in {layout.conf}:\n{done.stdout}{done.stderr}",
            f"mend {FLINK_CONF / 'config.yaml'}",
        )
    return Resources(jvm=tuple(results[0].split()), dynamic=tuple(results[1].split()))


def parse_results(printed: str) -> list[str]:
    """The result lines among what BashJavaUtils prints."""
    return [line.removeprefix(_RESULT) for line in printed.splitlines() if line.startswith(_RESULT)]


def jobmanager(
    java: Path, layout: Layout, name: str, resources: Resources, settings: Mapping[str, str] = MappingProxyType({})
) -> ProcessSpec:
    """How to run a JobManager, with ``settings`` of its own before those that all share."""
    main = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
    own = [part for key, value in settings.items() for part in ("-D", f"{key}={value}")]
    arguments = ["--configDir", str(layout.conf), *resources.dynamic, *own]
    return _process(java, layout, name, resources, main, arguments, jvm.QUICK_COMPILER)


def taskmanager(java: Path, layout: Layout, number: int, resources: Resources) -> ProcessSpec:
    """How to run TaskManager ``number``, counted from 1."""
    name = f"taskmanager-{number}"
    main = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
    # With an id that stays, the JobManager knows a restarted TaskManager at once for the one that
    # it lost, and need not wait for the old one's heartbeat.
    identity = ["-D", f"taskmanager.resource-id={name}"]
    arguments = ["--configDir", str(layout.conf), *resources.dynamic, *identity]
    return _process(java, layout, name, resources, main, arguments, *_options(layout, _TASKMANAGER_OPTIONS))


def _options(layout: Layout, key: str) -> list[str]:
    return conf_value((layout.conf / "config.yaml").read_text(encoding="utf-8"), key).split()


def _process(
    java: Path, layout: Layout, name: str, resources: Resources, main: str, arguments: Sequence[str], *options: str
) -> ProcessSpec:
    scratch = layout.scratch(name)
    logging = f"file:{layout.conf}/log4j-console.properties"
    argv = [
        str(java),
        *resources.jvm,
        "-XX:+IgnoreUnrecognizedVMOptions",
        *jvm.QUIET,
        *jvm.archived(jvm.kind_of(name)),
        *options,
        *_options(layout, _JVM_OPTIONS),
        f"-Djava.io.tmpdir={scratch}",
        f"-XX:ErrorFile={layout.logs}/{name}-crash.log",
        f"-Dlog.file={layout.log(name)}",
        "-Dconsole.log.level=OFF",
        f"-Dlog4j.configuration={logging}",
        f"-Dlog4j.configurationFile={logging}",
        *("-classpath", _classpath(layout), main),
        *arguments,
        *("-D", f"io.tmp.dirs={scratch}"),
    ]
    return ProcessSpec(
        name=name,
        argv=tuple(argv),
        env={**_flink_variables(layout), "TMPDIR": str(scratch)},
        output=str(layout.output(name)),
        scratch=str(scratch),
    )


def _classpath(layout: Layout) -> str:
    # As constructFlinkClassPath of the wheel's config.sh: by name, flink-dist last.
    jars = sorted(layout.lib.glob("*.jar"), key=lambda jar: (jar.name.startswith("flink-dist"), jar.name))
    return ":".join(str(jar) for jar in jars)


def registered_taskmanagers(url: str, timeout_s: float = 2.0) -> set[str] | None:
    """The resource ids of the TaskManagers in service; None where the JobManager does not answer, or, being a
    standby, cannot ask the one that leads.

    It lists one that was killed until its heartbeats are missed, under the id that its successor
    will have. So one counts only if a server listens where it is registered.
    """
    with requests.Session() as session:
        session.trust_env = False  # no proxy between here and the loopback interface
        try:
            answer = session.get(f"{url}/taskmanagers", timeout=timeout_s, **RestTls.from_environment().of_requests())
            answer.raise_for_status()  # the REST server is up, with 503, before the JobManager is
            listed = answer.json()["taskmanagers"]
        except requests.RequestException:
            return None
    return {str(taskmanager["id"]) for taskmanager in listed if _serves(taskmanager["path"])}


def _serves(path: str) -> bool:
    host, port = rpc_address(path)
    return answers(port, host)


def rpc_address(path: str) -> tuple[str, int]:
    """Host and port in an RPC address such as ``pekko.tcp://flink@127.0.0.1:43357/user/rpc/taskmanager_0``."""
    address = urlsplit(path)
    if address.hostname is None or address.port is None:
        raise ValueError(f"no host or port in the RPC address {path!r}")
    return address.hostname, address.port
