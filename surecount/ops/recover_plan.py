"""What a recovery makes of a backup, and of where its marks stand now. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from surecount.config import Pipeline
from surecount.ops.backup import Backup
from surecount.ops.marks import Found, Mark
from surecount.ops.restore_rules import Refusal
from surecount.ops.snapshots import Place
from surecount.topic_rules import Topic


@dataclass
class Plan:
    """``moved`` are the offsets at which each job reads on, ``groups`` those of others; ``notes`` say what could not
    be brought back, and what is to be known."""

    moved: dict[str, dict[Place, int]] = field(default_factory=dict)
    groups: dict[str, dict[Place, int]] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan(
    pipeline: Pipeline,
    backup: Backup,
    there: Mapping[str, Topic],
    found: Mapping[Mark, Found],
) -> Plan:
    """The plan of a recovery. ``there`` are the topics of the pipeline's own cluster with their own settings, and
    ``found`` is where the marks stand; one whose partition is not there is missing."""
    made = Plan(notes=list(_topics(backup, there)))
    for job, one in backup.jobs.items():
        made.moved[job] = {}
        for mark in one.reads:
            _read(made, job, mark, found.get(mark))
        if job == "ingest" and not pipeline.source.id_fields:
            made.refusals += _ids(one.reads, made.moved[job])
        for mark in one.writes:
            _written(made, mark, found.get(mark))
    for group, marks in backup.groups.items():
        known = {mark: found[mark].at for mark in marks if mark in found}
        made.groups[group] = {mark.place: at[0] for mark, at in known.items() if len(at) == 1}
        made.notes += [
            f"group {group}: where it had come to in {mark} is not found, and not set"
            for mark in marks
            if mark.place not in made.groups[group]
        ]
    for sending in backup.sendings:
        made.notes.append(
            f"group {sending.group} of `surecount send` is at byte {sending.byte:,} again: what it sent after the "
            "backup it would send again"
        )
    return made


def _read(made: Plan, job: str, mark: Mark, found: Found | None) -> None:
    """Where a job reads a partition on."""
    if found is not None and len(found.at) == 1:
        made.moved[job][mark.place] = found.at[0]
        return
    if found is not None and not found.records and not found.at:
        made.moved[job][mark.place] = found.first
        made.refusals.append(
            Refusal(
                "records_gone",
                f"{job} reads on after {mark}: the partition is empty now",
                "restore or mirror the topic, and recover again; what came after the backup is then counted",
            )
        )
        return
    why = "the partition is not there now"
    if found is not None:
        why = f"the {len(mark.before)} records before it are " + (
            "in several places now" if found.at else f"not among the {found.records:,} that are there now"
        )
    made.refusals.append(
        Refusal(
            "copy_differs",
            f"{job} reads on after {mark}: {why}",
            "restore or mirror each partition with its records in their order, from before the backup on",
        )
    )


def _ids(reads: tuple[Mark, ...], moved: Mapping[Place, int]) -> Iterator[Refusal]:
    """Without source.event_id a record's id is its offset."""
    for mark in reads:
        if moved.get(mark.place, mark.offset) != mark.offset:
            yield Refusal(
                "ids_moved",
                f"{mark} is offset {moved[mark.place]} now, and without source.event_id an offset is a record's id: "
                "others would count as copies",
                "restore the topic with its offsets",
            )
            return


def _written(made: Plan, mark: Mark, found: Found | None) -> None:
    """What was written up to the backup is there, and nothing else."""
    if found is None or len(found.at) != 1:
        if mark.before:
            made.notes.append(f"{mark}: what was written before the backup is not there; a recovery does not bring it")
    elif found.after:
        made.refusals.append(
            Refusal(
                "written_again",
                f"{mark.topic} partition {mark.partition}: {found.after:,} records were written after the backup, and "
                "would be written again",
                f"restore it up to offset {found.at[0]} only",
            )
        )


def _topics(backup: Backup, there: Mapping[str, Topic]) -> Iterator[str]:
    """What differs of topics that are there already."""
    for was in backup.topics:
        now = there[was.name]
        if now.partitions != was.partitions:
            yield f"{was.name} has {now.partitions} partitions, and had {was.partitions}"
        if now.replicas < was.replicas:
            yield f"{was.name} has {now.replicas} replicas, and had {was.replicas}"
        for name in sorted({*was.config, *now.config}):
            before, after = was.config.get(name, "no value of its own"), now.config.get(name, "no value of its own")
            if before != after:
                yield f"{was.name} has {name}={after}, and had {before}"
