"""Kafka Streams as a peer."""

from __future__ import annotations

import json
from pathlib import Path

from confluent_kafka.admin import AdminClient

from benchmarks.peers.maven import package
from benchmarks.peers.peer import About, Peer
from benchmarks.peers.programs import Processes
from benchmarks.peers.work import Work, to_json
from surecount.local import jvm
from surecount.local.prerequisites import find_java
from surecount.waiting import wait_until

_PROJECT = Path(__file__).parent
_START_TIMEOUT_S = 120.0
# As much as a whole TaskManager has by flink-conf/: suppress keeps open windows there.
_HEAP = "3g"
# What a thread has read of a source partition is there for its windows once it has committed. On cores that others use
# as well, 30 s were not enough: the other partitions' windows went on without it, and all of it was late.
_PATIENCE_MS = 300_000
_LOGGING = {
    "defaultLogLevel": "warn",  # of records that are dropped
    "log.org.apache.kafka.streams.KafkaStreams": "info",  # its states
    "log.org.apache.kafka.streams.processor.internals.PartitionGroup": "info",  # where patience has ended
    "showDateTime": "true",
    "dateTimeFormat": "HH:mm:ss.SSS",
}


class KafkaStreams(Peer):
    """A process with ``slots`` stream threads.

    A task has the keys of one partition of the repartition topics, and waits for records of each source partition among
    them: what follows the last window has to have keys enough for all tasks.
    """

    @property
    def about(self) -> About:
        """What it is."""
        return About(
            "Kafka Streams",
            "4.2.0",
            "exactly-once",
            "Windows wait up to max.task.idle.ms (5 min) for a source partition that is silent or is read more slowly; "
            "what it brings after that is dropped as late, with no other word than a metric and a line in the log.",
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
                    *(str(find_java()), *jvm.QUIET, f"-Xmx{_HEAP}", f"-Djava.io.tmpdir={work.folder}"),
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

    def leftovers(self, work: Work) -> list[str]:
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
        "max.task.idle.ms": str(_PATIENCE_MS),
        "state.dir": str(work.folder / "state"),
        # For all threads; fewer updates go to the changelogs and the buffer of suppress.
        "statestore.cache.max.bytes": str(64 << 20),
    }


def _application(work: Work) -> str:
    return f"{work.results}.streams"
