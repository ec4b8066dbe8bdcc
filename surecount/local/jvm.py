"""Options of a stack's JVMs, and archives of the classes that they load.

Reading and checking classes is a large part of the CPU time of a start. ``make setup`` runs each kind of process once
and keeps its classes in an archive (the JVM's class data sharing). An archive fits one class path only, so all stacks
link the same jars.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from surecount.local.layout import ARCHIVES
from surecount.local.prerequisites import find_java
from surecount.local.spec import ProcessSpec

# /tmp/hsperfdata_* is the one file that a JVM writes whatever java.io.tmpdir says.
QUIET = ("-XX:-UsePerfData",)
# A laptop's cores are few: without this the second compiler is busy for minutes, in each broker and JobManager,
# with code that hardly matters to them, while TaskManagers wait for a core. A submission takes 10 s with it, 13 s
# without.
QUICK_COMPILER = "-XX:TieredStopAtLevel=1"

CLIENT = "client"
# The JVM would tell on standard output, where others are read, of an archive that does not fit. It goes without.
_SILENT = "-Xlog:cds=off,cds+dynamic=off"


def archive(kind: str) -> Path:
    """The archive of a kind of process: of ``kafka-1`` it is ``kafka``, of Flink's client ``client``."""
    return ARCHIVES / f"{kind}.jsa"


def archived(kind: str) -> list[str]:
    """The options with which a JVM takes its classes from an archive, where there is one."""
    file = archive(kind)
    return [f"-XX:SharedArchiveFile={file}", _SILENT] if file.exists() else []


def archiving(kind: str) -> list[str]:
    """The options with which a JVM makes its archive when it ends by itself."""
    return [f"-XX:ArchiveClassesAtExit={archive(kind)}", _SILENT]


def kind_of(name: str) -> str:
    """The kind of a process, as archives are named."""
    return name.partition("-")[0]


def recording(process: ProcessSpec) -> ProcessSpec:
    """The process with the option that :func:`dump` needs: the JVM notes which classes it loads."""
    java, *arguments = process.argv
    return replace(process, argv=(java, "-XX:+RecordDynamicDumpInfo", _SILENT, *arguments))


def dump(name: str, pid: int) -> None:
    """Make the archive for the kind of a running process that records its classes.

    Raises OSError or subprocess.SubprocessError where ``jcmd`` is missing, fails or takes over 60 s. An archive made
    at the process's end would be cut off: Flink kills a TaskManager 5 s after its SIGTERM, and a busy machine takes
    longer.
    """
    jcmd = find_java().resolve().parent / "jcmd"
    file = archive(kind_of(name))
    subprocess.run([jcmd, str(pid), "VM.cds", "dynamic_dump", file], stdout=subprocess.DEVNULL, timeout=60, check=True)
