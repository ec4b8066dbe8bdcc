"""Rules over brokers and topics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import wraps

from surecount.config import LARGEST_RECORD, Pathway, format_duration
from surecount.doctor.facts import Copies, Facts, KafkaFacts, Unseen, seen
from surecount.doctor.findings import Finding, Rule
from surecount.doctor.words import about, listed, places
from surecount.kafka.rights import principal
from surecount.ops.restore_rules import ACCEPTABLE
from surecount.ops.snapshots import Place
from surecount.topic_rules import HEADROOM_BYTES, Cluster, Topic, output_faults, output_names

TRANSACTION_STATE = "__transaction_state"
CONSUMER_OFFSETS = "__consumer_offsets"
INTERNAL = (TRANSACTION_STATE, CONSUMER_OFFSETS)

ENOUGH_BROKERS = 3
OUTAGE_MS = 300_000
"""An outage that a job should survive exactly."""

COMPACTED = "compacted_source"
"""What ``--accept`` calls compacted raw topics."""

AHEAD_MS = 3_600_000
"""How far ahead of a broker's clock a producer's timestamp may be, by default since Kafka 4.0."""
ANY_AHEAD_MS = 86_400_000
"""A limit beyond this is as good as none: before Kafka 4.0 the default was 292 million years."""

# What a broker gives internal topics that are not there yet: copies, and how many must have a record.
_INTERNAL_SETTINGS = {
    TRANSACTION_STATE: ("transaction.state.log.replication.factor", "transaction.state.log.min.isr"),
    CONSUMER_OFFSETS: ("offsets.topic.replication.factor", "min.insync.replicas"),
}


def per_cluster(rule: Callable[[Facts, str, KafkaFacts], Iterator[Finding]]) -> Rule:
    """A rule that is asked about each cluster: one that could not be seen leaves the others."""

    @wraps(rule)
    def asked(facts: Facts) -> Iterator[Finding]:
        for called, kafka in facts.clusters.items():
            if isinstance(kafka, Unseen):
                yield Finding("unknown", f"{called}: {kafka.why}")
            else:
                yield from rule(facts, called, kafka)

    return asked


def transaction_max_timeout(facts: Facts) -> Iterator[Finding]:
    """The brokers refuse a producer that asks for more than they allow."""
    asked = facts.pipeline.sink.transaction_timeout
    limits = {
        broker: int(settings["transaction.max.timeout.ms"])
        for broker, settings in seen(seen(facts.kafka).settings).items()
        if "transaction.max.timeout.ms" in settings
    }
    if not limits:
        yield Finding("unknown", "the brokers do not tell their transaction.max.timeout.ms")
        return
    wanted = f"sink.transaction_timeout is {format_duration(asked)}"
    if low := {broker: limit for broker, limit in limits.items() if limit < asked}:
        told = ", ".join(f"broker {broker} allows {format_duration(limit)}" for broker, limit in low.items())
        yield Finding("fail", f"{wanted}, and {told}")
    else:
        yield Finding("ok", f"{wanted}, and the brokers allow {format_duration(min(limits.values()))}")


def request_size(facts: Facts) -> Iterator[Finding]:
    """The brokers take the largest record that a sink writes."""
    limits = [
        int(settings["socket.request.max.bytes"])
        for settings in seen(seen(facts.kafka).settings).values()
        if "socket.request.max.bytes" in settings
    ]
    needed = LARGEST_RECORD + 2 * HEADROOM_BYTES
    if not limits:
        yield Finding("unknown", "the brokers do not tell their socket.request.max.bytes")
    else:
        allowed = f"the brokers take requests of up to {min(limits)} bytes"
        enough = min(limits) >= needed
        yield Finding("ok" if enough else "warn", allowed if enough else f"{allowed}: one may need {needed}")


def outage(facts: Facts) -> Iterator[Finding]:
    """What a checkpoint holds must be committed before its transactions are too old."""
    pipeline = facts.pipeline
    timeout, checkpoint = pipeline.sink.transaction_timeout, pipeline.checkpoint
    left = timeout - checkpoint.timeout - checkpoint.interval
    spent = (
        f"sink.transaction_timeout is {format_duration(timeout)}, of which checkpoints may take "
        f"{format_duration(checkpoint.timeout)} (checkpoint.timeout) and {format_duration(checkpoint.interval)} "
        "(checkpoint.interval)"
    )
    if left <= 0:
        yield Finding("fail", f"{spent}: no outage is survived")
    else:
        yield Finding(
            "warn" if left < OUTAGE_MS else "ok", f"{spent}: an outage of {about(left)} is survived without loss"
        )


def rights(facts: Facts) -> Iterator[Finding]:
    """Jobs without a right fail at their start, or commit nothing; operators see less than there is."""
    found = seen(facts.lacking)
    if found is None:
        yield Finding("ok", "clients do not log in (no kafka.security)")
        return
    for one in found:
        wanted, who = one.needed, principal(one.needed.kafka)
        right = replace(wanted.right, operations=one.operations)
        yield Finding(
            "fail" if wanted.role == "jobs" else "warn",
            f"{who} lacks {right} at {wanted.kafka.bootstrap_servers}: {wanted.why}",
            right.acl(wanted.kafka, who),
        )
    if not found:
        yield Finding("ok", "the user of kafka.security has the rights of jobs and operators, as far as brokers tell")


@per_cluster
def replication(facts: Facts, called: str, kafka: KafkaFacts) -> Iterator[Finding]:
    """Where brokers are enough, each record is on three, and acknowledged by two."""
    if kafka.brokers < ENOUGH_BROKERS:
        yield Finding("ok", f"{called} has {kafka.brokers} broker(s): fewer than three, so one copy is all there is")
        return
    ours = {*output_names(facts.pipeline), *INTERNAL}
    found = {name: (topic.replicas, topic.min_in_sync) for name, topic in kafka.topics.items()}
    found |= {name: copies for name in INTERNAL if name not in found if (copies := _to_be(kafka, name)) is not None}
    right = True
    for name, (replicas, in_sync) in found.items():
        if replicas >= 3 and in_sync >= 2:
            continue
        right = False
        has = f"{called}: {name} has replication factor {replicas} and min.insync.replicas {in_sync}"
        lossy = min(replicas, in_sync) < 2
        meaning = "an acknowledged record may be on one broker only" if lossy else "writing stops while one is away"
        yield Finding("fail" if lossy and name in ours else "warn", f"{has}: {meaning}")
    if right:
        yield Finding("ok", f"{called}: {len(found)} topics are on three brokers, and acknowledged by two")


def _to_be(kafka: KafkaFacts, name: str) -> tuple[int, int] | None:
    """The copies that an internal topic is to get; None where the brokers don't tell."""
    if isinstance(kafka.settings, Unseen):
        return None
    keys = _INTERNAL_SETTINGS[name]
    told = [tuple(int(of[key]) for key in keys) for of in kafka.settings.values() if all(key in of for key in keys)]
    return min((copies[0], copies[1]) for copies in told) if told else None


@per_cluster
def in_sync(_facts: Facts, called: str, kafka: KafkaFacts) -> Iterator[Finding]:
    """Each partition has a leader and all of its copies."""
    leaderless = {place for place, copies in kafka.copies.items() if not copies.led}
    too_few = {place for place in _behind(kafka) if _refuses_writes(kafka, place)} - leaderless
    if leaderless:
        yield Finding("fail", f"{called}: no leader of {places(leaderless)}: it can be neither read nor written")
    if too_few:
        yield Finding("fail", f"{called}: too few copies are up to date to write to {places(too_few)}")
    if behind := _behind(kafka) - leaderless - too_few:
        yield Finding("warn", f"{called}: copies are missing or behind of {places(behind)}")
    if not leaderless and not _behind(kafka):
        yield Finding("ok", f"{called}: all {len(kafka.copies)} partitions have a leader and all of their copies")


def _behind(kafka: KafkaFacts) -> set[Place]:
    return {place for place, copies in kafka.copies.items() if copies.in_sync < copies.replicas}


def _refuses_writes(kafka: KafkaFacts, place: Place) -> bool:
    copies: Mapping[Place, Copies] = kafka.copies
    topic = kafka.topics.get(place[0])
    return topic is not None and copies[place].in_sync < topic.min_in_sync


def outputs(facts: Facts) -> Iterator[Finding]:
    """Timestamps, clean-up, size and retention of what the jobs write."""
    kafka = seen(facts.kafka)
    raw = []
    for pathway in facts.pipeline.pathways:
        cluster = facts.remote[pathway.name] if facts.pipeline.is_relayed(pathway) else kafka
        if isinstance(cluster, Unseen):
            yield Finding("unknown", f"how long copies from pathway {pathway.name} must be kept: {cluster.why}")
        else:
            raw += [cluster.topics[name] for name in pathway.topics if name in cluster.topics]
    known = Cluster(kafka.brokers, frozenset(kafka.topics), kafka.topics)
    faults = output_faults(facts.pipeline, known, raw)
    for fault in faults:
        yield Finding("fail", fault.message, fault.alter)
    if not faults:
        there = [name for name in output_names(facts.pipeline) if name in kafka.topics]
        missing = [name for name in output_names(facts.pipeline) if name not in kafka.topics]
        yield Finding(
            "ok",
            (f"{listed(there)} keep what is written to them" if there else "")
            + (f"{'; ' if there else ''}{listed(missing)} are not there yet, submit makes them" if missing else ""),
        )


def raw_topics(facts: Facts) -> Iterator[Finding]:
    """What is read must be there, and stay until it was read."""
    for pathway, kafka in _raw_clusters(facts):
        if isinstance(kafka, Unseen):
            yield Finding("unknown", f"pathway {pathway.name}: {kafka.why}")
            continue
        for name in pathway.topics:
            if (topic := kafka.topics.get(name)) is None:
                relayed = facts.pipeline.is_relayed(pathway)
                yield Finding("warn" if relayed else "fail", f"{name} at {kafka.address} does not exist")
                continue
            yield from _raw(facts, topic)


def _raw_clusters(facts: Facts) -> Iterator[tuple[Pathway, KafkaFacts | Unseen]]:
    """Each pathway, with the cluster that its raw topics are on."""
    for pathway in facts.pipeline.pathways:
        yield pathway, facts.remote[pathway.name] if facts.pipeline.is_relayed(pathway) else facts.kafka


def _raw(facts: Facts, topic: Topic) -> Iterator[Finding]:
    policy = topic.config.get("cleanup.policy", "delete")
    if "compact" in policy:
        accepted = facts.accepts(COMPACTED)
        yield Finding(
            "warn" if accepted else "fail",
            f"{topic.name} has cleanup.policy={policy}: of records with one key, those before the last may vanish "
            f"before they are read or audited{', which was accepted' if accepted else ''}",
            f"kafka-configs.sh --alter --entity-type topics --entity-name {topic.name} --add-config "
            f"cleanup.policy=delete; or accept it with --accept {COMPACTED} at the next start: "
            f"{ACCEPTABLE[COMPACTED]}",
        )
    arrival = facts.pipeline.source.event_time == "kafka" and topic.timestamp_type == "LogAppendTime"
    if arrival:
        yield Finding(
            "warn",
            f"{topic.name} has message.timestamp.type=LogAppendTime, and source.event_time is Kafka's: a record counts "
            "when it arrived, not when it was sent",
        )
    if "compact" not in policy and not arrival:
        kept = "for ever" if topic.retention_ms < 0 else f"for {about(topic.retention_ms)}"
        yield Finding("ok", f"{topic.name} is kept {kept}, with {topic.timestamp_type}")


def timestamp_limit(facts: Facts) -> Iterator[Finding]:
    """A producer's timestamp may not be from far in the future: its record's window would stay open until then."""
    for pathway, kafka in _raw_clusters(facts):
        if isinstance(kafka, Unseen):
            yield Finding("unknown", f"pathway {pathway.name}: {kafka.why}")
            continue
        yield from (_limit(kafka.topics[name]) for name in pathway.topics if name in kafka.topics)


def _limit(topic: Topic) -> Finding:
    if topic.timestamp_type != "CreateTime":
        return Finding("ok", f"{topic.name} has {topic.timestamp_type}, so no producer's clock counts")
    limits = [int(topic.config[name]) for name in _LIMITS if name in topic.config]
    limit = min(limits, default=_NO_LIMIT)
    if limit > ANY_AHEAD_MS:
        ahead = (
            "from any time in the future" if limit == _NO_LIMIT else f"up to {about(limit)} ahead of the broker's clock"
        )
        return Finding("warn", f"{topic.name} takes timestamps {ahead} ({_LIMITS[0]}={limit})")
    told = f"{topic.name} takes timestamps that are up to {about(limit)} ahead of the broker's clock"
    return Finding("warn" if limit > AHEAD_MS else "ok", told)


# The second one is that of brokers before Kafka 3.6.
_LIMITS = ("message.timestamp.after.max.ms", "message.timestamp.difference.max.ms")
_NO_LIMIT = (1 << 63) - 1
