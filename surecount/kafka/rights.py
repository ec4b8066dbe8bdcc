"""The least rights on Kafka that a pipeline needs, by who needs them: derived from the pipeline file alone.

Read, Write, Delete and Alter of a resource include Describe. A producer with Write on a topic may be idempotent (Kafka
2.8 and later), so Cluster IdempotentWrite is never asked for.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from surecount.config import Kafka, Pipeline

Kind = Literal["topic", "group", "transactional-id", "cluster"]
Operation = Literal["Read", "Write", "Create", "Describe", "DescribeConfigs"]
Role = Literal["jobs", "producer", "operator", "reader"]

ROLES: dict[Role, str] = {
    "jobs": "the jobs on Flink",
    "producer": "`surecount generate`, `surecount send`, and producers of your own",
    "operator": "submit, start, stop, upgrade, doctor, audit, watch, rejects, backup and recover",
    "reader": "readers of results, corrections and rejects",
}
CLUSTER = "kafka-cluster"
"""The name of the one resource of its kind."""
INTERNAL = ("__consumer_offsets", "__transaction_state")
"""Kafka's own topics, whose copies the doctor looks at."""
AUDIT_GROUP = "surecount.audit"


@dataclass(frozen=True)
class Right:
    """May do ``operations`` with one resource, or, ``prefixed``, with all whose names begin with ``name``."""

    kind: Kind
    name: str
    operations: tuple[Operation, ...]
    prefixed: bool = False

    def __str__(self) -> str:
        return f"{' and '.join(self.operations)} on {resource(self.kind, self.name, prefixed=self.prefixed)}"

    def acl(self, kafka: Kafka, principal: str) -> str:
        """The command that gives it to a principal such as ``User:shop``."""
        operations = " ".join(f"--operation {operation}" for operation in self.operations)
        what = "--cluster" if self.kind == "cluster" else f"--{self.kind} {shlex.quote(self.name)}"
        pattern = " --resource-pattern-type prefixed" if self.prefixed else ""
        return (
            f"kafka-acls.sh --bootstrap-server {kafka.bootstrap_servers} --command-config admin.properties "
            f"--add --allow-principal {shlex.quote(principal)} {operations} {what}{pattern}"
        )


@dataclass(frozen=True)
class Needed:
    """A right, the ``role`` that needs it, on which cluster, and what for."""

    role: Role
    kafka: Kafka
    right: Right
    why: str

    def with_(self, other: Needed) -> Needed:
        """This and another right to the same resource, as one."""
        operations = tuple(dict.fromkeys((*self.right.operations, *other.right.operations)))
        why = "; ".join(dict.fromkeys((*self.why.split("; "), other.why)))
        return replace(self, right=replace(self.right, operations=operations), why=why)


def principal(kafka: Kafka) -> str:
    """Whom a cluster's authorizer takes its clients for, by ``kafka.security``."""
    security = kafka.security
    if security is None or not (security.uses_sasl or security.cert_file):
        return "User:ANONYMOUS"
    return f"User:{security.username or f'(the subject of {security.cert_file})'}"


def resource(kind: Kind, name: str, *, prefixed: bool = False) -> str:
    """A resource in words."""
    if kind == "cluster":
        return "the cluster"
    return f"{kind.replace('-', ' ')}{'s that begin with' if prefixed else ''} {name}"


def needed(pipeline: Pipeline, roles: Collection[Role] = tuple(ROLES)) -> list[Needed]:
    """All rights that the ``roles`` need; each resource of a cluster once for a role, with all that it is for."""
    by_role = {"jobs": _jobs, "producer": _producer, "operator": _operator, "reader": _reader}
    found: dict[tuple[Role, str, Kind, str, bool], Needed] = {}
    for one in (one for role in ROLES if role in roles for one in by_role[role](pipeline)):
        right = one.right
        key = (one.role, one.kafka.bootstrap_servers, right.kind, right.name, right.prefixed)
        found[key] = found[key].with_(one) if key in found else one
    return list(found.values())


def _jobs(pipeline: Pipeline) -> Iterator[Needed]:
    for job in pipeline.jobs:
        name = f"{pipeline.name}.{job}"

        def of(kafka: Kafka, right: Right, why: str, name: str = name) -> Needed:
            return Needed("jobs", kafka, right, f"{name} {why}")

        kafka, reads = pipeline.reads(job)
        for topic in reads:
            yield of(kafka, Right("topic", topic, ("Read",)), "reads it")
        yield of(kafka, Right("group", pipeline.group_id(job), ("Read",)), "commits there how far it has read")
        for topic in _sinks(pipeline, job):
            # Read, because a sink asks at its start who has open transactions in the topic (DescribeProducers).
            yield of(pipeline.kafka, Right("topic", topic, ("Write", "Read")), "writes it")
        for kind in pipeline.sinks(job):
            prefix = pipeline.transactional_id_prefix(job, kind)
            yield of(
                pipeline.kafka, Right("transactional-id", prefix, ("Write",), prefixed=True), f"commits its {kind}"
            )


def _producer(pipeline: Pipeline) -> Iterator[Needed]:
    def of(kafka: Kafka, right: Right, why: str) -> Needed:
        return Needed("producer", kafka, right, why)

    sends = pipeline.group_id("send.")
    for kafka, topics in _raw(pipeline):
        for topic in topics:
            yield of(kafka, Right("topic", topic, ("Write", "DescribeConfigs")), "events are sent to it")
            yield of(kafka, Right("topic", topic, ("Read",)), "`send` keeps its position with it")
            yield of(kafka, Right("topic", topic, ("Create",)), "`generate` makes it where it is missing")
        yield of(kafka, Right("group", sends, ("Read",), prefixed=True), "`send` keeps its position there")
        yield of(kafka, Right("transactional-id", sends, ("Write",), prefixed=True), "`send` sends in transactions")


def _operator(pipeline: Pipeline) -> Iterator[Needed]:
    def of(kafka: Kafka, right: Right, why: str) -> Needed:
        return Needed("operator", kafka, right, why)

    own = pipeline.group_id("")
    for kafka, topics in _raw(pipeline):
        for topic in topics:
            yield of(kafka, Right("topic", topic, ("Read", "DescribeConfigs")), "audit recounts it, doctor checks it")
        yield of(kafka, Right("group", own, ("Read",), prefixed=True), "audit asks how far jobs are, recover sets it")
        yield of(kafka, Right("group", AUDIT_GROUP, ("Describe",)), "audit's reader names it")
        for topic in INTERNAL:
            yield of(kafka, Right("topic", topic, ("Describe", "DescribeConfigs")), "doctor looks at its copies")
        yield of(kafka, Right("cluster", CLUSTER, ("DescribeConfigs",)), "doctor checks the brokers' limits")
    for topic in _outputs(pipeline):
        yield of(pipeline.kafka, Right("topic", topic, ("Create",)), "submit makes it")
        yield of(pipeline.kafka, Right("topic", topic, ("Read", "DescribeConfigs")), "audit and doctor compare it")
    # Of the jobs and of replay: group ids and transactional ids begin alike.
    ids = Right("transactional-id", own, ("Describe",), prefixed=True)
    yield of(pipeline.kafka, ids, "doctor and start list open transactions")
    replays = pipeline.group_id("replay")
    yield of(pipeline.kafka, Right("transactional-id", replays, ("Write",)), "`rejects replay` sends in transactions")
    for topic in pipeline.replayed_topics:
        yield of(pipeline.kafka, Right("topic", topic, ("Write",)), "`rejects replay` sends to it")


def _reader(pipeline: Pipeline) -> Iterator[Needed]:
    for topic in pipeline.topics.all:
        yield Needed("reader", pipeline.kafka, Right("topic", topic, ("Read",)), "is read")
    groups = Right("group", f"{pipeline.name}.", ("Read",), prefixed=True)
    yield Needed("reader", pipeline.kafka, groups, "readers' groups, named so")


def _raw(pipeline: Pipeline) -> Iterator[tuple[Kafka, list[str]]]:
    """Each cluster once, the pipeline's own first, with the raw topics there."""
    found: dict[str, tuple[Kafka, list[str]]] = {pipeline.kafka.bootstrap_servers: (pipeline.kafka, [])}
    for pathway in pipeline.pathways:
        kafka = pipeline.kafka_of(pathway)
        found.setdefault(kafka.bootstrap_servers, (kafka, []))[1].extend(pathway.topics)
    yield from found.values()


def _outputs(pipeline: Pipeline) -> list[str]:
    """The topics of the pipeline's own: what its jobs and `rejects replay` write."""
    written = [topic for job in pipeline.jobs for topic in pipeline.writes(job)]
    return [*written, *([pipeline.topics.replay] if pipeline.has_ingest else [])]


def _sinks(pipeline: Pipeline, job: str) -> list[str]:
    """The topics of a job's sinks: with ingest, both jobs write rejects."""
    rejects = [pipeline.topics.rejects] if "rejects" in pipeline.sinks(job) else []
    return list(dict.fromkeys([*pipeline.writes(job), *rejects]))
