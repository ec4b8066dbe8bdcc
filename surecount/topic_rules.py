"""What the topics of a pipeline should be, and which settings of existing ones would lose data. Pure."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from surecount.config import LARGEST_RECORD, Kafka, Pipeline
from surecount.errors import SurecountError

KAFKA_MAX_MESSAGE_BYTES = 1_048_588
SOURCE_MAX_MESSAGE_BYTES = 8 << 20
# What a job adds to a record: headers of origin, reason and detail, and the batch around it.
HEADROOM_BYTES = 64 << 10
_KAFKA_RETENTION_MS = 604_800_000
_KAFKA_SEGMENT_BYTES = 1 << 30
_FOREVER = "-1"
_ANY_TIME_MS = str((1 << 63) - 1)
# How far from the broker's clock a record's time may be.
_TIME_LIMITS = ("message.timestamp.after.max.ms", "message.timestamp.before.max.ms")


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

    @property
    def segment_bytes(self) -> int:
        """The size of a log's file, which a batch has to fit into."""
        return int(self.config.get("segment.bytes", _KAFKA_SEGMENT_BYTES))

    @property
    def min_in_sync(self) -> int:
        """How many replicas must have a record before it counts as written."""
        return int(self.config.get("min.insync.replicas", "1"))

    @property
    def retention_ms(self) -> int:
        """How long records are kept behind their timestamps; -1 is for ever."""
        return int(self.config.get("retention.ms", _KAFKA_RETENTION_MS))


@dataclass(frozen=True)
class Cluster:
    """One Kafka cluster as it was seen.

    ``brokers`` counts those in service, ``names`` holds every topic of the cluster, ``topics`` those
    of the pipeline that exist, by name.
    """

    brokers: int
    names: frozenset[str]
    topics: Mapping[str, Topic]


def wanted_outputs(pipeline: Pipeline, cluster: Cluster, raw: Iterable[Topic]) -> list[Topic]:
    """What the jobs write on the pipeline's cluster, in the order of the flow, as it should be created.

    ``raw`` are the raw topics that are known, of all clusters.
    """
    raw = list(raw)
    partitions = max((topic.partitions for topic in raw), default=1)
    # A result holds its key twice, and a key may be almost as large as the largest value that counts; one that a user's
    # function makes may be of any size.
    largest_result = 2 * pipeline.source.max_value if pipeline.source.decode is None else LARGEST_RECORD
    result_bytes = largest_result + HEADROOM_BYTES
    # Limits are on compressed batches: what a producer compressed well may be many times larger as the job writes it.
    copy_bytes = LARGEST_RECORD + HEADROOM_BYTES
    # Copies keep their records' times, so they are kept as long as the records themselves.
    retention = [topic.retention_ms for topic in raw] or [_KAFKA_RETENTION_MS]
    copy = {
        "message.timestamp.type": "CreateTime",
        "message.timestamp.after.max.ms": _ANY_TIME_MS,
        "retention.ms": _FOREVER if -1 in retention else str(max(retention)),
        "max.message.bytes": str(copy_bytes),
    }
    # Records carry their event time, and retention would delete old ones on arrival.
    stamped = {"message.timestamp.type": "LogAppendTime"}
    results = {**stamped, "max.message.bytes": str(result_bytes)}
    rejects = {**stamped, "max.message.bytes": str(copy_bytes)}
    # It tells what was replayed, also when positions are forgotten and the records themselves are deleted.
    replay = {**rejects, "retention.ms": _FOREVER}
    topics = pipeline.topics
    wanted = {topics.results: results, topics.corrections: results, topics.rejects: rejects}
    wanted = {**dict.fromkeys(_copies(pipeline), copy), **dict.fromkeys(_replay(pipeline), replay), **wanted}
    # Compaction would keep one record of several with the same key.
    return [
        _topic(name, partitions, cluster.brokers, {"cleanup.policy": "delete", **config})
        for name, config in wanted.items()
    ]


def output_names(pipeline: Pipeline) -> list[str]:
    """The topics of the pipeline's own on its own cluster: what its jobs and ``surecount rejects replay`` write."""
    return [*_copies(pipeline), *_replay(pipeline), *pipeline.topics.all]


def _replay(pipeline: Pipeline) -> list[str]:
    return [pipeline.topics.replay] if pipeline.has_ingest else []


def _copies(pipeline: Pipeline) -> list[str]:
    """The topics in which records stand as they came."""
    return [*pipeline.copies, *([pipeline.topics.duplicates] if pipeline.topics.duplicates else [])]


def wanted_raw(pipeline: Pipeline, names: Iterable[str], partitions: int, brokers: int) -> list[Topic]:
    """Raw topics as ``surecount generate`` creates them."""
    config = {
        "message.timestamp.type": "CreateTime",
        "cleanup.policy": "delete",
        "max.message.bytes": str(SOURCE_MAX_MESSAGE_BYTES),
    }
    if pipeline.source.event_time == "kafka":
        # Timestamps are event times then, and retention goes by timestamps.
        config["retention.ms"] = _FOREVER
    return [_topic(name, partitions, brokers, config) for name in names]


def _topic(name: str, partitions: int, brokers: int, config: dict[str, str]) -> Topic:
    replicas, in_sync = (3, 2) if brokers >= 3 else (1, 1)
    return Topic(name, partitions, replicas, {**config, "min.insync.replicas": str(in_sync)})


@dataclass(frozen=True)
class Fault:
    """A setting of an existing output topic that would lose or refuse records, and the command that alters it."""

    message: str
    alter: str


def check_outputs(pipeline: Pipeline, cluster: Cluster, raw: Iterable[Topic]) -> None:
    """Raise SurecountError for every output topic that exists and would lose or refuse records."""
    if faults := output_faults(pipeline, cluster, raw):
        raise SurecountError(
            "\n".join(fault.message for fault in faults),
            "; ".join(dict.fromkeys(fault.alter for fault in faults)),
        )


def output_faults(pipeline: Pipeline, cluster: Cluster, raw: Iterable[Topic]) -> list[Fault]:
    """What is wrong with the output topics that exist; ``raw`` are the raw topics that are known."""
    raw = list(raw)
    return [
        Fault(message, _alter(pipeline, topic.name, setting))
        for wanted in wanted_outputs(pipeline, cluster, raw)
        if (topic := cluster.topics.get(wanted.name)) is not None
        for message, setting in (
            *_setting_faults(topic, wanted, pipeline),
            *(_retention_faults(topic, wanted, pipeline.topics.replay) if raw else ()),
        )
    ]


_WHY_TIMESTAMPS = {
    "LogAppendTime": "records are written with their event time, so the broker's retention deletes old ones on arrival",
    "CreateTime": "the broker would replace the records' own times",
}


def _setting_faults(topic: Topic, wanted: Topic, pipeline: Pipeline) -> Iterator[tuple[str, str]]:
    if topic.timestamp_type != wanted.timestamp_type:
        yield (
            f"topic {topic.name!r} has message.timestamp.type={topic.timestamp_type}: "
            + _WHY_TIMESTAMPS[wanted.timestamp_type],
            f"message.timestamp.type={wanted.timestamp_type}",
        )
    if topic.name != pipeline.topics.results and "compact" in topic.config.get("cleanup.policy", ""):
        yield (
            f"topic {topic.name!r} has cleanup.policy={topic.config['cleanup.policy']}: there are several "
            "records with one key, and compaction keeps only the last",
            "cleanup.policy=delete",
        )
    for name, limit in (("max.message.bytes", topic.max_message_bytes), ("segment.bytes", topic.segment_bytes)):
        if limit < wanted.max_message_bytes:
            yield (
                f"topic {topic.name!r} has {name}={limit}: what the job writes needs up to "
                f"{wanted.max_message_bytes}, and a record that doesn't fit stops the job",
                f"{name}={wanted.max_message_bytes}",
            )
    if topic.min_in_sync > topic.replicas:
        in_sync = min(topic.replicas, int(wanted.config["min.insync.replicas"]))
        yield (
            f"topic {topic.name!r} has min.insync.replicas={topic.min_in_sync} and {topic.replicas} replica(s): its "
            "broker refuses every write",
            f"min.insync.replicas={in_sync}",
        )
    if topic.config.get("unclean.leader.election.enable") == "true":
        yield (
            f"topic {topic.name!r} has unclean.leader.election.enable=true: a broker that is behind may lead, and "
            "records that were written are gone",
            "unclean.leader.election.enable=false",
        )
    for name in _TIME_LIMITS if wanted.timestamp_type == "CreateTime" else ():
        limit = int(topic.config.get(name, _ANY_TIME_MS))
        if limit < int(_ANY_TIME_MS):
            yield (
                f"topic {topic.name!r} has {name}={limit}: records are copied with their own times, and one that the "
                "broker refuses stops the job",
                f"{name}={_ANY_TIME_MS}",
            )


def _retention_faults(topic: Topic, wanted: Topic, replay: str) -> Iterator[tuple[str, str]]:
    if _keeps(topic.retention_ms) >= _keeps(wanted.retention_ms):
        return
    if topic.name == replay:
        why = f"and must have {wanted.retention_ms}: it tells `rejects replay` and `audit` what was replayed"
    elif wanted.timestamp_type == "CreateTime":
        why = (
            f"the topic it is copied from {wanted.retention_ms}: records are copied with their own times, so old "
            "ones would be deleted on arrival"
        )
    else:
        return
    yield (
        f"topic {topic.name!r} has retention.ms={topic.retention_ms}, {why}",
        f"retention.ms={wanted.retention_ms}",
    )


def _keeps(retention_ms: int) -> float:
    return math.inf if retention_ms < 0 else retention_ms


def _alter(pipeline: Pipeline, name: str, setting: str) -> str:
    return (
        f"kafka-configs.sh --bootstrap-server {pipeline.kafka.bootstrap_servers} --alter "
        f"--entity-type topics --entity-name {name} --add-config {setting}"
    )


def check_names(kafka: Kafka, wanted: Iterable[str], names: frozenset[str]) -> None:
    """Raise SurecountError for each of ``wanted`` that is not among ``names``, with the nearest that are."""
    visible = sorted(name for name in names if not name.startswith("__"))
    missing = [name for name in wanted if name not in names]
    if not missing:
        return
    lines = []
    for name in missing:
        near = ", ".join(difflib.get_close_matches(name, visible, n=3))
        lines.append(f"source topic {name!r} does not exist" + (f"; near: {near}" if near else ""))
    there = ", ".join(visible[:10]) + (", …" if len(visible) > 10 else "") if visible else "none"
    raise SurecountError(
        "\n".join(lines),
        f"topics at {kafka.bootstrap_servers} (kafka.bootstrap_servers): {there}; "
        "mend source.topics, or let `surecount generate` create and fill them",
    )
