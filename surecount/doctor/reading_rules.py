"""Rules over offsets and transactions: what can be read, what holds it, and what will be deleted before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import permutations

from surecount.audit.retention import may_be_markers
from surecount.config import Pipeline
from surecount.doctor.facts import Facts, KafkaFacts, Offsets, Unseen, seen
from surecount.doctor.findings import Finding
from surecount.doctor.kafka_rules import per_cluster
from surecount.doctor.words import about, listed
from surecount.ops.snapshots import Place
from surecount.ops.transactions import Transaction


def patience_ms(pipeline: Pipeline) -> int:
    """How long a transaction may be open before it is worth a word: that of a healthy job ends at a checkpoint."""
    interval: int = pipeline.checkpoint.interval
    return 2 * interval + 10_000


def unread_records(facts: Facts) -> Iterator[Finding]:
    """What a job has still to read must not be deleted before."""
    for job in facts.pipeline.jobs:
        cluster, committed = facts.cluster_of(job), facts.committed.get(job)
        reason = next((found.why for found in (cluster, committed) if isinstance(found, Unseen)), None)
        if isinstance(cluster, KafkaFacts) and isinstance(cluster.offsets, Unseen):
            reason = cluster.offsets.why
        if reason is not None or committed is None:
            yield Finding("unknown", f"{job}: {reason or 'it was not asked for'}")
            continue
        yield from _unread(facts.pipeline, job, seen(seen(cluster).offsets), seen(committed))


def _unread(
    pipeline: Pipeline, job: str, offsets: Mapping[Place, Offsets], committed: Mapping[Place, int]
) -> Iterator[Finding]:
    if not committed:
        yield Finding("ok", f"{job} has committed no offsets yet")
        return
    wrong, lag = False, 0
    for place, offset in committed.items():
        if place not in offsets:
            continue
        topic, partition = place
        held = offsets[place]
        lag += max(0, held.high - max(offset, held.low))
        own = topic in pipeline.written
        if offset < held.low and not may_be_markers(held.low - offset, held.high - held.low, in_transactions=own):
            wrong = True
            yield Finding(
                "fail",
                f"{job}: {topic} partition {partition}: offsets {offset} to {held.low - 1} were deleted before they "
                "were read",
            )
        elif held.expiring is not None and offset < min(held.expiring, held.high):
            wrong = True
            yield Finding(
                "warn",
                f"{job}: {topic} partition {partition}: {min(held.expiring, held.high) - offset:,} unread records have "
                "less than a fifth of their retention left",
            )
    if not wrong:
        yield Finding("ok", f"{job} has {lag:,} records to read, none of them near its end")


@per_cluster
def last_stable_offset(facts: Facts, called: str, kafka: KafkaFacts) -> Iterator[Finding]:
    """What open transactions keep from readers of committed records, and whose they are."""
    if isinstance(kafka.offsets, Unseen):
        yield Finding("unknown", f"{called}: {kafka.offsets.why}")
        return
    held = {place: found.high - found.stable for place, found in kafka.offsets.items() if found.high > found.stable}
    if not held:
        yield Finding("ok", f"{called}: {len(kafka.offsets)} partitions can be read up to their ends")
    for topic in dict.fromkeys(topic for topic, _ in held):
        of_topic = {place: lag for place, lag in held.items() if place[0] == topic}
        waits = f"{topic}: {sum(of_topic.values()):,} records in {len(of_topic)} partition(s) wait for"
        if isinstance(kafka.transactions, Unseen):
            yield Finding("warn", f"{waits} transactions that could not be listed: {kafka.transactions.why}")
            continue
        holders = [found for found in kafka.transactions if found.open and not of_topic.keys().isdisjoint(found.places)]
        if not holders:
            yield Finding("ok", f"{waits} a transaction that has ended since")
            continue
        oldest = max(holders, key=lambda found: found.age_ms(facts.now_ms))
        late = oldest.age_ms(facts.now_ms) > patience_ms(facts.pipeline)
        more = f", and {len(holders) - 1} more" if len(holders) > 1 else ""
        yield Finding("warn" if late else "ok", f"{waits} {_told(oldest, facts.now_ms)}{more}")


def _told(found: Transaction, now_ms: int) -> str:
    return (
        f"{found.id} (open for {about(found.age_ms(now_ms))} of {about(found.timeout_ms)}, producer "
        f"{found.producer_id}, epoch {found.epoch})"
    )


@per_cluster
def open_transactions(facts: Facts, called: str, kafka: KafkaFacts) -> Iterator[Finding]:
    """Open transactions by prefix: this pipeline's, and others' on its topics."""
    if isinstance(kafka.transactions, Unseen):
        yield Finding("unknown", f"{called}: {kafka.transactions.why}")
        return
    groups: dict[tuple[str, str | None], list[Transaction]] = {}
    for found in kafka.transactions:
        job = _job_of(facts.pipeline, found.id)
        touches = {topic for topic, _ in found.places} & kafka.topics.keys()
        if found.open and (job is not None or touches):
            groups.setdefault((prefix_of(found.id), job), []).append(found)
    if not groups:
        yield Finding("ok", f"{called}: none is open on the pipeline's topics")
    for (prefix, job), members in groups.items():
        yield _group(facts, prefix, job, members)


def _group(facts: Facts, prefix: str, job: str | None, members: list[Transaction]) -> Finding:
    now, oldest = facts.now_ms, max(members, key=lambda found: found.age_ms(facts.now_ms))
    topics = listed(sorted({topic for found in members for topic, _ in found.places}))
    told = f"{prefix}: {len(members)} open on {topics}, the oldest is {_told(oldest, now)}"
    age, left = oldest.age_ms(now), oldest.timeout_ms - oldest.age_ms(now)
    if job is None:
        mend = "its producer has to commit or abort it; if it is gone, the broker aborts it in " + about(left)
        return Finding("warn", told, mend) if age > patience_ms(facts.pipeline) else Finding("ok", told)
    if age > oldest.timeout_ms / 2:
        return Finding("fail", f"{told}; the broker aborts it in {about(left)}")
    if not isinstance(facts.jobs, Unseen) and facts.jobs[job] is None:
        return Finding("warn", f"{told}, and job {job} does not run; the broker aborts it in {about(left)}")
    return Finding("warn" if age > patience_ms(facts.pipeline) else "ok", told)


def _job_of(pipeline: Pipeline, transactional_id: str) -> str | None:
    """The pipeline's job that writes under a transactional id; None for others'."""
    own = {job: pipeline.transactional_id_prefix(job, "") for job in pipeline.jobs}
    return next((job for job, prefix in own.items() if transactional_id.startswith(prefix)), None)


def prefix_of(transactional_id: str) -> str:
    """A transactional id without the numbers that tell a sink's transactions apart."""
    return re.sub(r"([-_.]\d+)+$", "", transactional_id)


def transactional_ids(facts: Facts) -> Iterator[Finding]:
    """No prefix of a sink begins with another's."""
    pipeline = facts.pipeline
    prefixes = [pipeline.transactional_id_prefix(job, kind) for job in pipeline.jobs for kind in pipeline.sinks(job)]
    yield from prefixes_apart(prefixes)


def prefixes_apart(prefixes: Iterable[str]) -> Iterator[Finding]:
    """The same, of any prefixes."""
    names = list(prefixes)
    within = [(a, b) for a, b in permutations(names, 2) if b.startswith(a)]
    for a, b in within:
        yield Finding("fail", f"{b} begins with {a}: the sink of the one would abort transactions of the other")
    if not within:
        yield Finding("ok", f"{len(names)} prefixes, of which none begins with another")
