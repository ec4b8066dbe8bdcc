"""A local stack for the tests that need one, pipelines on it, and logs of what failed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, OffsetSpec
from hypothesis import settings

from surecount import config, topics
from surecount.config import Kafka, Pipeline
from surecount.generate import Options, Summary, generate
from surecount.local.flink import quickly_compiled
from surecount.local.stack import Stack
from surecount.ops.bounded import wait_for_end, wait_until_running
from surecount.ops.flink import RUNNING_STATES, Flink
from surecount.ops.submit import submit
from surecount.waiting import WaitTimeoutError, wait_until
from tests.examples import examples

KEPT_LOGS = Path("test-logs")

PIPELINE = """
[source]
topics = ["NAME.in"]
event_time = { field = "ts", unit = "ms" }
out_of_orderness = "1 s"
idle_after = "5 s"

[[aggregate]]
name = "a"
key = ["customer"]
sum = ["amount"]
window = "5 s"

[checkpoint]
interval = "1 s"
"""
"""One aggregate with short windows and checkpoints, for :func:`make`."""

_HOUR_S = 3_600

# How long an example takes says more about the machine than about the code.
settings.register_profile("surecount", deadline=None, max_examples=examples(100))
settings.load_profile("surecount")


def pytest_configure() -> None:
    # So that what fixtures started is stopped then, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    if outcome.get_result().failed:
        item.session.stash[_FAILED] = True


_FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """One broker, a JobManager, and a TaskManager with four slots, on free ports."""
    running = Stack(tmp_path_factory.mktemp("stack"), is_owned=True)
    with started(running, request, slots=4):
        yield running


@contextmanager
def started(stack: Stack, request: pytest.FixtureRequest, **options: Any) -> Iterator[None]:
    """A stack that runs, on free ports, and is removed in the end; its logs are kept where a test failed."""
    stack.up(kafka_port=0, flink_port=0, flink_settings=quickly_compiled(), **options)
    try:
        yield
    finally:
        if request.session.stash.get(_FAILED, False):
            # Two run at once, each with stacks of its own.
            kept = KEPT_LOGS / f"{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-{stack.directory.name}"
            shutil.copytree(stack.logs_dir, kept, dirs_exist_ok=True)
        stack.down(purge=True)


@dataclass(frozen=True)
class Running:
    """A pipeline with topics of its own on the stack."""

    pipeline: Pipeline
    file: Path
    stack: Stack

    @property
    def flink(self) -> Flink:
        return Flink(self.stack.flink_url)

    def submit(self, *, bounded: bool = False, parallelism: int = 1, snapshot: str | None = None) -> str:
        """Submit, and wait until it runs or, bounded, has ended."""
        ids = self.submit_all(bounded=bounded, parallelism=parallelism, snapshot=snapshot)
        return ids["aggregate"]

    def submit_all(self, *, bounded: bool = False, parallelism: int = 1, snapshot: str | None = None) -> dict[str, str]:
        """The same, with the ids of all the pipeline's jobs by name."""
        ids = {}
        for job in self.pipeline.jobs:
            ids[job] = submit(
                self.pipeline, self.file, self.flink, self.stack.flink_env(),
                job=job, bounded=bounded, parallelism=parallelism, snapshot=snapshot,
            )  # fmt: skip
            if bounded:
                wait_for_end(self.flink, ids[job], lambda _: None)
            else:
                wait_until_running(self.flink, ids[job])
        return ids

    def read(self, topic: str) -> list[Message]:
        """All committed records of a topic."""
        return read_committed(self.pipeline, topic)


def _decided(pipeline: Pipeline, topic: str) -> bool:
    """Whether no transaction is open: the broker writes the marker some time after it has confirmed a commit."""
    admin = topics.Admin(pipeline.kafka)
    places = [TopicPartition(*place) for place in topics.offsets(pipeline.kafka, [topic])]
    stable, end = (admin.offsets(places, OffsetSpec.latest(), committed=committed) for committed in (True, False))
    return stable == end


def read_committed(pipeline: Pipeline, topic: str, decide_s: float = 5) -> list[Message]:
    """All committed records of a topic that no one writes to any more, or that did not change for ``decide_s``."""
    consumer = Consumer(
        {
            **topics.client_config(pipeline.kafka),
            "group.id": "tests",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    found: list[Message] = []
    try:
        with suppress(WaitTimeoutError):  # a job that goes on always has a transaction open
            wait_until(lambda: _decided(pipeline, topic), decide_s, f"the transactions of {topic} to be decided")
        ends = topics.offsets(pipeline.kafka, [topic])
        consumer.assign([TopicPartition(t, p, low) for (t, p), (low, _) in ends.items()])
        at_end: set[int | None] = set()

        def drained() -> bool:
            for message in consumer.consume(10_000, 0.2):
                if message.error():
                    at_end.add(message.partition())
                else:
                    found.append(message)
            return len(at_end) == len(ends)

        wait_until(drained, 60, f"all of {topic}", poll_s=0)
    finally:
        consumer.close()
    return found


def alter(kafka: Kafka, topic: str, name: str, value: str) -> None:
    """Set a topic's configuration."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient(topics.client_config(kafka))
    for altered in admin.incremental_alter_configs([resource]).values():
        altered.result(timeout=10)


def _keep_forever(pipeline: Pipeline) -> None:
    """Tests write old timestamps, which retention would delete."""
    for pathway in pipeline.pathways:
        for topic in pathway.topics:
            alter(pipeline.kafka_of(pathway), topic, "retention.ms", "-1")


class Load:
    """Events at a steady rate, from now until :meth:`end`: as long as the test takes, on any machine."""

    def __init__(self, pipeline: Pipeline, options: Options) -> None:
        print(f"seed {options.seed}")
        self._stop = threading.Event()
        self._sending = ThreadPoolExecutor(1).submit(generate, pipeline, options, None, self._stop)

    def stop(self) -> None:
        """Send no more."""
        self._stop.set()

    def end(self) -> Summary:
        """Stop; what was sent."""
        self.stop()
        return self._sending.result(60)


@pytest.fixture
def load() -> Iterator[Callable[..., Load]]:
    """Put a pipeline under load, with :class:`Options` but for the number of events."""
    started: list[Load] = []

    def start(pipeline: Pipeline, rate: int, **options: Any) -> Load:
        started.append(Load(pipeline, Options(events=rate * _HOUR_S, rate=rate, **options)))
        return started[-1]

    yield start
    for one in started:
        one.stop()
    for one in started:
        one.end()


_numbers = count()


@pytest.fixture
def no_jobs_left(stack: Stack) -> Iterator[None]:
    """Cancels the test's jobs in the end."""
    yield
    flink = Flink(stack.flink_url)
    for job in flink.jobs():
        if job.state in RUNNING_STATES:
            flink.cancel(job.id)

    def ended() -> bool:
        return not [job for job in flink.jobs() if job.state in RUNNING_STATES]

    wait_until(ended, 60, "the test's jobs to be cancelled, so that their slots are free")


@pytest.fixture
def make(stack: Stack, tmp_path: Path, no_jobs_left: None) -> Callable[..., Running]:  # noqa: ARG001
    """Make a pipeline from TOML text without name and [kafka]; its source topics get ``partitions``."""

    def build(toml: str, *, partitions: int = 2, sources: list[str] | None = None) -> Running:
        name = f"t{next(_numbers)}"
        text = toml.replace("NAME", name)
        data = {"name": name, "kafka": {"bootstrap_servers": stack.bootstrap_servers}, **tomllib.loads(text)}
        head = f'name = "{name}"\n[kafka]\nbootstrap_servers = "{stack.bootstrap_servers}"\n'
        file = tmp_path / f"{name}.toml"
        file.write_text(head + text, encoding="utf-8")
        pipeline = config.parse(data, str(file))
        if sources is None:
            topics.ensure_source(pipeline, partitions)
            _keep_forever(pipeline)
            topics.ensure_outputs(pipeline)
        return Running(pipeline, file, stack)

    return build


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates ``one.pem`` and ``two.pem``, and keys of many kinds, by openssl."""
    folder = tmp_path_factory.mktemp("pem")
    for name in ("one", "two"):
        _openssl(
            folder, f"req -x509 -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.pem -days 2"
        )
    _openssl(folder, "rsa -in one.key -traditional -out pkcs1.key")
    _openssl(folder, "pkcs8 -topk8 -in one.key -out encrypted.key -passout pass:x")
    _openssl(folder, "rsa -in one.key -traditional -aes128 -out old-encrypted.key -passout pass:x")
    _openssl(folder, "ecparam -name prime256v1 -genkey -out sec1.key")
    _openssl(folder, "pkcs8 -topk8 -nocrypt -in sec1.key -out ec.key")
    _openssl(folder, "req -x509 -new -key ec.key -subj /CN=ec -out ec.pem -days 2")
    _openssl(folder, "genpkey -algorithm ed25519 -out ed25519.key")
    _openssl(folder, "req -x509 -new -key ed25519.key -subj /CN=ed -out ed25519.pem -days 2")
    (folder / "both.key").write_bytes((folder / "one.key").read_bytes() + (folder / "two.key").read_bytes())
    (folder / "broken.key").write_text("-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n")
    (folder / "empty").write_text("")
    return folder


def _openssl(folder: Path, command: str) -> None:
    subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
