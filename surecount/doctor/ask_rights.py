"""What brokers tell of the rights of the user of ``[kafka.security]``: to ask for it takes none but Describe."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from surecount import topics
from surecount.config import Kafka, Pipeline
from surecount.doctor.ask_kafka import tried
from surecount.doctor.facts import Lacking, Unseen
from surecount.kafka.refusals import RefusedError
from surecount.kafka.rights import Needed, Operation, Right, needed


def transactional_ids(pipeline: Pipeline, kafka: Kafka) -> list[str]:
    """What the transactional ids begin with that jobs and operators use on a cluster."""
    of_cluster = [one.right for one in _wanted(pipeline) if one.kafka.bootstrap_servers == kafka.bootstrap_servers]
    return sorted({right.name for right in of_cluster if right.kind == "transactional-id"})


def lacking(pipeline: Pipeline, hidden_ids: Collection[str] = ()) -> tuple[Lacking, ...] | Unseen | None:
    """The rights that jobs and operators need and do not have; None where nobody logs in.

    ``hidden_ids`` are those of :func:`transactional_ids` that this user may not see, as far as that was asked.
    """
    wanted = _wanted(pipeline)
    clusters = {one.kafka.bootstrap_servers: one.kafka for one in wanted}
    secured = {address: kafka for address, kafka in clusters.items() if kafka.security is not None}
    if not secured:
        return None

    def look() -> tuple[Lacking, ...]:
        found = []
        for address, kafka in secured.items():
            found += _of_cluster(kafka, [one for one in wanted if one.kafka.bootstrap_servers == address], hidden_ids)
        return tuple(found)

    return tried(look)


def _wanted(pipeline: Pipeline) -> list[Needed]:
    return needed(pipeline, ["jobs", "operator"])


def _of_cluster(kafka: Kafka, wanted: Sequence[Needed], hidden_ids: Collection[str]) -> list[Lacking]:
    admin = topics.Admin(kafka)
    of_topic = admin.topic_operations({one.right.name for one in wanted if one.right.kind == "topic"})
    # What a group has committed of a topic is told to those who may see both.
    visible = [name for name, operations in of_topic.items() if operations]

    def held(right: Right) -> frozenset[str] | None:
        match right.kind:
            case "topic":
                return of_topic[right.name]
            case "cluster":
                return None if _shows_brokers(admin) else frozenset()
            case "group":
                return frozenset() if visible and _hides_group(kafka, right, visible[0]) else None
            case "transactional-id":
                return frozenset() if right.name in hidden_ids else None

    return [Lacking(one, missing) for one in wanted if (missing := _missing(one.right, held(one.right)))]


def _missing(right: Right, held: frozenset[str] | None) -> tuple[Operation, ...]:
    """``held`` is None where no more is known than that the resource is not hidden, as of a topic to be made."""
    if held is None:
        return ()
    # Once a topic is there, nobody needs to make it.
    return tuple(name for name in right.operations if name not in held and (name != "Create" or not held))


def _shows_brokers(admin: topics.Admin) -> bool:
    # What one may do with the cluster is told only to those with one right more, Describe.
    try:
        admin.broker_configs([min(admin.metadata().brokers)])
    except RefusedError:
        return False
    return True


def _hides_group(kafka: Kafka, right: Right, topic: str) -> bool:
    try:
        topics.committed(kafka, f"{right.name}rights" if right.prefixed else right.name, [(topic, 0)])
    except RefusedError:
        return True
    return False
