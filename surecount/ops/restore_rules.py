"""What must be so that a job started from a snapshot goes on exactly: rules over facts, without clients.

Each refusal has a code. ``ACCEPTABLE`` ones can be accepted by that code, on the command line, and the ledger keeps it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from surecount.audit.retention import may_be_markers
from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops.ledger import Run
from surecount.ops.snapshots import Place, Snapshot, lineage
from surecount.ops.transactions import Transaction
from udfs.spec import Field

NAMESAKE = "namesake"

ACCEPTABLE = {
    NAMESAKE: "where it still runs, both read everything and write it twice",
    "not_newest": "what was written after it is written again",
    "drained": "windows that it closed early get their later records as corrections",
    "records_gone": "the missing records are never counted",
    "topic_made_anew": "the partition is read on at that offset, or from its earliest record if it ends before",
    "unchecked": "where records are deleted, the job fails until a start accepts records_gone",
    "transactions_gone": "what they held is missing from the outputs",
    "written_again": "what was written after the backup is there twice",
    "several_places": "the offset of the backup is taken",
    "beginning_unknown": "the partition is read from the first record that is there",
    "compacted_source": "records that compaction removes before they are read are never counted, and those that it "
    "removes later cannot be recounted",
}

EARLIEST = -2
"""Flink's offset of a partition of which nothing was read, where its source began with the earliest record."""

_ABORTED = ("PrepareAbort", "CompleteAbort")

# The kinds of topics that a job always writes, but for relays.
_OUTPUTS = {"ingest": ("clean", "rejects"), "aggregate": ("results", "corrections", "rejects")}


@dataclass(frozen=True)
class Refusal:
    """Why a job must not start from a snapshot, and what to do."""

    code: str
    message: str
    hint: str

    def __str__(self) -> str:
        if self.code in ACCEPTABLE:
            return f"{self.message}\n  → {self.hint}\n  → or --accept {self.code}: {ACCEPTABLE[self.code]}"
        return f"{self.message}\n  → {self.hint}"


def check_restore(
    pipeline: Pipeline,
    job: str,
    snapshot: Snapshot,
    newest: Snapshot | None,
    held: Mapping[Place, tuple[int, int]] | None,
    parallelism: int,
    accepted: Collection[str] = (),
    runs: Sequence[Run] = (),
    transactions: Sequence[Transaction] = (),
    ids: Mapping[str, str] | None = None,
    committed: Mapping[Place, int] | None = None,
    *,
    bounded: bool = False,
) -> None:
    """Raise SurecountError with every refusal that is not among the ``accepted`` codes.

    ``newest`` is the snapshot to go on from; ``held`` are the first and the next offset of each partition that the
    job reads now; None where its cluster does not answer. ``runs`` are all of the job;
    ``transactions`` are what the brokers tell of its transactional ids, where it was not stopped with the snapshot;
    ``ids`` are those of the topics that it reads now, where they can be told; ``committed`` is what its group has
    committed there.
    """
    refusals = [
        *_order(snapshot, newest),
        *(_unchecked(pipeline, job) if held is None else _offsets(pipeline, snapshot, held)),
        *_other_topics(snapshot, ids or {}),
        *_parallelism(pipeline, snapshot, parallelism),
        *_bounds(snapshot, bounded=bounded),
        *_transactions(snapshot, transactions),
        *_namesake(f"{pipeline.name}.{job}", newest or snapshot, runs, committed or {}),
        *refused_changes(snapshot.run.pipeline(), pipeline, job),
        *names_again(pipeline, job, snapshot.run, runs),
    ]
    if left := [refusal for refusal in refusals if refusal.code not in accepted]:
        raise SurecountError(
            f"{pipeline.name}.{job} cannot go on exactly from {snapshot.path}:\n" + "\n".join(map(str, left)),
            exit_code=1,
        )


def _order(snapshot: Snapshot, newest: Snapshot | None) -> Iterator[Refusal]:
    if newest is not None and snapshot.path != newest.path:
        yield Refusal(
            "not_newest",
            f"it is checkpoint {snapshot.id} of run {snapshot.run.number}, and checkpoint {newest.id} of run "
            f"{newest.run.number} came later",
            f"start from {newest.path}",
        )
    if snapshot.drained:
        yield Refusal(
            "drained",
            "it was taken with --drain, which closed every window before its end",
            "start from a snapshot that was not",
        )


def _unchecked(pipeline: Pipeline, job: str) -> Iterator[Refusal]:
    kafka, names = pipeline.reads(job)
    yield Refusal(
        "unchecked",
        f"{kafka.bootstrap_servers} does not answer: whether {', '.join(names)} still holds what is to be read next is "
        "not known",
        "wait until it is back",
    )


def _offsets(pipeline: Pipeline, snapshot: Snapshot, held: Mapping[Place, tuple[int, int]]) -> Iterator[Refusal]:
    own = pipeline.written
    # Ledgers of earlier versions do not tell. A partition that came later began at 0.
    begins = {(topic, partition): low for topic, partition, low in snapshot.run.begins}
    read_now = {topic for topic, _ in held}
    for (topic, partition), offset in snapshot.offsets.items():
        if topic not in read_now:
            yield Refusal(
                "sources",
                f"it reads {topic}, from offset {offset} of partition {partition} on, and would read on there, but the "
                "pipeline does not name that topic",
                "name the topic as a source again, or give the pipeline another name",
            )
            continue
        if (topic, partition) not in held:
            yield Refusal(
                "topic_made_anew",
                f"{topic} has no partition {partition} now, of which offset {offset} is to be read next",
                "give the topic its partitions back",
            )
            continue
        low, high = held[topic, partition]
        if offset == EARLIEST and begins:
            offset = begins.get((topic, partition), 0)
        # What else is below 0 is a marker as well, and says nothing.
        if 0 <= offset < low and not may_be_markers(low - offset, high - low, in_transactions=topic in own):
            yield Refusal(
                "records_gone",
                f"{topic} partition {partition}: offsets {offset} to {low - 1} are deleted, {low - offset:,} that "
                "were not read yet",
                "restore them from a mirror, or keep records longer (retention.ms) than outages last",
            )
        if offset > high:
            yield Refusal(
                "topic_made_anew",
                f"{topic} partition {partition}: offset {offset} is to be read next, and the topic ends at {high}: it "
                "was made anew, or lost records",
                "give the pipeline another name, so that it starts from nothing, or restore the topic",
            )


def _other_topics(snapshot: Snapshot, ids: Mapping[str, str]) -> Iterator[Refusal]:
    """A topic that was deleted and made anew may have come further than the snapshot since."""
    for topic in sorted(topic for topic, was in snapshot.run.topic_ids.items() if ids.get(topic, was) != was):
        skipped = [
            f"{offset} of partition {p}" for (t, p), offset in snapshot.offsets.items() if t == topic and offset > 0
        ]
        if not skipped:
            continue
        yield Refusal(
            "topic_made_anew",
            f"{topic} is another topic than the one that it read, and what is before offset {', '.join(skipped)} was "
            "never read",
            "give the pipeline another name, so that it starts from nothing, or restore the topic with "
            "`surecount recover`",
        )


def _transactions(snapshot: Snapshot, transactions: Sequence[Transaction]) -> Iterator[Refusal]:
    """Each transaction that the snapshot is to commit is open still, or was committed."""
    if snapshot.run.stopped_with == snapshot.path:
        return  # the job ended only when it had committed them
    told = {transaction.id: transaction for transaction in transactions}
    gone = []
    for transactional_id, producer_id, epoch in snapshot.committables:
        now = told.get(transactional_id)
        if now is None or now.producer_id != producer_id:
            gone.append(f"{transactional_id}: the brokers know it no more")
        # An abort takes the epoch on by one. Once it is further, the id was used again: only after a commit.
        elif now.state in _ABORTED and now.epoch == epoch + 1:
            gone.append(f"{transactional_id}: aborted")
    if gone:
        more = f", and {len(gone) - 1} more" if len(gone) > 1 else ""
        yield Refusal(
            "transactions_gone",
            f"it is to commit transactions that have outlived sink.transaction_timeout: {gone[0]}{more}",
            "there is no way to bring them back; `surecount audit` names what is missing. Next time start within "
            "that time, or raise it",
        )


def _parallelism(pipeline: Pipeline, snapshot: Snapshot, parallelism: int) -> Iterator[Refusal]:
    was = snapshot.max_parallelism
    if was and was != pipeline.state.max_parallelism:
        yield Refusal(
            "max_parallelism",
            f"its state is cut for max parallelism {was}, and state.max_parallelism is "
            f"{pipeline.state.max_parallelism}",
            f"set state.max_parallelism = {was}; another one needs a pipeline of another name",
        )
    if parallelism > pipeline.state.max_parallelism:
        yield Refusal(
            "parallelism",
            f"parallelism {parallelism} is more than state.max_parallelism, {pipeline.state.max_parallelism}",
            f"give --parallelism 1 to {pipeline.state.max_parallelism}",
        )


def _bounds(snapshot: Snapshot, *, bounded: bool) -> Iterator[Refusal]:
    """Each partition's end is in the snapshot: of a bounded run where it was then, of another one nowhere."""
    if snapshot.run.bounded and not bounded:
        yield Refusal(
            "bounded",
            "it is of a bounded run, and would end where the topics ended then",
            "start with --bounded, or give the pipeline another name",
        )
    if bounded and not snapshot.run.bounded:
        yield Refusal("bounded", "it is of a run without end, and --bounded would never end", "start without --bounded")


def _namesake(name: str, newest: Snapshot, runs: Sequence[Run], committed: Mapping[Place, int]) -> Iterator[Refusal]:
    """A source commits its offsets when a checkpoint is complete, so no group is ahead of the newest snapshot, but by
    another's doing. After a start from an older snapshot it may be by that of an earlier run, and after a recovery by
    one of before; these pass."""
    if not runs or "not_newest" in runs[-1].accepted or newest.moved or newest.generation:
        return
    ahead = [
        f"{topic} partition {partition}: {offset}, for {newest.offsets[topic, partition]} in {newest.path}"
        for (topic, partition), offset in sorted(committed.items())
        if 0 <= newest.offsets.get((topic, partition), -1) < offset
    ]
    if ahead:
        yield Refusal(
            NAMESAKE,
            f"the group of {name} has committed offsets that no run of this ledger has come to ({', '.join(ahead)}): "
            "a job of that name runs on another Flink cluster, or did, or newer snapshots were removed",
            "stop it there, and give one of the two pipelines another name; or bring the snapshots back",
        )


def refused_changes(was: Pipeline, now: Pipeline, job: str) -> Iterator[Refusal]:
    """Changes of what the state was made with, and cannot be read without."""
    if now.pathway_of(job) is None and was.state.buckets != now.state.buckets:
        yield Refusal(
            "buckets",
            f"its state is in {was.state.buckets} buckets, and state.buckets is {now.state.buckets}",
            f"set state.buckets = {was.state.buckets}; another number needs a pipeline of another name",
        )
    if job == "aggregate":
        yield from _aggregates(was, now)
    if job == "ingest" and was.source.id_fields != now.source.id_fields:
        yield Refusal(
            "event_id",
            f"its ids are of {was.source.event_id!r}, and source.event_id is {now.source.event_id!r}: "
            "copies of what came before could not be told",
            "set it back, or give the pipeline another name",
        )
    for kind in _OUTPUTS.get(job, ()):
        before, after = getattr(was.topics, kind), getattr(now.topics, kind)
        if before != after:
            yield Refusal(
                "outputs",
                f"it wrote its {kind} to {before}, and topics.{kind} is {after}",
                "set it back: no audit could find both",
            )


def names_again(pipeline: Pipeline, job: str, run: Run, runs: Sequence[Run]) -> Iterator[Refusal]:
    """One that had ended would find what is left of its state, and its results would not tell the two apart."""
    if job != "aggregate":
        return
    had = set(run.pipeline().spec().by_name)
    for earlier in lineage([other for other in runs if other.number <= run.number]):
        again = sorted((set(earlier.pipeline().spec().by_name) - had) & set(pipeline.spec().by_name))
        for name in again:
            had.add(name)
            yield Refusal(
                "aggregate_again",
                f"aggregate {name!r} was there in run {earlier.number}, and has ended",
                "give the new one another name",
            )


def _aggregates(was: Pipeline, now: Pipeline) -> Iterator[Refusal]:
    before = was.spec().by_name
    for aggregate in now.spec().aggregates:
        name = aggregate.name
        if name not in before:
            continue
        for part, had, has in (
            ("key", before[name].key, aggregate.key),
            ("sum", before[name].sums, aggregate.sums),
        ):
            if had != has:
                yield Refusal(
                    f"aggregate_{part}",
                    f"aggregate {name!r} had {part} = {_fields(had)}, and has {_fields(has)}",
                    f"set it back, or name the changed aggregate otherwise: {name!r} ends and a new one begins",
                )


def _fields(fields: Sequence[Field]) -> str:
    texts = (f"{f.path} ({f.type}{f', scale {f.scale}' if f.scale else ''})" for f in fields)
    return f"[{', '.join(texts)}]"
