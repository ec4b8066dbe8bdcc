"""What makes starts quicker: classes that a JVM need not read, check and lay out again each time.

``make setup`` has a stack run a job, and keeps the classes of each of its JVMs (:mod:`surecount.local.jvm`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from confluent_kafka import Producer

from surecount import config, topics
from surecount.console import err
from surecount.local import flink, jvm
from surecount.local.layout import ARCHIVES, FLINK_LIB
from surecount.local.stack import Stack
from surecount.ops.bounded import wait_for_end
from surecount.ops.flink import Flink
from surecount.ops.submit import submit

KINDS = (jvm.CLIENT, "kafka", "jobmanager", "taskmanager")

_PIPELINE = """
name = "archive"
[kafka]
bootstrap_servers = "SERVERS"
[source]
topics = ["archive.in"]
event_time = { field = "ts", unit = "ms" }
[[aggregate]]
name = "a"
key = ["k"]
window = "1 s"
"""


def make() -> None:
    """Make the folder of Flink's jars and the archives of classes. Print which archives are missing: starts of these
    load their classes from the jars."""
    for made in (FLINK_LIB, ARCHIVES):
        shutil.rmtree(made, ignore_errors=True)
    ARCHIVES.mkdir(parents=True)
    flink.link_jars(FLINK_LIB)
    with tempfile.TemporaryDirectory(prefix="surecount-archive-") as folder:
        stack = Stack(Path(folder) / "stack", is_owned=True)
        try:
            stack.up(kafka_port=0, flink_port=0, archiving=True)
            _run_a_job(stack, Path(folder) / "archive.toml")
            for name, pid in stack.processes().items():
                if jvm.kind_of(name) in KINDS:
                    try:
                        jvm.dump(name, pid)
                    except (OSError, subprocess.SubprocessError) as error:
                        err.print(f"{name}: {error}", highlight=False, markup=False)
        finally:
            stack.down()
    if missing := [kind for kind in KINDS if not jvm.archive(kind).exists()]:
        err.print(f"no archive of classes for {', '.join(missing)}: their starts will take longer", highlight=False)


def _run_a_job(stack: Stack, file: Path) -> None:
    """What most jobs need: from Kafka, through Python, exactly once into Kafka."""
    file.write_text(_PIPELINE.replace("SERVERS", stack.bootstrap_servers), encoding="utf-8")
    pipeline = config.load(file)
    topics.ensure_source(pipeline, 1)
    topics.ensure_outputs(pipeline)
    producer = Producer(topics.client_config(pipeline.kafka))
    for value in (json.dumps({"ts": time.time_ns() // 1_000_000, "k": "a"}), "rejected"):
        producer.produce("archive.in", value)
    producer.flush()
    environment = stack.flink_env()
    environment["JVM_ARGS"] += " " + " ".join(jvm.archiving(jvm.CLIENT))
    job = submit(pipeline, file, Flink(stack.flink_url), environment, bounded=True)
    wait_for_end(Flink(stack.flink_url), job, lambda _: None)


if __name__ == "__main__":
    make()
