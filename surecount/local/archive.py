"""What makes a submission quicker: classes that Flink's client need not read, check and lay out again each time.

A submission is a JVM that lives for some seconds and loads thousands of classes to plan one job. ``make setup`` has it
plan one and keep them (the JVM's class data sharing), for one class path: so its jars are in a folder that stays.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from surecount.errors import SurecountError
from surecount.local import flink
from surecount.local.layout import CLIENT_ARCHIVE, CLIENT_LIB, PROJECT, Layout
from surecount.local.ports import HOST, pick
from surecount.local.prerequisites import find_java


def make() -> None:
    """Make the client's folder of jars and the archive of classes. Raises SurecountError with Flink's last words."""
    shutil.rmtree(CLIENT_LIB, ignore_errors=True)
    CLIENT_LIB.mkdir(parents=True)
    for jar in flink.jars():
        (CLIENT_LIB / jar.name).symlink_to(jar)
    with tempfile.TemporaryDirectory(prefix="surecount-archive-") as folder:
        layout = Layout(Path(folder))
        layout.logs.mkdir()
        flink.write_conf(layout, {})
        environment = flink.client_env(layout, find_java())
        environment["FLINK_LIB_DIR"] = str(CLIENT_LIB)
        environment["JVM_ARGS"] += f" -XX:ArchiveClassesAtExit={CLIENT_ARCHIVE} -Xlog:cds=off,cds+dynamic=off"
        # There is no cluster: the job is planned, and not taken.
        command = [
            f"{environment['FLINK_BIN_DIR']}/flink", "run", "--detached", "--jobmanager", f"{HOST}:{pick(set())}",
            "-Drest.retry.max-attempts=0", "--python", str(PROJECT / "jobs" / "aggregate.py"),
            "--pipeline", str(PROJECT / "examples" / "shop.toml"),
        ]  # fmt: skip
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if "Failed to submit ExecutionPlan" not in said or not CLIENT_ARCHIVE.exists():
        shutil.rmtree(CLIENT_LIB)
        raise SurecountError(f"Flink's client could not plan a job:\n{said[-2000:]}")


if __name__ == "__main__":
    make()
