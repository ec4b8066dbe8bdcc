"""What brokers tell: facts, gathered with the admin client, and with a JVM what that cannot ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from surecount import topics
from surecount.config import Kafka, Pipeline
from surecount.doctor.facts import Copies, KafkaFacts, Offsets, Unseen
from surecount.doctor.kafka_rules import INTERNAL
from surecount.errors import SurecountError
from surecount.ops.snapshots import Place
from surecount.ops.transactions import ask
from surecount.topic_rules import Topic, output_names

T = TypeVar("T")

# A record is near its end when less than a fifth of its retention is left.
_NEAR_END = 0.8


def tried(look: Callable[[], T]) -> T | Unseen:
    """What ``look`` sees, or why it could not."""
    try:
        return look()
    except SurecountError as error:
        return Unseen(error.message)


def own_names(pipeline: Pipeline) -> list[str]:
    """The pipeline's topics on its own cluster."""
    raw = [topic for pathway in pipeline.pathways if not pipeline.is_relayed(pathway) for topic in pathway.topics]
    return [*raw, *output_names(pipeline)]


def clusters(pipeline: Pipeline) -> dict[str | None, tuple[Kafka, list[str]]]:
    """The clusters and the pipeline's topics there: of None its own, of a pathway's name that pathway's."""
    found: dict[str | None, tuple[Kafka, list[str]]] = {None: (pipeline.kafka, own_names(pipeline))}
    remote = [pathway for pathway in pipeline.pathways if pipeline.is_relayed(pathway)]
    return found | {pathway.name: (pipeline.kafka_of(pathway), pathway.topics) for pathway in remote}


def settings_of(kafka: Kafka, names: Iterable[str]) -> KafkaFacts | Unseen:
    """A cluster's brokers and topics, and how they are set up; no offsets and no transactions."""
    return tried(lambda: _settings(topics.Admin(kafka), kafka, list(names)))


def _settings(admin: topics.Admin, kafka: Kafka, names: list[str]) -> KafkaFacts:
    cluster = topics.describe(admin, names, if_shown=INTERNAL)
    metadata = admin.metadata()
    copies = {
        (name, number): Copies(partition.leader >= 0, len(partition.replicas), len(partition.isrs))
        for name in cluster.topics
        for number, partition in metadata.topics[name].partitions.items()
    }
    settings = tried(lambda: admin.broker_configs(metadata.brokers))
    return KafkaFacts(kafka.bootstrap_servers, cluster.brokers, cluster.topics, copies, settings)


def with_offsets(kafka: Kafka, facts: KafkaFacts) -> KafkaFacts:
    """The same, with the offsets of the pipeline's topics."""
    return replace(facts, offsets=tried(lambda: _offsets(topics.Admin(kafka), facts)))


def _offsets(admin: topics.Admin, facts: KafkaFacts) -> dict[Place, Offsets]:
    places = [TopicPartition(topic, number) for topic, number in facts.copies if topic not in INTERNAL]
    low = admin.offsets(places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    # In this order: what is committed between the two cannot look like something held back.
    high = admin.offsets(places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    stable = admin.offsets(places, OffsetSpec.latest(), committed=True)  # type: ignore[no-untyped-call]
    expiring = _expiring(admin, facts.topics, places, high)
    return {
        place: Offsets(low[place], max(high[place], stable[place]), stable[place], expiring.get(place)) for place in low
    }


def _expiring(
    admin: topics.Admin, known: Mapping[str, Topic], places: list[TopicPartition], high: Mapping[Place, int]
) -> dict[Place, int]:
    """The first offset that is not near its end, for topics that are not kept for ever."""
    now_ms = time.time() * 1000
    found: dict[Place, int] = {}
    for name, topic in known.items():
        of_topic = [place for place in places if place.topic == name]
        if topic.retention_ms < 0 or "delete" not in topic.config.get("cleanup.policy", "delete") or not of_topic:
            continue
        spec = OffsetSpec.for_timestamp(int(now_ms - _NEAR_END * topic.retention_ms))
        # -1: there is no younger record.
        found |= {p: high[p] if offset < 0 else offset for p, offset in admin.offsets(of_topic, spec).items()}
    return found


def committed(
    kafka: Kafka, group: str, facts: KafkaFacts | Unseen, names: Collection[str]
) -> dict[Place, int] | Unseen:
    """The offsets of topics that a group has committed."""
    if isinstance(facts, Unseen):
        return facts
    places = [place for place in facts.copies if place[0] in names]
    return tried(lambda: topics.committed(kafka, group, places)) if places else {}


def with_transactions(
    kafka: Kafka, environment: Mapping[str, str], facts: KafkaFacts, prefixes: Collection[str] = ()
) -> KafkaFacts:
    """The same, with open transactions, what the brokers have agreed on, and which of the prefixes are hidden."""
    told = tried(lambda: ask(kafka, environment, about=prefixes))
    if isinstance(told, Unseen):
        return replace(facts, transactions=told, features=told)
    return replace(facts, transactions=told.transactions, features=told.features, hidden_ids=told.hidden)
