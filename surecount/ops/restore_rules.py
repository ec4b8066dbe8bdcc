"""What must be so that a job started from a snapshot goes on exactly: rules over facts, without clients.

Each refusal has a code. ``ACCEPTABLE`` ones can be accepted by that code, on the command line, and the ledger keeps it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops.snapshots import Place, Snapshot

ACCEPTABLE = {
    "not_newest": "what was written after it is written again",
    "drained": "windows that it closed early get their later records as corrections",
    "records_gone": "the missing records are never counted",
    "topic_made_anew": "the partition is read from its earliest record",
    "unchecked": "records that are deleted are never counted",
}

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
) -> None:
    """Raise SurecountError with every refusal that is not among the ``accepted`` codes.

    ``newest`` is the snapshot to go on from; ``held`` are the first and the next offset of each partition that the
    job reads now; None where its cluster does not answer.
    """
    refusals = [
        *_order(snapshot, newest),
        *(_unchecked(pipeline, job) if held is None else _offsets(snapshot, held)),
        *_parallelism(pipeline, snapshot, parallelism),
        *_fixed(pipeline, job, snapshot),
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


def _offsets(snapshot: Snapshot, held: Mapping[Place, tuple[int, int]]) -> Iterator[Refusal]:
    read_now = {topic for topic, _ in held}
    for (topic, partition), offset in snapshot.offsets.items():
        if topic not in read_now:
            yield Refusal(
                "sources",
                f"it reads {topic}, from offset {offset} of partition {partition} on, and the job would not",
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
        # Below 0 are markers: earliest, latest, committed.
        if 0 <= offset < low:
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


def _fixed(pipeline: Pipeline, job: str, snapshot: Snapshot) -> Iterator[Refusal]:
    """What the state was made with, and cannot be read without."""
    was, now = snapshot.run.config, pipeline.model_dump(mode="json")
    if pipeline.pathway_of(job) is None and was["state"]["buckets"] != now["state"]["buckets"]:
        yield Refusal(
            "buckets",
            f"its state is in {was['state']['buckets']} buckets, and state.buckets is {now['state']['buckets']}",
            f"set state.buckets = {was['state']['buckets']}; another number needs a pipeline of another name",
        )
    if job == "aggregate":
        yield from _aggregates(was, now)
    if job == "ingest" and was["source"]["event_id"] != now["source"]["event_id"]:
        yield Refusal(
            "event_id",
            f"its ids are of {was['source']['event_id']!r}, and source.event_id is {now['source']['event_id']!r}: "
            "copies of what came before could not be told",
            "set it back, or give the pipeline another name",
        )
    for kind in _OUTPUTS.get(job, ()):
        if was["topics"][kind] != now["topics"][kind]:
            yield Refusal(
                "outputs",
                f"it wrote its {kind} to {was['topics'][kind]}, and topics.{kind} is {now['topics'][kind]}",
                "set it back: no audit could find both",
            )


def _aggregates(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Refusal]:
    before = {aggregate["name"]: aggregate for aggregate in was["aggregate"]}
    for aggregate in now["aggregate"]:
        name = aggregate["name"]
        if name not in before:
            continue
        for part in ("key", "sum"):
            if before[name][part] != aggregate[part]:
                yield Refusal(
                    f"aggregate_{part}",
                    f"aggregate {name!r} had {part} = {before[name][part]}, and has {aggregate[part]}",
                    f"set it back, or name the changed aggregate otherwise: {name!r} ends and a new one begins",
                )
