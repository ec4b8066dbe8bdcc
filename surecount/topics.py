"""The topics of a pipeline: what is there, what is missing, and which settings would lose data.

A thin edge over confluent-kafka's admin client. What to create and what to refuse are pure functions
of a :class:`Cluster`; everything else talks to the brokers and raises SurecountError.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType  # type: ignore[attr-defined]

from surecount.config import Kafka, Pipeline
from surecount.errors import SurecountError
from surecount.waiting import wait_until

log = logging.getLogger("surecount.kafka")
"""Give this to every confluent client (``logger=log``): librdkafka would else write to stderr."""
# Without a handler Python would print warnings itself.
log.addHandler(logging.NullHandler())

# A broker that restarts is back, or its leaders have moved, within this; a wrong address never is.
TIMEOUT_S = 8.0
_LEADER_MOVES = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
KAFKA_MAX_MESSAGE_BYTES = 1_048_588
SOURCE_MAX_MESSAGE_BYTES = 8 << 20
# What a reject adds to its record: headers of reason and detail, and the batch around it.
HEADROOM_BYTES = 64 << 10

_PROPERTIES = "https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md"
T = TypeVar("T")


@dataclass(frozen=True)
class Topic:
    """A topic as it is, or as it should be. ``config`` holds Kafka's own names and texts."""

    name: str
    partitions: int
    replicas: int
    config: Mapping[str, str]

    @property
    def timestamp_type(self) -> str:
        """``CreateTime`` or ``LogAppendTime``."""
        return self.config.get("message.timestamp.type", "CreateTime")

    @property
    def max_message_bytes(self) -> int:
        """The largest batch, after compression, that the topic takes."""
        return int(self.config.get("max.message.bytes", KAFKA_MAX_MESSAGE_BYTES))


@dataclass(frozen=True)
class Cluster:
    """What :func:`describe` saw.

    ``brokers`` counts those in service, ``names`` holds every topic of the cluster, ``topics`` those
    of the pipeline that exist, by name.
    """

    brokers: int
    names: frozenset[str]
    topics: Mapping[str, Topic]


# ---------------------------------------------------------------------------------------- pure


def wanted_outputs(pipeline: Pipeline, cluster: Cluster) -> list[Topic]:
    """Results, corrections and rejects, in this order, as they should be created."""
    sources = [cluster.topics[name] for name in pipeline.source.topics if name in cluster.topics]
    partitions = max((topic.partitions for topic in sources), default=1)
    largest = max((topic.max_message_bytes for topic in sources), default=KAFKA_MAX_MESSAGE_BYTES)
    # A result holds its key twice, and a key may be almost as large as the largest value that counts.
    result_bytes = 2 * min(largest, pipeline.source.max_value) + HEADROOM_BYTES
    bytes_of = {pipeline.topics.rejects: largest + HEADROOM_BYTES}
    return [
        _topic(
            name,
            partitions,
            cluster.brokers,
            {
                # Records carry their event time, and retention would delete old ones on arrival.
                "message.timestamp.type": "LogAppendTime",
                # Compaction would keep one correction of several.
                "cleanup.policy": "delete",
                "max.message.bytes": str(bytes_of.get(name, max(result_bytes, KAFKA_MAX_MESSAGE_BYTES))),
            },
        )
        for name in pipeline.topics.all
    ]


def wanted_sources(pipeline: Pipeline, partitions: int, brokers: int) -> list[Topic]:
    """The source topics as ``surecount generate`` creates them."""
    config = {
        "message.timestamp.type": "CreateTime",
        "cleanup.policy": "delete",
        "max.message.bytes": str(SOURCE_MAX_MESSAGE_BYTES),
    }
    if pipeline.source.event_time == "kafka":
        # Timestamps are event times then, and retention goes by timestamps.
        config["retention.ms"] = "-1"
    return [_topic(name, partitions, brokers, config) for name in pipeline.source.topics]


def _topic(name: str, partitions: int, brokers: int, config: dict[str, str]) -> Topic:
    replicas, in_sync = (3, 2) if brokers >= 3 else (1, 1)
    return Topic(name, partitions, replicas, {**config, "min.insync.replicas": str(in_sync)})


def check_outputs(pipeline: Pipeline, cluster: Cluster) -> None:
    """Raise SurecountError for every output topic that exists and would lose or refuse records."""
    faults = [
        fault
        for wanted in wanted_outputs(pipeline, cluster)
        if (topic := cluster.topics.get(wanted.name)) is not None
        for fault in _output_faults(topic, wanted, pipeline)
    ]
    if faults:
        raise SurecountError(
            "\n".join(message for message, _ in faults),
            "; ".join(dict.fromkeys(_alter(pipeline, name, setting) for _, (name, setting) in faults))
            + "; or delete the topic, and it is created as it should be",
        )


def _output_faults(topic: Topic, wanted: Topic, pipeline: Pipeline) -> Iterable[tuple[str, tuple[str, str]]]:
    if topic.timestamp_type != "LogAppendTime":
        yield (
            f"topic {topic.name!r} has message.timestamp.type={topic.timestamp_type}: records are written "
            "with their event time, so the broker's retention deletes old ones on arrival",
            (topic.name, "message.timestamp.type=LogAppendTime"),
        )
    if topic.name != pipeline.topics.results and "compact" in topic.config.get("cleanup.policy", ""):
        yield (
            f"topic {topic.name!r} has cleanup.policy={topic.config['cleanup.policy']}: there are several "
            "records with one key, and compaction keeps only the last",
            (topic.name, "cleanup.policy=delete"),
        )
    if topic.name == pipeline.topics.rejects and topic.max_message_bytes < wanted.max_message_bytes:
        yield (
            f"topic {topic.name!r} has max.message.bytes={topic.max_message_bytes}: a rejected record of its "
            f"source needs up to {wanted.max_message_bytes}, and one that doesn't fit stops the job",
            (topic.name, f"max.message.bytes={wanted.max_message_bytes}"),
        )


def _alter(pipeline: Pipeline, name: str, setting: str) -> str:
    return (
        f"kafka-configs.sh --bootstrap-server {pipeline.kafka.bootstrap_servers} --alter "
        f"--entity-type topics --entity-name {name} --add-config {setting}"
    )


def check_names(pipeline: Pipeline, names: frozenset[str]) -> None:
    """Raise SurecountError for each source topic that is not among ``names``, with the nearest that are."""
    visible = sorted(name for name in names if not name.startswith("__"))
    missing = [name for name in pipeline.source.topics if name not in names]
    if not missing:
        return
    lines = []
    for name in missing:
        near = ", ".join(difflib.get_close_matches(name, visible, n=3))
        lines.append(f"source topic {name!r} does not exist" + (f"; near: {near}" if near else ""))
    there = ", ".join(visible[:10]) + (", …" if len(visible) > 10 else "") if visible else "none"
    raise SurecountError(
        "\n".join(lines),
        f"topics at {pipeline.kafka.bootstrap_servers} (kafka.bootstrap_servers): {there}; "
        "mend source.topics, or let `surecount generate` create and fill them",
    )


# ---------------------------------------------------------------------------------------- brokers


def client_config(kafka: Kafka) -> dict[str, str]:
    """The properties of every confluent client: the pipeline's address and its ``kafka.properties``.

    Raises SurecountError that names a property that librdkafka does not have, or its value.
    """
    if "bootstrap.servers" in kafka.properties:
        raise SurecountError(
            'kafka.properties: "bootstrap.servers" is set elsewhere',
            "write the address in kafka.bootstrap_servers",
        )
    config = {"bootstrap.servers": kafka.bootstrap_servers, **kafka.properties}
    _accepted(tuple(config.items()))
    return config


@lru_cache(maxsize=32)
def _accepted(items: tuple[tuple[str, str], ...]) -> None:
    """Only librdkafka knows its names and values, and it names the culprit in some errors only."""
    refused = _refusal(dict(items))
    if refused is None:
        return
    name = next((name for name, value in items[1:] if _refusal({name: value}) is not None), None)
    raise SurecountError(
        f"kafka.properties{'' if name is None else f': {name!r}'}: {refused}",
        f"these are librdkafka's names, not the Java client's: {_PROPERTIES}",
    )


def _refusal(config: dict[str, str]) -> str | None:
    try:
        AdminClient(dict(config), logger=log)
    except KafkaException as error:
        return reason(error)
    return None


def reason(error: BaseException) -> str:
    """What librdkafka says in an error, without its code."""
    cause = error.args[0] if error.args else None
    return str(cause.str()) if isinstance(cause, KafkaError) else str(error)


class _Admin:
    """An admin client whose failures are SurecountErrors that name the address and the option."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._reasons: list[str] = []
        config: dict[str, Any] = {**client_config(kafka), "error_cb": self._on_error}
        self._client = AdminClient(config, logger=log)

    def _on_error(self, error: KafkaError) -> None:
        # That all brokers are down says less than why each of them is.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._reasons.append(error.str())

    def metadata(self) -> Any:
        """Brokers and topics of the cluster."""
        return self._asked(lambda: self._client.list_topics(timeout=TIMEOUT_S))

    def configs(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Every setting of each topic, defaults of the broker included."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        if not resources:
            return {}
        futures = self._asked(lambda: self._client.describe_configs(resources, request_timeout=TIMEOUT_S))
        return {
            resource.name: {
                entry.name: str(entry.value)
                for entry in self._result(future, f"settings of topic {resource.name!r} can't be read").values()
                if entry.value is not None
            }
            for resource, future in futures.items()
        }

    def create(self, topics: list[Topic]) -> list[str]:
        """Create topics and wait until each partition has a leader; the names that were new."""
        if not topics:
            return []
        new = [
            NewTopic(t.name, num_partitions=t.partitions, replication_factor=t.replicas, config=dict(t.config))
            for t in topics
        ]
        created = []
        futures = self._asked(lambda: self._client.create_topics(new, request_timeout=TIMEOUT_S))
        for name, future in futures.items():
            try:
                future.result(timeout=2 * TIMEOUT_S)
            except KafkaException as error:
                # Someone else was quicker.
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise self._error(f"topic {name!r} can't be created", error) from error
            else:
                created.append(name)
        names = [t.name for t in topics]
        wait_until(lambda: self._led(names), TIMEOUT_S, f"a leader of each partition of {', '.join(names)}")
        return created

    def _led(self, names: list[str]) -> bool:
        topics = self.metadata().topics
        return all(
            name in topics and topics[name].partitions and all(p.leader >= 0 for p in topics[name].partitions.values())
            for name in names
        )

    def offsets(self, partitions: list[TopicPartition], spec: OffsetSpec) -> dict[tuple[str, int], int]:
        """The offset that ``spec`` means in each partition."""
        if not partitions:
            return {}
        wanted = dict.fromkeys(partitions, spec)

        def ask() -> dict[tuple[str, int], int] | None:
            futures = self._asked(lambda: self._client.list_offsets(wanted, request_timeout=TIMEOUT_S))
            found: dict[tuple[str, int], int] = {}
            for p, future in futures.items():
                try:
                    found[p.topic, p.partition] = future.result(timeout=2 * TIMEOUT_S).offset
                except (KafkaException, TimeoutError) as error:
                    # A new topic's leaders, and those that move, need a moment to know that they lead.
                    if isinstance(error, KafkaException) and error.args[0].code() in _LEADER_MOVES:
                        return None
                    where = f"topic {p.topic!r}, partition {p.partition}"
                    raise self._error(f"offsets of {where}, can't be read", error) from error
            return found

        return wait_until(ask, TIMEOUT_S, "every partition to have a leader") or {}

    def _asked(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except KafkaException as error:
            raise self._error("Kafka can't be asked", error) from error

    def _result(self, future: Future[T], failure: str) -> T:
        try:
            return future.result(timeout=2 * TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            raise self._error(failure, error) from error

    def _error(self, failure: str, error: Exception) -> SurecountError:
        self._client.poll(0)
        code = error.args[0].code() if isinstance(error, KafkaException) else KafkaError._TIMED_OUT
        address = f"{self._kafka.bootstrap_servers} (kafka.bootstrap_servers)"
        if code in (
            KafkaError._TRANSPORT,
            KafkaError._TIMED_OUT,
            KafkaError._ALL_BROKERS_DOWN,
            KafkaError._RESOLVE,
        ):
            why = self._reasons[-1] if self._reasons else reason(error)
            return SurecountError(
                f"no Kafka broker answers at {address}: {why}",
                "start it (`surecount up` starts one here), or mend the address",
            )
        return SurecountError(f"{failure}, at {address}: {reason(error)}")


def describe(pipeline: Pipeline) -> Cluster:
    """The cluster, and the source and output topics of the pipeline that exist."""
    return _describe(_Admin(pipeline.kafka), pipeline)


def _describe(admin: _Admin, pipeline: Pipeline) -> Cluster:
    metadata = admin.metadata()
    names = [n for n in (*pipeline.source.topics, *pipeline.topics.all) if n in metadata.topics]
    configs = admin.configs(names)
    topics = {}
    for name in names:
        partitions = metadata.topics[name].partitions
        replicas = min((len(p.replicas) for p in partitions.values()), default=0)
        topics[name] = Topic(name, len(partitions), replicas, configs[name])
    return Cluster(len(metadata.brokers), frozenset(metadata.topics), topics)


def check_sources(pipeline: Pipeline) -> None:
    """Raise SurecountError where a source topic does not exist, or no broker answers."""
    check_names(pipeline, frozenset(_Admin(pipeline.kafka).metadata().topics))


def ensure_outputs(pipeline: Pipeline) -> list[str]:
    """Check the output topics that exist, create the others; the names of the new ones."""
    admin = _Admin(pipeline.kafka)
    cluster = _describe(admin, pipeline)
    check_outputs(pipeline, cluster)
    return admin.create([t for t in wanted_outputs(pipeline, cluster) if t.name not in cluster.topics])


def ensure_source(pipeline: Pipeline, partitions: int) -> list[str]:
    """Create the source topics that are missing, for generated events; the names of the new ones."""
    admin = _Admin(pipeline.kafka)
    metadata = admin.metadata()
    wanted = wanted_sources(pipeline, partitions, len(metadata.brokers))
    return admin.create([topic for topic in wanted if topic.name not in metadata.topics])


def offsets(kafka: Kafka, topics: Iterable[str]) -> dict[tuple[str, int], tuple[int, int]]:
    """(first offset, offset after the last record) by topic and partition; transactions not regarded."""
    admin = _Admin(kafka)
    known = admin.metadata().topics
    names = list(topics)
    if missing := [name for name in names if name not in known]:
        raise SurecountError(f"no such topic at {kafka.bootstrap_servers}: {', '.join(missing)}")
    partitions = [TopicPartition(name, number) for name in names for number in known[name].partitions]
    if not partitions:
        return {}
    low = admin.offsets(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    high = admin.offsets(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    return {place: (low[place], high[place]) for place in low}
