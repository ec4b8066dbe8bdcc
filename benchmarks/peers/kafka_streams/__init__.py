"""Kafka Streams as a peer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

from confluent_kafka.admin import AdminClient

from benchmarks.peers.given import to_json
from benchmarks.peers.maven import package
from benchmarks.peers.peer import About, Work
from benchmarks.peers.programs import Processes
from benchmarks.peers.results import parse_result
from surecount.local.kafka import QUIET_JVM
from surecount.local.prerequisites import find_java
from surecount.waiting import wait_until

_PROJECT = Path(__file__).parent
_START_TIMEOUT_S = 60.0
# As much as a whole TaskManager has by flink-conf/: suppress keeps open windows there.
_HEAP = "3g"
# Warnings tell of records that are dropped.
_LOGGING = {"defaultLogLevel": "warn", "log.org.apache.kafka.streams.KafkaStreams": "info", "showDateTime": "true"}


class KafkaStreams:
    """A process with ``slots`` stream threads.

    The latest event has to be there for every key group of every source partition: each of them makes the others wait.
    """

    # Stream time is that of a task, and a task has the keys of one partition of the repartition topics: with so many
    # keys in each source partition, each of them gets one.
    sentinels: ClassVar[int] = 32
    parse = staticmethod(parse_result)

    @property
    def about(self) -> About:
        """What it is."""
        return About(
            "Kafka Streams",
            "4.2.0",
            "exactly-once",
            "A partition that is silent for longer than max.task.idle.ms (30 s) no longer holds windows back: what it "
            "brings later may be dropped as late, with no other word than a metric.",
        )

    def prepare(self) -> None:
        """Build it."""
        package(_PROJECT)

    def start(self, work: Work) -> Processes:
        """Start a run. Raises SurecountError where it fails before all threads run."""
        target = _PROJECT / "target"
        run = Processes(
            {
                "kafka-streams": [
                    *(str(find_java()), *QUIET_JVM, f"-Xmx{_HEAP}", f"-Djava.io.tmpdir={work.folder}"),
                    *(f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in _LOGGING.items()),
                    *("-cp", f"{target}/kafka-streams.jar:{target}/lib/*", "peer.Main"),
                    *(to_json(work), json.dumps(settings(work))),
                ]
            },
            work.folder,
        )
        log = work.folder / "kafka-streams.log"

        def running() -> bool:
            run.check()
            return "State transition from REBALANCING to RUNNING" in log.read_text(encoding="utf-8")

        try:
            wait_until(running, _START_TIMEOUT_S, "Kafka Streams to run")
        except BaseException:
            run.stop()
            raise
        return run

    def topics(self, work: Work) -> list[str]:
        """What a run makes beside the results: repartition topics and changelogs."""
        admin = AdminClient({"bootstrap.servers": work.bootstrap_servers})
        return [name for name in admin.list_topics(timeout=10).topics if name.startswith(f"{_application(work)}-")]


def settings(work: Work) -> dict[str, str]:
    """Kafka Streams' own, as strings."""
    return {
        "bootstrap.servers": work.bootstrap_servers,
        "application.id": _application(work),
        "processing.guarantee": "exactly_once_v2",
        "num.stream.threads": str(work.slots),
        # Each commit ends a transaction.
        "commit.interval.ms": str(work.checkpoint_ms),
        "producer.transaction.timeout.ms": str(max(60_000, 4 * work.checkpoint_ms)),
        # What a thread read of a source partition can be read on once it has committed. Less patience would drop what
        # comes out of a partition that is read more slowly.
        "max.task.idle.ms": str(max(30_000, 4 * work.checkpoint_ms)),
        "state.dir": str(work.folder / "state"),
        # For all threads; fewer updates go to the changelogs and the buffer of suppress.
        "statestore.cache.max.bytes": str(64 << 20),
    }


def _application(work: Work) -> str:
    return f"{work.results}.streams"
