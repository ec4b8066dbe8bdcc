"""What a recovery does, and refuses, by where the marks of a backup stand now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from surecount import config
from surecount.config import Pipeline
from surecount.ops.backup import Backup, JobBackup, Sending
from surecount.ops.marks import Found, Mark
from surecount.ops.recover_plan import Places, Plan, plan
from surecount.ops.restore_rules import ACCEPTABLE
from surecount.topic_rules import Topic

CONTENT: dict[str, Any] = {
    "name": "shop",
    "kafka": {"bootstrap_servers": "localhost:9092"},
    "source": {"topics": ["in"], "event_time": "kafka", "event_id": "id"},
    "aggregate": [{"name": "a", "key": ["k"], "window": "1 min"}],
}
READ = Mark("in", 0, 40, ("x", "y"))
WRITTEN = Mark("shop.clean", 0, 30, ("c",))
GROUP = Mark("shop.clean", 0, 20, ("b",))
TOPIC = Topic("in", 2, 3, {"retention.ms": "-1"})
BACKUP = Backup(
    "shop", ("shop.toml",), 1, "1", (TOPIC,),
    {"ingest": JobBackup("savepoint-1", (READ,), (WRITTEN,))}, {"reports": (GROUP,)},
)  # fmt: skip
FOUND = {READ: Found((50,), 0), WRITTEN: Found((33,), 0), GROUP: Found((22,), 0)}


def pipeline(**source: Any) -> Pipeline:
    return config.parse({**CONTENT, "source": source or CONTENT["source"]}, "shop.toml")


def planned(backup: Backup = BACKUP, *, now: Topic = TOPIC, **marks: Found | None) -> Plan:
    changed = {**FOUND, **{{"read": READ, "written": WRITTEN, "group": GROUP}[name]: at for name, at in marks.items()}}
    return plan(pipeline(), backup, {"in": now}, places(changed))


def places(found: dict[Mark, Found | None]) -> Places:
    def at(mark: Mark) -> dict[Mark, Found]:
        return {mark: one} if (one := found[mark]) else {}

    return Places({"ingest": at(READ)}, {"ingest": at(WRITTEN)}, {"reports": at(GROUP)})


def test_jobs_and_groups_go_on_where_the_records_before_are() -> None:
    made = planned()
    assert made.moved == {"ingest": {("in", 0): 50}}
    assert made.groups == {"reports": {("shop.clean", 0): 22}}
    assert (made.refusals, made.notes) == ([], [])


@pytest.mark.parametrize(
    ("read", "code", "words"),
    [
        (None, "copy_differs", "not there now"),
        (Found((), 7, records=0), "records_gone", "empty now"),
        (Found((), 7, records=5), "copy_differs", "not among the 5"),
        (Found((8, 9), 7, records=5), "copy_differs", "in 2 places now, and not there"),
        (Found((8, 40), 7, records=5), "several_places", "in 2 places now, also there"),
    ],
)
def test_a_source_without_the_records_before_is_refused(read: Found | None, code: str, words: str) -> None:
    made = planned(read=read)
    (refusal,) = made.refusals
    assert refusal.code == code
    assert words in refusal.message
    moved = {"records_gone": 7, "several_places": 40}
    assert made.moved["ingest"] == ({("in", 0): moved[code]} if code in moved else {})


def test_where_all_before_was_deleted_the_first_record_may_have_been_counted() -> None:
    bare = Mark("in", 0, 40, ())
    backup = replace(BACKUP, jobs={"ingest": JobBackup("savepoint-1", (bare,), ())}, groups={})

    def refusals(records: int) -> tuple[list[str], int]:
        found = Places({"ingest": {bare: Found((), 3, records)}}, {"ingest": {}}, {})
        made = plan(pipeline(), backup, {"in": TOPIC}, found)
        return [refusal.code for refusal in made.refusals], made.moved["ingest"]["in", 0]

    assert refusals(0) == ([], 3)
    assert refusals(5) == (["beginning_unknown"], 3)


def test_what_was_written_after_the_backup_would_be_written_again() -> None:
    (refusal,) = planned(written=Found((33,), 0, after=4)).refusals
    assert (refusal.code, "4 records" in refusal.message) == ("written_again", True)
    (refusal,) = planned(written=Found((), 0, records=4)).refusals
    assert (refusal.code, "4 records" in refusal.message) == ("written_again", True)


def test_what_another_job_would_count_twice_cannot_be_accepted() -> None:
    jobs = {**BACKUP.jobs, "aggregate": JobBackup("savepoint-2", (WRITTEN,), ())}
    # The same mark where the one job wrote and the other reads on.
    found = Places(
        {"ingest": {READ: FOUND[READ]}, "aggregate": {WRITTEN: Found((33,), 0)}},
        {"ingest": {WRITTEN: Found((33,), 0, after=4)}, "aggregate": {}},
        {"reports": {GROUP: FOUND[GROUP]}},
    )
    (refusal,) = plan(pipeline(), replace(BACKUP, jobs=jobs), {"in": TOPIC}, found).refusals
    assert (refusal.code, refusal.code in ACCEPTABLE) == ("copy_differs", False)


def test_what_is_not_there_any_more_is_told() -> None:
    made = planned(written=None, group=Found((), 0, records=3))
    assert made.refusals == []
    assert "shop.clean partition 0, offset 30: what was written before the backup is not there" in made.notes[0]
    assert "group reports" in made.notes[1]
    assert made.groups == {"reports": {}}


def test_ids_that_are_offsets_need_the_offsets() -> None:
    anonymous = pipeline(event_time="kafka", pathway=[{"name": "east", "topics": ["in"]}])
    (refusal,) = plan(anonymous, BACKUP, {"in": TOPIC}, places({**FOUND})).refusals
    assert refusal.code == "ids_moved"
    assert not plan(anonymous, BACKUP, {"in": TOPIC}, places({**FOUND, READ: Found((40,), 0)})).refusals


def test_topics_that_differ_are_told() -> None:
    made = planned(now=replace(TOPIC, partitions=3, replicas=1, config={"cleanup.policy": "compact"}))
    assert made.notes == [
        "in has 3 partitions, and had 2",
        "in has 1 replicas, and had 3",
        "in has cleanup.policy=compact, and had no value of its own",
        "in has retention.ms=no value of its own, and had -1",
    ]


def test_what_send_had_sent_is_told() -> None:
    made = planned(replace(BACKUP, sendings=(Sending("surecount.shop.send.x", "in", 1_000, "{}"),)))
    assert "surecount.shop.send.x of `surecount send` is at byte 1,000 again" in made.notes[0]
