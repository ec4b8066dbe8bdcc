"""Which snapshots a job may go on from: the newest, whole, for the same state, with its records still there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from surecount import config
from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops import snapshots
from surecount.ops.ledger import Moved, Run, config_of
from surecount.ops.namesakes import unknown_to_ledger
from surecount.ops.restore_rules import ACCEPTABLE, EARLIEST, check_restore
from surecount.ops.snapshots import Place, Snapshot, as_moved, latest, maker, standing
from surecount.ops.storage import Folder
from surecount.ops.transactions import Transaction

CONTENT: dict[str, Any] = {
    "name": "shop",
    "kafka": {"bootstrap_servers": "localhost:9092"},
    "source": {"topics": ["in"], "event_time": "kafka", "event_id": "id"},
    "aggregate": [
        {"name": "a", "key": ["k"], "sum": ["x"], "window": "1 min"},
        {"name": "b", "key": ["k"], "window": "1 min"},
    ],
}
HELD = {("in", 0): (0, 100), ("in", 1): (5, 50)}


def pipeline(**changes: Any) -> Pipeline:
    return config.parse({**CONTENT, **changes}, "shop.toml")


def run(number: int, snapshot: str | None = None) -> Run:
    job_id = f"{number:06}" + "0" * 26
    return Run(number, job_id, number, snapshot, 1, False, config_of(pipeline()), "", "", {}, "p")


def checkpoint(of: Run, number: int, **changes: Any) -> Snapshot:
    path = f"file:///checkpoints/{of.job_id}/chk-{number}"
    offsets = {("in", 0): 70, ("in", 1): 50}
    return replace(Snapshot(path, of, number, number, False, False, 128, offsets), **changes)


FIXED = (
    "sources",
    "buckets",
    "max_parallelism",
    "parallelism",
    "event_id",
    "outputs",
    "aggregate_key",
    "aggregate_sum",
)
RUN = run(1)
NEWEST = checkpoint(RUN, 7)


def codes(
    snapshot: Snapshot = NEWEST,
    held: Mapping[Place, tuple[int, int]] | None = HELD,
    job: str = "aggregate",
    parallelism: int = 1,
    now: Pipeline | None = None,
) -> set[str]:
    """The codes of all refusals: each has to be accepted, or stays."""
    refused = set()
    for code in (*ACCEPTABLE, *FIXED):
        others = {*ACCEPTABLE, *FIXED} - {code}
        try:
            check_restore(now or pipeline(), job, snapshot, NEWEST, held, parallelism, others)
        except SurecountError as error:
            assert error.exit_code == 1
            refused.add(code)
    return refused


def test_the_newest_is_taken() -> None:
    assert codes() == set()


@pytest.mark.parametrize(
    ("snapshot", "code"),
    [
        (checkpoint(RUN, 6), "not_newest"),
        (checkpoint(run(2), 9), "not_newest"),  # a fork
        (replace(NEWEST, drained=True), "drained"),
        (replace(NEWEST, offsets={("in", 1): 4}), "records_gone"),
        (replace(NEWEST, offsets={("in", 1): 51}), "topic_made_anew"),
        (replace(NEWEST, offsets={("in", 2): 1}), "topic_made_anew"),
        (replace(NEWEST, offsets={("other", 0): 1}), "sources"),
        (replace(NEWEST, max_parallelism=64), "max_parallelism"),
    ],
)
def test_another_is_refused(snapshot: Snapshot, code: str) -> None:
    assert codes(snapshot) == {code}


COMMITTABLE = ("p.results-0-1", 40, 5)
PENDING = replace(NEWEST, committables=(COMMITTABLE,))


def told(state: str, epoch: int, producer_id: int = 40, name: str = COMMITTABLE[0]) -> list[Transaction]:
    return [Transaction(name, state, producer_id, epoch, None, 900_000, ())]


@pytest.mark.parametrize(
    ("transactions", "gone"),
    [
        (told("Ongoing", 5), False),  # to be committed
        (told("CompleteCommit", 6), False),
        (told("CompleteCommit", 5), False),  # by a client that takes no epoch on
        (told("Ongoing", 6), False),  # committed, and used again
        (told("CompleteAbort", 7), False),  # the same, and that one was aborted
        (told("CompleteAbort", 6), True),
        (told("PrepareAbort", 6), True),
        (told("Ongoing", 0, producer_id=41), True),
        (told("Ongoing", 5, name="p.results-0-2"), True),
        ([], True),
    ],
)
def test_transactions_that_are_gone_are_a_loss(transactions: list[Transaction], gone: bool) -> None:
    def check(snapshot: Snapshot, accepted: tuple[str, ...] = ()) -> None:
        check_restore(pipeline(), "aggregate", snapshot, snapshot, HELD, 1, accepted, [RUN], transactions)

    if gone:
        with pytest.raises(SurecountError, match=r"outlived sink\.transaction_timeout: p\.results-0-1"):
            check(PENDING)
    else:
        check(PENDING)
    check(PENDING, ("transactions_gone",))
    check(replace(PENDING, run=replace(RUN, stopped_with=PENDING.path)))


def test_a_run_without_end_does_not_become_one_with_an_end() -> None:
    ending = checkpoint(replace(RUN, bounded=True), 7)
    for snapshot, bounded in ((NEWEST, True), (ending, False)):
        with pytest.raises(SurecountError, match="end"):
            check_restore(pipeline(), "aggregate", snapshot, snapshot, HELD, 1, ACCEPTABLE, bounded=bounded)
    check_restore(pipeline(), "aggregate", ending, ending, HELD, 1, bounded=True)


def test_offsets_that_are_still_held_are_no_loss() -> None:
    assert codes(replace(NEWEST, offsets={("in", 0): 0, ("in", 1): 5})) == set()
    assert codes(replace(NEWEST, offsets={("in", 0): 100, ("in", 1): -2})) == set()


def test_another_topic_of_the_same_name_has_not_the_records_before_the_offset() -> None:
    snapshot = replace(NEWEST, run=replace(RUN, topic_ids={"in": "A"}), offsets={("in", 0): 70, ("in", 1): 0})

    def check(ids: dict[str, str] | None, of: Snapshot = snapshot) -> None:
        check_restore(pipeline(), "aggregate", of, of, {("in", 0): (0, 99), ("in", 1): (0, 9)}, 1, ids=ids)

    with pytest.raises(SurecountError, match=r"what is before offset 70 of partition 0 was(?s:.*)topic_made_anew"):
        check({"in": "B"})
    check({"in": "A"})
    check(None)  # a cluster that is away
    check({"in": "B"}, replace(snapshot, offsets={("in", 0): 0}))
    check({"in": "B"}, replace(snapshot, run=RUN))  # of a version that kept no ids


def test_a_cluster_that_is_away_may_have_deleted_records() -> None:
    assert codes(held=None) == {"unchecked"}


def test_the_missing_records_are_named() -> None:
    with pytest.raises(SurecountError, match=r"in partition 1: offsets 2 to 4 are deleted, 3 that"):
        check_restore(pipeline(), "aggregate", replace(NEWEST, offsets={("in", 1): 2}), NEWEST, HELD, 1)


@pytest.mark.parametrize(
    ("changes", "job", "code"),
    [
        ({"state": {"buckets": 8}}, "aggregate", "buckets"),
        ({"state": {"buckets": 8}}, "ingest", "buckets"),
        ({"state": {"max_parallelism": 64}}, "aggregate", "max_parallelism"),
        ({"source": {**CONTENT["source"], "event_id": "other"}}, "ingest", "event_id"),
        ({"topics": {"results": "elsewhere"}}, "aggregate", "outputs"),
    ],
)
def test_what_the_state_was_made_with_stays(changes: dict[str, Any], job: str, code: str) -> None:
    assert codes(job=job, now=pipeline(**changes)) == {code}


def test_an_aggregate_that_has_ended_does_not_come_back() -> None:
    without = [CONTENT["aggregate"][0]]
    ended = replace(run(2, NEWEST.path), config=config_of(pipeline(aggregate=without)))
    fork = replace(run(3, NEWEST.path), config=config_of(pipeline(aggregate=without)))
    snapshot = checkpoint(ended, 9)
    check_restore(pipeline(aggregate=without), "aggregate", snapshot, snapshot, HELD, 1, (), [RUN, ended])
    with pytest.raises(SurecountError, match="aggregate 'b' was there in run 1, and has ended"):
        check_restore(pipeline(), "aggregate", snapshot, snapshot, HELD, 1, ACCEPTABLE, [RUN, ended])
    # An upgrade that was taken back: what came with it never had state.
    taken_back = replace(run(2, NEWEST.path), config=config_of(pipeline()))
    back = replace(fork, number=3)
    snapshot = checkpoint(back, 9)
    before = replace(RUN, config=config_of(pipeline(aggregate=without)))
    check_restore(pipeline(), "aggregate", snapshot, snapshot, HELD, 1, (), [before, taken_back, back])


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"key": ["k", "l"]}, "key"),
        ({"sum": [{"field": "x", "type": "decimal", "scale": 2}]}, "sum"),
        ({"sum": []}, "sum"),
    ],
)
def test_an_aggregate_keeps_its_key_and_sums(change: dict[str, Any], part: str) -> None:
    changed = pipeline(aggregate=[{**CONTENT["aggregate"][0], **change}, CONTENT["aggregate"][1]])
    with pytest.raises(SurecountError, match=f"aggregate 'a' had {part}"):
        check_restore(changed, "aggregate", NEWEST, NEWEST, HELD, 1, ACCEPTABLE)
    check_restore(changed, "ingest", NEWEST, NEWEST, HELD, 1)


def test_aggregates_come_and_go_and_windows_change() -> None:
    other = {"name": "c", "key": ["z"], "window": "1 h"}
    changed = pipeline(aggregate=[{**CONTENT["aggregate"][0], "window": "5 min"}, other])
    check_restore(changed, "aggregate", NEWEST, NEWEST, HELD, 128)


def test_only_the_outputs_of_the_job_itself_matter() -> None:
    elsewhere = pipeline(topics={"results": "elsewhere"})
    assert codes(job="ingest", now=elsewhere) == set()
    assert codes(job="ingest", now=pipeline(topics={"clean": "elsewhere"})) == {"outputs"}


def test_parallelism_has_a_limit() -> None:
    assert codes(parallelism=129) == {"parallelism"}


def test_the_newest_is_of_the_last_run_or_what_it_began_from() -> None:
    first, second = run(1), run(2, checkpoint(run(1), 4).path)
    made = [checkpoint(first, 3), checkpoint(first, 4), checkpoint(second, 5), checkpoint(second, 12)]
    assert latest([first, second], made) == made[3]
    assert latest([first, second], made[:2]) == made[1]
    assert latest([first, second], [made[0]]) is None
    assert latest([first], made[:2]) == made[1]
    assert latest([], made) is None


def reading(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds_each: float, named: Sequence[str] = ()
) -> list[Snapshot]:
    """What is read, so slowly, of a run that has ended and left ten checkpoints, and of one that makes another one each
    second and keeps three; each is of its second. Those ``named`` are asked for beside them."""
    clock = 100.0
    ended, running = run(1), run(2)

    def kept(seconds: float) -> dict[str, Run]:
        made = [(ended, number) for number in range(10)]
        made += [(running, int(seconds) - age) for age in range(3)]
        return {(tmp_path / of.job_id / f"chk-{number}").as_uri(): of for of, number in made}

    def answer(path: str) -> dict[str, Any]:
        nonlocal clock
        clock += seconds_each
        found = {"path": path, "id": int(path.rpartition("-")[2]), "at_ms": 1, "savepoint": False, "drained": False}
        return found | (
            {"max_parallelism": 128, "offsets": [], "committables": []} if path in kept(clock) else {"error": "gone"}
        )

    @contextmanager
    def reader(environment: dict[str, str]) -> Iterator[Callable[[list[str]], list[dict[str, Any]]]]:
        assert environment == {"A": "B"}
        yield lambda paths: [answer(path) for path in paths]

    monkeypatch.setattr(snapshots, "_reader", reader)
    return snapshots.read(lambda: kept(clock) | dict.fromkeys(named, ended), {"A": "B"})


@pytest.mark.parametrize("seconds_each", [0.01, 0.4, 0.9])
def test_the_newest_are_read_however_long_all_take(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds_each: float
) -> None:
    found = reading(monkeypatch, tmp_path, seconds_each)
    assert [snapshot.id for snapshot in found[:10]] == list(range(10))
    newest = [snapshot.id for snapshot in found[10:]]
    assert newest == list(range(newest[0], newest[0] + 3))
    assert newest[0] >= 98
    assert {snapshot.run.number for snapshot in found[10:]} == {2}


def test_one_that_is_not_there_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    missing = (tmp_path / "elsewhere" / "chk-1").as_uri()
    assert missing not in [snapshot.path for snapshot in reading(monkeypatch, tmp_path, 0.01, [missing])]


def test_that_none_could_be_read_in_time_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SurecountError, match="removed before they could be read"):
        reading(monkeypatch, tmp_path, 4)


def test_who_made_a_snapshot_is_in_its_name() -> None:
    runs = [run(1), run(2)]
    assert maker(f"file:///elsewhere/{runs[1].job_id}/chk-4", runs) == runs[1]
    assert maker("file:///elsewhere/savepoint-000001-abcdef", runs) == runs[0]
    with pytest.raises(SurecountError, match="knows no run"):
        maker("file:///elsewhere/savepoint-000003-abcdef", runs)


def test_a_partition_without_a_record_yet_stands_where_its_run_began() -> None:
    began = replace(RUN, offsets=(("in", 0, 30), ("in", 1, 40)))
    found = [("in", 0, -3), ("in", 1, 55), ("in", 2, -3), ("in", 3, -2)]
    assert standing(found, began) == {("in", 0): 30, ("in", 1): 55, ("in", 2): -3, ("in", 3): -2}


def test_a_savepoint_that_was_brought_here_reads_on_where_the_ledger_says_whoever_starts_it() -> None:
    brought = replace(RUN, moved=Moved("savepoint-000001-x", (("in", 0, 7),)))
    snapshot = checkpoint(brought, 7, path="file:///there/savepoint-000001-x", committables=(("p", 1, 1),))
    died_at_once = replace(run(2, snapshot.path), generation=1)
    for runs in ([brought], [brought, died_at_once]):
        moved = as_moved(snapshot, runs)
        assert (moved.offsets, moved.committables, moved.moved, moved.generation) == ({("in", 0): 7}, (), True, 1)
    its_own = replace(checkpoint(died_at_once, 8), generation=1)
    assert as_moved(its_own, [brought, died_at_once]) == its_own
    for old in (checkpoint(brought, 6), checkpoint(RUN, 6)):
        with pytest.raises(SurecountError, match="before the topics were brought back"):
            as_moved(old, [brought, died_at_once])


@pytest.mark.parametrize(
    ("committed", "last", "newest", "refused"),
    [
        ({("in", 0): 70, ("in", 1): 49}, RUN, NEWEST, False),
        ({("in", 0): 71}, RUN, NEWEST, True),
        ({("elsewhere", 0): 71}, RUN, NEWEST, False),
        # Nothing was read of it yet, and Flink's marker says no more.
        ({("in", 0): 71}, RUN, replace(NEWEST, offsets={("in", 0): -2}), False),
        # What an earlier run of ours had come to.
        ({("in", 0): 71}, replace(RUN, accepted=("not_newest",)), NEWEST, False),
        # What was brought back with the brokers' disks.
        ({("in", 0): 71}, RUN, replace(NEWEST, generation=1), False),
        ({("in", 0): 71}, RUN, replace(NEWEST, moved=True), False),
    ],
)
def test_a_group_that_is_ahead_of_all_runs_is_anothers(
    committed: dict[Place, int], last: Run, newest: Snapshot, refused: bool
) -> None:
    def check(accepted: tuple[str, ...] = ()) -> None:
        snapshot = replace(newest, run=last)
        check_restore(pipeline(), "aggregate", snapshot, snapshot, HELD, 1, accepted, [last], committed=committed)

    check(("namesake",))
    if not refused:
        check()
        return
    with pytest.raises(SurecountError, match=r"in partition 0: 71, for 70 in file:///checkpoints") as refusal:
        check()
    assert "--accept namesake" in str(refusal.value)


def test_a_first_start_is_refused_where_kafka_knows_the_name() -> None:
    def found(committed: dict[Place, int], *ids: str) -> str:
        known = [Transaction(name, "Empty", 1, 1, None, 900_000, ()) for name in ids]
        return "\n".join(map(str, unknown_to_ledger(pipeline(), "aggregate", committed, known)))

    assert found({}, "surecount.shop.ingest.clean-0", "surecount.shops.aggregate.results-0", "reports") == ""
    assert "transactional ids surecount.shop.aggregate.results-0" in found({}, "surecount.shop.aggregate.results-0")
    many = found({("in", n): n for n in range(5)})
    assert "group surecount.shop.aggregate has committed offset 0 of in partition 0" in many
    assert "and 2 more" in many


def test_a_run_that_flink_refused_one_command_and_took_from_another_counts(tmp_path: Path) -> None:
    folders = snapshots.Folders(Folder((tmp_path / "s").as_uri()), Folder((tmp_path / "c").as_uri()))
    runs = [run(1), replace(run(2), refused="no slots"), replace(run(3), refused="no slots")]
    assert folders.begun(runs) == runs[:1]
    checkpoint = tmp_path / "c" / runs[1].job_id / "chk-1"
    checkpoint.mkdir(parents=True)
    (checkpoint / "_metadata").touch()
    assert folders.begun(runs) == runs[:2]


@pytest.mark.parametrize(
    ("topic", "held", "refused"),
    [
        ("shop.clean", (72, 72), False),  # the markers of the last transactions
        ("shop.clean", (72, 73), True),
        ("shop.clean", (100, 100), True),
        ("in", (71, 71), True),
    ],
)
def test_what_is_deleted_behind_what_was_read_may_be_markers(topic: str, held: tuple[int, int], refused: bool) -> None:
    snapshot = replace(NEWEST, offsets={(topic, 0): 70})
    assert ("records_gone" in codes(snapshot, {(topic, 0): held})) == refused


@pytest.mark.parametrize(
    ("begins", "low", "refused"),
    [
        ((("in", 0, 5),), 5, False),
        ((("in", 0, 5),), 9, True),  # 5 to 8 came and went while the job was away
        ((("in", 1, 0),), 0, False),  # the partition came after the run had begun
        ((("in", 1, 0),), 9, True),
        ((), 9, False),  # a ledger of an earlier version does not tell
    ],
)
def test_what_is_deleted_of_a_partition_of_which_nothing_was_read(
    begins: tuple[tuple[str, int, int], ...], low: int, refused: bool
) -> None:
    snapshot = replace(NEWEST, offsets={("in", 0): EARLIEST}, run=replace(NEWEST.run, begins=begins))
    assert ("records_gone" in codes(snapshot, {("in", 0): (low, 100)})) == refused
