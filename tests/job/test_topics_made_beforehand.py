"""A results topic made beforehand, too small for a result: refused, and right after the command of the error."""

from __future__ import annotations

import json
import random
import re
import shlex
import string
import subprocess
import sys
import time
from collections.abc import Callable

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from surecount import topics
from surecount.local.layout import BROKER_JARS
from surecount.local.prerequisites import find_java
from tests.conftest import PIPELINE, Running

KEY_BYTES = 700_000


def test_a_large_key_and_a_small_results_topic(make: Callable[..., Running]) -> None:
    run = make(PIPELINE, sources=[])
    topics.ensure_source(run.pipeline, 1)
    results = run.pipeline.topics.results
    config = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "1048588"}
    admin = AdminClient(topics.client_config(run.pipeline.kafka))
    admin.create_topics([NewTopic(results, 1, 1, config=config)])[results].result(timeout=10)
    # What no codec makes smaller, and a result holds twice.
    key = "".join(random.choices(string.ascii_letters + string.digits, k=KEY_BYTES))
    producer = Producer({**topics.client_config(run.pipeline.kafka), "message.max.bytes": 2 * KEY_BYTES})
    producer.produce(
        f"{run.pipeline.name}.in", json.dumps({"ts": int(time.time() * 1000), "customer": key, "amount": 1})
    )
    assert producer.flush(30) == 0

    refused = submit(run)
    assert refused.returncode == 2
    assert f"topic '{results}' has max.message.bytes=1048588" in refused.stderr
    (told,) = re.findall(r"kafka-configs\.sh [^;\n]*", refused.stderr)
    altered = kafka_configs(*shlex.split(told)[1:])
    assert altered.returncode == 0, altered.stdout + altered.stderr

    done = submit(run)
    assert done.returncode == 0, done.stdout + done.stderr
    (message,) = run.read(results)
    assert json.loads(message.value())["key"] == {"customer": key}


def submit(run: Running) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "surecount.cli", "submit", str(run.file), "--bounded")
    return subprocess.run(
        [*command, "--dir", str(run.stack.directory)], capture_output=True, text=True, check=False, timeout=120
    )


def kafka_configs(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What kafka-configs.sh of Kafka's distribution runs."""
    java = [str(find_java()), "-XX:-UsePerfData", "-cp", f"{BROKER_JARS}/*", "kafka.admin.ConfigCommand"]
    return subprocess.run([*java, *arguments], capture_output=True, text=True, check=False, timeout=60)
