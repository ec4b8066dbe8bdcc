"""What a recovery makes of a backup, and of where its marks stand now. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
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


@dataclass(frozen=True)
class Places:
    """Where the marks stand now: those that each job reads on at, those of what it wrote, and those of each group. One
    whose partition is not there is missing."""

    reads: Mapping[str, Mapping[Mark, Found]]
    writes: Mapping[str, Mapping[Mark, Found]]
    groups: Mapping[str, Mapping[Mark, Found]]


def plan(pipeline: Pipeline, backup: Backup, there: Mapping[str, Topic], places: Places) -> Plan:
    """The plan of a recovery; ``there`` are the topics of the pipeline's own cluster, with their own settings."""
    made = Plan(notes=list(_topics(backup, there)))
    read = {topic for job in backup.jobs for topic in pipeline.reads(job)[1]}
    for job, one in backup.jobs.items():
        made.moved[job] = {}
        for mark in one.reads:
            _read(made, job, mark, places.reads[job].get(mark))
        if job != "aggregate" and not pipeline.source.id_fields:
            # What a relay or a replay has copied names the offset at its origin.
            copies = {*pipeline.copies, pipeline.topics.replay}
            made.refusals += _ids([mark for mark in one.reads if mark.topic not in copies], made.moved[job])
        for mark in one.writes:
            _written(made, mark, places.writes[job].get(mark), read_by_us=mark.topic in read)
    for group, marks in backup.groups.items():
        known = {mark: places.groups[group][mark].at for mark in marks if mark in places.groups[group]}
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
    moved = made.moved[job]
    where = f"{job} reads on after {mark}"
    whole = "restore or mirror each partition with its records in their order, from before the backup on"
    if found is None:
        made.refusals.append(Refusal("copy_differs", f"{where}: the partition is not there now", whole))
    elif len(found.at) == 1:
        moved[mark.place] = found.at[0]
    elif found.at and mark.offset in found.at:
        moved[mark.place] = mark.offset
        why = f"{where}: the {len(mark.before)} records before it are in {len(found.at)} places now, also there"
        made.refusals.append(Refusal("several_places", why, "make sure that the offsets are what they were"))
    elif found.at:
        why = f"{where}: the {len(mark.before)} records before it are in {len(found.at)} places now, and not there"
        made.refusals.append(Refusal("copy_differs", why, whole))
    elif not mark.before:
        moved[mark.place] = found.first
        if found.records:
            why = f"{where}, before which all was deleted; the partition now has {found.records:,} records from offset "
            why += f"{found.first} on, and which of them were counted is not known"
            made.refusals.append(Refusal("beginning_unknown", why, "restore what came after the backup only"))
    elif not found.records:
        moved[mark.place] = found.first
        hint = "restore or mirror the topic, and recover again; what came after the backup is then counted"
        made.refusals.append(Refusal("records_gone", f"{where}: the partition is empty now", hint))
    else:
        why = (
            f"{where}: the {len(mark.before)} records before it are not among the {found.records:,} that are there now"
        )
        made.refusals.append(Refusal("copy_differs", why, whole))


def _ids(reads: Collection[Mark], moved: Mapping[Place, int]) -> Iterator[Refusal]:
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


def _written(made: Plan, mark: Mark, found: Found | None, *, read_by_us: bool) -> None:
    """What was written up to the backup is there, and nothing else."""
    where = f"{mark.topic} partition {mark.partition}"
    # What is there twice for a reader, another job of ours would count twice.
    code = "copy_differs" if read_by_us else "written_again"
    if found is not None and len(found.at) == 1:
        if found.after:
            why = f"{where}: {found.after:,} records were written after the backup, and would be written again"
            made.refusals.append(Refusal(code, why, f"restore it up to offset {found.at[0]} only"))
    elif found is not None and found.records:
        why = f"{where}: which of its {found.records:,} records were written before the backup is not known; those "
        why += "after it would be written again"
        made.refusals.append(Refusal(code, why, "restore it up to the backup, or make it empty"))
    elif mark.before:
        made.notes.append(f"{mark}: what was written before the backup is not there; a recovery does not bring it")


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
