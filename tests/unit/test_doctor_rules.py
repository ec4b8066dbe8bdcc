"""What the doctor makes of facts: each check with both verdicts, and what it could not see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from surecount import __version__, config
from surecount.config import Pipeline
from surecount.doctor.ask_flink import _java_of
from surecount.doctor.checks import CHECKS
from surecount.doctor.facts import (
    NOT_ASKED,
    Copies,
    Facts,
    Flow,
    Installed,
    JobFacts,
    KafkaFacts,
    Lacking,
    Offsets,
    Slots,
    Split,
    Unseen,
    Versions,
)
from surecount.doctor.findings import Row, examine
from surecount.doctor.flink_rules import PACKS_JAR
from surecount.doctor.job_rules import judged
from surecount.doctor.reading_rules import prefix_of, prefixes_apart
from surecount.kafka.rights import needed
from surecount.local.layout import PROJECT
from surecount.ops.ledger import Lost, Run, config_of
from surecount.ops.transactions import Transaction
from surecount.topic_rules import Topic

NOW = 1_800_000_000_000
INTERNAL = ("__transaction_state", "__consumer_offsets")
SETTINGS = {
    "execution.checkpointing.dir": "file:///c",
    "execution.checkpointing.savepoint-dir": "file:///s",
    "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
    "execution.checkpointing.tolerable-failed-checkpoints": "3",
    "state.backend.type": "rocksdb",
}


def pipeline(**changes: Any) -> Pipeline:
    content = {
        "name": "shop",
        "source": {"topics": ["in"], "event_time": "kafka"},
        "aggregate": [{"name": "a", "key": ["k"], "window": "1 min"}],
        **changes,
    }
    return config.parse(content, "test")


SHOP = pipeline()
WEST = {"name": "west", "topics": ["raw"], "bootstrap_servers": "west:9092"}
RELAYED = pipeline(source={"pathway": [{"name": "east", "topics": ["in"]}, WEST]})


def topic(name: str, replicas: int = 1, **settings: str) -> Topic:
    stamp = "LogAppendTime" if name in SHOP.topics.all else "CreateTime"
    given = {key.replace("_", "."): value for key, value in settings.items()}
    size = {"max.message.bytes": str(65 << 20)} if name in SHOP.topics.all else {}
    of_kafka_4 = {"message.timestamp.after.max.ms": "3600000"}
    return Topic(name, 2, replicas, {"message.timestamp.type": stamp, **of_kafka_4, **size, **given})


NAMES = ("in", *SHOP.topics.all, *INTERNAL)
KAFKA = KafkaFacts(
    address="localhost:9092",
    brokers=1,
    topics={name: topic(name) for name in NAMES},
    copies={(name, number): Copies(True, 1, 1) for name in NAMES for number in (0, 1)},
    settings={1: {"transaction.max.timeout.ms": "900000", "socket.request.max.bytes": "104857600"}},
    offsets={("in", 0): Offsets(0, 100, 100, 50), ("in", 1): Offsets(0, 9, 9)},
    transactions=(),
    features={"metadata.version": 29, "transaction.version": 2},
)
RUN = Run(
    *(1, "1" * 32, NOW, None, 1, False, config_of(SHOP), "", "", {"surecount": __version__}, "p"),
    topic_ids={"in": "i1"},
    output_ids={"shop.results": "r1"},
)
IDS = {"in": "i1", "shop.results": "r1", "shop.corrections": "c1"}
FLOW = Flow(
    watermark_ms=NOW - 6_000,
    splits={"in partition 0": Split(NOW - 6_000, idle=False), "in partition 1": Split(None, idle=True)},
    rate=20,
    newest_ms=NOW - 60_000,
    moved_ms=NOW - 500,
    recent={"records": 6_000, "rejected_not_json": 60},
    before={"records": 400_000, "rejected_not_json": 4_000},
)
LOST = Lost(1, RUN.job_id, 0, {"results": 1, "rejects": 0}, NOW - 60_000)
JOB = JobFacts("shop.aggregate", RUN.job_id, "RUNNING", NOW - 60_000, 10_000, 300_000, completed_ms=NOW - 5_000)
CONNECTORS = ("flink-sql-connector-kafka-5.0.0-2.2.jar", PACKS_JAR, "zstd-jni-1.5.6-10.jar", "flink-python-2.3.0.jar")
HERE = Installed("2.3.0", CONNECTORS, 17, ("log4j-core-2.25.4.jar",))
PACKAGES = {"python": "3.11.7", "apache-flink": "2.3.0", "pyarrow": "16.1.0", "numpy": "2.1.3"}
WORKERS = frozenset((name, version.replace(".", "_")) for name, version in PACKAGES.items())
FACTS = Facts(
    pipeline=SHOP,
    now_ms=NOW,
    kafka=KAFKA,
    settings=SETTINGS,
    slots=Slots(1, {}),
    runs={"aggregate": (RUN,)},
    jobs={"aggregate": replace(JOB, workers=WORKERS, flow=FLOW, lost=())},
    committed={"aggregate": {("in", 0): 60, ("in", 1): 9}},
    versions=Versions(HERE, PACKAGES, HERE, {"TaskManager t": HERE}),
    topic_ids={"aggregate": IDS},
    lacking=None,
)
THREE = replace(
    KAFKA,
    brokers=3,
    topics={name: topic(name, 3, min_insync_replicas="2") for name in NAMES},
    copies=dict.fromkeys(KAFKA.copies, Copies(True, 3, 3)),
)


def kafka(base: KafkaFacts = KAFKA, **changes: Any) -> dict[str, Any]:
    return {"kafka": replace(base, **changes)}


def changed(topics: Mapping[str, Topic], *others: Topic) -> dict[str, Topic]:
    return {**topics, **{other.name: other for other in others}}


def settings(**changes: str) -> dict[str, Any]:
    return {"settings": {**SETTINGS, **{k.replace("__", "-").replace("_", "."): v for k, v in changes.items()}}}


def job(**changes: Any) -> dict[str, Any]:
    return {"jobs": {"aggregate": replace(JOB, **changes)}}


def transaction(name: str, age_ms: int, *, on: str = "in") -> Transaction:
    return Transaction(name, "Ongoing", 7, 3, NOW - age_ms, 900_000, ((on, 0),))


def held(*found: Transaction) -> dict[str, Any]:
    return kafka(offsets={("in", 0): Offsets(0, 100, 88)}, transactions=found)


OWN = "surecount.shop.aggregate.results-0-1"
NOT_RUNNING = {"jobs": {"aggregate": None}}
OLD = Installed("2.2.0", ("flink-sql-connector-kafka-4.0.0-2.0.jar", PACKS_JAR), 11)
OTHER_PACKS = replace(HERE, connectors=("surecount-packs-1.jar",))
WITHOUT_ZSTD = replace(HERE, connectors=(*CONNECTORS[:2], CONNECTORS[3]))
WITHOUT_PYTHON = replace(HERE, connectors=CONNECTORS[:3])
OLD_LOG4J = replace(HERE, loggers=("log4j-core-2.25.3.jar", *HERE.loggers))


def with_pipeline(**changes: Any) -> dict[str, Any]:
    return {"pipeline": pipeline(**changes)}


def row(check: str, changes: Mapping[str, Any]) -> Row:
    (found,) = examine([known for known in CHECKS if known.id == check], replace(FACTS, **changes))
    return found


def test_a_healthy_pipeline_is_found_so_by_every_check() -> None:
    assert {row.check.id: row.state for row in examine(CHECKS, FACTS)} == {check.id: "ok" for check in CHECKS}


# fmt: off
SICK: list[tuple[str, str, dict[str, Any], str]] = [
    ("transaction_max_timeout", "fail", with_pipeline(sink={"transaction_timeout": "1 h"}), "broker 1 allows 15 min"),
    (
        *("rights", "fail", {"lacking": (Lacking(needed(SHOP, ["jobs"])[0], ("Read",)),)}),
        "User:ANONYMOUS lacks Read on topic in at localhost:9092: shop.aggregate reads it",
    ),
    (
        *("request_size", "warn", kafka(settings={1: {"socket.request.max.bytes": "1048576"}})),
        "requests of up to 1048576 bytes: one may need 67239936",
    ),
    ("outage", "fail", with_pipeline(checkpoint={"timeout": "15 min"}), "no outage is survived"),
    ("outage", "warn", with_pipeline(checkpoint={"timeout": "12 min"}), "an outage of 2 min is survived"),
    ("replication", "warn", kafka(THREE, topics=changed(THREE.topics, topic("in", 1))), "in has replication factor 1"),
    ("replication", "fail", kafka(THREE, topics=changed(THREE.topics, topic(INTERNAL[0], 1))), INTERNAL[0]),
    ("replication", "warn", kafka(THREE, topics=changed(THREE.topics, topic("in", 2, min_insync_replicas="2"))),
     "writing stops while one is away"),
    ("replication", "fail",
     kafka(THREE, topics={n: t for n, t in THREE.topics.items() if n != INTERNAL[0]}, settings={
         1: {"transaction.state.log.replication.factor": "1", "transaction.state.log.min.isr": "1"}}),
     "__transaction_state has replication factor 1"),
    ("in_sync", "fail", kafka(copies={("in", 1): Copies(False, 1, 1)}), "no leader of in 1"),
    ("in_sync", "fail", kafka(THREE, copies={("in", 1): Copies(True, 3, 1)}), "too few copies"),
    ("in_sync", "warn", kafka(THREE, copies={("in", 1): Copies(True, 3, 2)}), "missing or behind of in 1"),
    ("outputs", "fail", kafka(topics=changed(KAFKA.topics, topic("shop.results", message_timestamp_type="CreateTime"))),
     "topic 'shop.results' has message.timestamp.type=CreateTime"),
    ("raw_topics", "fail", kafka(topics={}), "in at localhost:9092 does not exist"),
    ("raw_topics", "fail", kafka(topics=changed(KAFKA.topics, topic("in", cleanup_policy="compact"))), "compact"),
    ("raw_topics", "warn",
     {**kafka(topics=changed(KAFKA.topics, topic("in", cleanup_policy="delete,compact"))),
      "accepted": frozenset({"compacted_source"})}, "which was accepted"),
    ("raw_topics", "warn",
     {**kafka(topics=changed(KAFKA.topics, topic("in", cleanup_policy="compact"))),
      "runs": {"aggregate": (replace(RUN, accepted=("compacted_source",)), replace(RUN, number=2))}}, "was accepted"),
    ("timestamp_limit", "warn",
     kafka(topics=changed(KAFKA.topics, topic("in", message_timestamp_after_max_ms=str((1 << 63) - 1)))),
     "in takes timestamps from any time in the future"),
    ("timestamp_limit", "warn", kafka(topics=changed(KAFKA.topics, Topic("in", 2, 1, {}))), "any time in the future"),
    ("timestamp_limit", "warn",
     kafka(topics=changed(KAFKA.topics, topic("in", message_timestamp_after_max_ms="172800000"))), "up to 2 d"),
    ("timestamp_limit", "warn",
     kafka(topics=changed(KAFKA.topics, topic("in", message_timestamp_after_max_ms="36000000"))), "up to 10 h"),
    ("raw_topics", "warn", kafka(topics=changed(KAFKA.topics, topic("in", message_timestamp_type="LogAppendTime"))),
     "when it arrived"),
    ("unread_records", "fail", kafka(offsets={("in", 0): Offsets(80, 100, 100)}), "offsets 60 to 79 were deleted"),
    ("unread_records", "warn", {"committed": {"aggregate": {("in", 0): 30}}}, "20 unread records"),
    ("same_topics", "fail", {"topic_ids": {"aggregate": {**IDS, "in": "i2"}}},
     "in was deleted and made anew under the job: what it held then is gone"),
    ("same_topics", "fail", {"topic_ids": {"aggregate": {**IDS, "shop.results": "r2"}}},
     "shop.results was deleted and made anew under the job: what the job had written to it is gone"),
    ("same_topics", "fail", {"topic_ids": {"aggregate": {"in": "i1"}}}, "shop.results is gone"),
    ("last_stable_offset", "warn", held(transaction("till-4", 40_000)),
     "in: 12 records in 1 partition(s) wait for till-4 (open for 40 s of 15 min, producer 7, epoch 3)"),
    ("last_stable_offset", "warn", kafka(offsets={("in", 0): Offsets(0, 100, 88)}, transactions=Unseen("no right")),
     "could not be listed: no right"),
    ("open_transactions", "warn", held(transaction("till-4", 40_000)), "till: 1 open on in, the oldest is till-4"),
    ("open_transactions", "warn", {**held(transaction(OWN, 5_000)), **NOT_RUNNING}, "job aggregate does not run"),
    ("open_transactions", "fail", held(transaction(OWN, 500_000)), "the broker aborts it in 6 min"),
    ("open_transactions", "warn", held(transaction(OWN, 40_000)), "surecount.shop.aggregate.results: 1 open"),
    ("snapshot_folders", "fail", settings(execution_checkpointing_savepoint__dir=""), "savepoint-dir is not set"),
    ("checkpoint_retention", "fail", {"settings": {}}, "NO_EXTERNALIZED_CHECKPOINTS"),
    ("checkpoint_retention", "warn", settings(
        execution_checkpointing_externalized__checkpoint__retention="DELETE_ON_CANCELLATION"), "DELETE_ON"),
    ("checkpoint_mode", "fail", settings(execution_checkpointing_mode="AT_LEAST_ONCE"), "AT_LEAST_ONCE"),
    ("tolerable_failures", "warn", {"settings": {}}, "is 0"),
    ("state_backend", "warn", {"settings": {}}, "hashmap"),
    ("restart_strategy", "fail", {"settings": {"restart-strategy.type": "none"}}, "is none"),
    ("python_mode", "warn", {"settings": {"python.execution-mode": "thread"}}, "is thread"),
    ("slots", "warn", {"slots": Slots(1, {"ingest": 1, "aggregate": 1})}, "1 slot(s) are free, 2 needed by ingest"),
    ("parallelism", "warn", {"runs": {"aggregate": (replace(RUN, parallelism=3),)}}, "parallelism 3, and 2 partitions"),
    ("idle_partitions", "warn", {
        **with_pipeline(source={"topics": ["in"], "idle_after": "10 min"}),
        **kafka(offsets={("in", 0): Offsets(5, 5, 5), ("in", 1): Offsets(0, 9, 9)})}, "1 of 2 partitions are empty"),
    ("running", "fail", NOT_RUNNING, f"run 1 ({RUN.job_id}) was not stopped"),
    ("running", "fail", job(beside=("b" * 32,)), "aggregate runs 2 times, as jobs "),
    ("running", "warn", job(state="RESTARTING", cause="it broke"), "aggregate is RESTARTING: it broke"),
    ("restarts", "fail", job(restarts=2, restarted_ms=NOW - 90_000, cause="it broke"), "2 time(s), the last 90 s ago"),
    ("checkpoints", "fail", job(failed_in_a_row=2, failed_why="slow"), "the last 2 checkpoint(s) failed: slow"),
    ("checkpoints", "fail", job(interval_ms=None, timeout_ms=None), "makes no checkpoints"),
    ("failed_commits", "fail", job(failed_commits={"results": 1, "rejects": 0}),
     "commits failed since its last restart: 1 of results"),
    ("failed_commits", "fail", job(lost=(LOST,)), "shop.aggregate: commits failed: 1 of results in run 1, seen 2027-"),
    ("failed_commits", "fail", {**NOT_RUNNING, "lost": {"aggregate": (LOST,)}}, "1 of results in run 1"),
    ("watermarks", "fail", job(flow=replace(FLOW, watermark_ms=NOW + 2 * 31_536_000_000)), "730 d in the future"),
    ("shares", "fail", job(flow=replace(FLOW, recent={"records": 100, "rejected_not_json": 60})),
     "60 of the last 100 records were rejected, most of them as not_json"),
    ("flink_versions", "fail", {"versions": Versions(HERE, PACKAGES, HERE, {"TaskManager t": OLD})},
     "Flink of TaskManager t is 2.2.0, and here it is 2.3.0"),
    ("connector_versions", "fail", {"versions": Versions(HERE, PACKAGES, OLD, {})},
     f"4.0.0-2.0.jar, {PACKS_JAR}, and here"),
    ("connector_versions", "fail", {"versions": Versions(OTHER_PACKS, PACKAGES, OTHER_PACKS, {})},
     f"this code reads the packs of {PACKS_JAR}, and in the lib folder here is surecount-packs-1.jar"),
    ("java_versions", "fail", {"versions": Versions(HERE, PACKAGES, HERE, {"TaskManager t": OLD})},
     "TaskManager t runs on Java 11"),
    ("broker_versions", "warn", kafka(features={"metadata.version": 21}), "transaction.version 0: before 2 a delayed"),
    (
        *("jars", "fail", {"versions": Versions(HERE, PACKAGES, HERE, {"TaskManager t": WITHOUT_ZSTD})}),
        "TaskManager t has no jar zstd-jni-*: the first record that is compressed with zstd would restart the job",
    ),
    ("jars", "fail", {"versions": Versions(HERE, PACKAGES, OLD, {})}, "no jar zstd-jni-*"),
    (
        *("jars", "fail", {"versions": Versions(HERE, PACKAGES, WITHOUT_PYTHON, {})}),
        "the JobManager has no jar flink-python-*",
    ),
    (
        *("logging_versions", "warn", {"versions": Versions(HERE, PACKAGES, HERE, {"TaskManager t": OLD_LOG4J})}),
        "log4j of TaskManager t is log4j-core-2.25.3.jar, log4j-core-2.25.4.jar, and here it is log4j-core-2.25.4.jar",
    ),
    ("worker_versions", "fail", job(workers=WORKERS - {("numpy", "2_1_3")} | {("numpy", "1_26")}), "numpy 1_26"),
    ("run_versions", "warn", {"runs": {"aggregate": (replace(RUN, versions={"surecount": "0.0.9"}),)}}, "0.0.9"),
    ("run_versions", "warn", job(id="2" * 32), "the ledger does not know job 222"),
]
# fmt: on


@pytest.mark.parametrize(("check", "state", "changes", "said"), SICK, ids=[f"{c}-{s}" for c, s, _, _ in SICK])
def test_a_check_finds_what_is_wrong_and_says_what_it_saw(
    check: str, state: str, changes: dict[str, Any], said: str
) -> None:
    found = row(check, changes)
    assert found.state == state, found
    assert any(said in finding.seen for finding in found.telling if finding.state == state), found.telling
    assert found.mends


def test_every_check_can_find_something_wrong() -> None:
    never = {"transactional_ids"}
    assert {check for check, *_ in SICK} | never == {check.id for check in CHECKS}


def test_prefixes_that_begin_with_one_another_are_found() -> None:
    (found,) = prefixes_apart(["a.b", "a.c", "a.b.c"])
    assert (found.state, found.seen.partition(":")[0]) == ("fail", "a.b.c begins with a.b")
    assert [found.state for found in prefixes_apart(["a.b", "a.c"])] == ["ok"]


@pytest.mark.parametrize("changes", [held(transaction("till-4", 5_000)), held(transaction(OWN, 5_000)), held()])
def test_what_holds_readers_back_for_a_moment_is_named_and_no_fault(changes: dict[str, Any]) -> None:
    found = row("last_stable_offset", changes)
    assert found.state == "ok"
    assert "12 records" in found.telling[0].seen


def test_others_transactions_elsewhere_are_not_told() -> None:
    assert row("open_transactions", held(transaction("till-4", 40_000, on="elsewhere"))).state == "ok"


def test_a_transactional_id_is_told_by_its_prefix() -> None:
    assert prefix_of("surecount.shop.aggregate.results-0-12") == "surecount.shop.aggregate.results"
    assert prefix_of("till") == "till"


def test_what_was_not_seen_is_unknown_and_says_why() -> None:
    away = Unseen("no broker answers")
    rows = examine(CHECKS, Facts(SHOP, NOW, kafka=away, settings=away, slots=away, runs=away, jobs=away, versions=away))
    states = {row.check.id: row.state for row in rows}
    assert states == {check.id: "unknown" for check in CHECKS} | {"outage": "ok", "transactional_ids": "ok"}
    assert all("no broker answers" in f.seen or f.seen.endswith(NOT_ASKED.why) for r in rows for f in r.findings
               if r.state == "unknown")  # fmt: skip


def test_a_remote_cluster_that_is_away_leaves_the_others_to_be_looked_at() -> None:
    found = row("in_sync", {"pipeline": RELAYED, "remote": {"west": Unseen("no broker answers")}})
    assert [finding.state for finding in found.findings] == ["ok", "unknown"]
    assert "pathway west: no broker answers" in found.telling[0].seen


def test_a_right_that_is_missing_is_said_of_whom_on_what_and_what_for() -> None:
    found = row("rights", {"lacking": (Lacking(needed(SHOP, ["operator"])[0], ("DescribeConfigs",)),)})
    assert found.state == "warn"
    assert found.telling[0].seen == (
        "User:ANONYMOUS lacks DescribeConfigs on topic in at localhost:9092: audit recounts it, doctor checks it; "
        "`rejects replay` sends to it"
    )
    assert found.mends == [
        "kafka-acls.sh --bootstrap-server localhost:9092 --command-config admin.properties --add "
        "--allow-principal User:ANONYMOUS --operation DescribeConfigs --topic in"
    ]
    assert row("rights", {"lacking": ()}).state == row("rights", {"lacking": None}).state == "ok"


def test_nothing_waits_for_an_empty_replay_topic() -> None:
    source = {"pathway": [{"name": "east", "topics": ["in"]}], "idle_after": "10 min"}
    there = {(name, 0): Copies(True, 1, 1) for name in ("in", "shop.clean", "shop.replay")}
    read = {("in", 0): Offsets(0, 9, 9), ("shop.clean", 0): Offsets(0, 9, 9), ("shop.replay", 0): Offsets(0, 0, 0)}
    found = row("idle_partitions", {**with_pipeline(source=source), **kafka(copies=there, offsets=read)})
    assert [finding.seen for finding in found.findings] == [
        "ingest: 0 of 1 partitions are empty",
        "aggregate: 0 of 1 partitions are empty",
    ]
    assert found.state == "ok"


def test_workers_that_have_not_told_and_brokers_without_the_right_are_unknown() -> None:
    for check in ("watermarks", "shares"):
        assert row(check, job(flow=Flow())).state == "unknown"
        assert row(check, job(flow=Unseen("no metrics of now"))).state == "unknown"
    assert row("worker_versions", job(workers=frozenset())).state == "unknown"
    assert row("transaction_max_timeout", kafka(settings=Unseen("not authorized"))).state == "unknown"
    assert row("broker_versions", kafka(features=Unseen("not authorized"))).state == "unknown"
    assert row("same_topics", {"topic_ids": {"aggregate": Unseen("not authorized")}}).state == "unknown"
    assert row("same_topics", job(id="2" * 32)).state == "ok"  # the ledger does not know it
    unread = Versions(HERE, PACKAGES, HERE, {"TaskManager t": Unseen("rolled")})
    assert row("flink_versions", {"versions": unread}).state == "unknown"


@pytest.mark.parametrize(
    ("changes", "states"),
    [
        ({}, ["ok", "ok", "ok"]),
        # A restart long ago, with checkpoints since: shown, no alarm.
        ({"restarts": 1, "restarted_ms": NOW - 700_000}, ["warn", "ok", "ok"]),
        ({"restarts": 1, "restarted_ms": NOW - 500_000}, ["fail", "ok", "ok"]),
        ({"restarts": 1, "restarted_ms": NOW - 700_000, "completed_ms": NOW - 800_000}, ["fail", "fail", "ok"]),
        ({"failed_lately": 3}, ["ok", "ok", "ok"]),
        ({"failed_in_a_row": 1, "failed_lately": 3}, ["ok", "fail", "ok"]),
        ({"completed_ms": NOW - 41_000}, ["ok", "warn", "ok"]),
        ({"completed_ms": NOW - 311_000, "started_ms": 0}, ["ok", "fail", "ok"]),
        ({"completed_ms": None}, ["ok", "warn", "ok"]),
        ({"completed_ms": None, "started_ms": NOW - 1_000}, ["ok", "ok", "ok"]),
        ({"interval_ms": None}, ["ok", "ok"]),  # not one of ours
        ({"failed_commits": {"results": 1}}, ["ok", "ok", "fail"]),
    ],
)
def test_what_status_makes_of_a_job(changes: dict[str, Any], states: list[str]) -> None:
    found = replace(JOB, **{"started_ms": NOW - 900_000, **changes})
    if changes.get("completed_ms", 0) is None:
        found = replace(found, started_ms=changes.get("started_ms", NOW - 60_000))
    assert [finding.state for finding in judged(found, NOW)] == states


@pytest.mark.parametrize(
    ("jvm", "java"),
    [
        ("OpenJDK 64-Bit Server VM - Debian - 17/17.0.15+6-Debian-1deb12u1", 17),
        ("Java HotSpot(TM) 64-Bit Server VM - Oracle Corporation - 1.8/25.392-b08", 1),
        ("", None),
    ],
)
def test_java_is_read_from_what_flink_says_of_a_jvm(jvm: str, java: int | None) -> None:
    assert _java_of(jvm) == java


@pytest.mark.parametrize(("low", "high", "state"), [(102, 102, "ok"), (102, 103, "fail"), (200, 200, "fail")])
def test_markers_of_our_own_transactions_are_not_unread_records(low: int, high: int, state: str) -> None:
    """The clean topic was read to offset 100, and then all of it was deleted."""
    facts = replace(
        FACTS,
        pipeline=RELAYED,
        kafka=replace(KAFKA, offsets={("shop.clean", 0): Offsets(low, high, high)}),
        remote={"west": replace(KAFKA, offsets={})},
        committed={"relay.west": {}, "ingest": {}, "aggregate": {("shop.clean", 0): 100}},
    )
    (found,) = examine([check for check in CHECKS if check.id == "unread_records"], facts)
    assert found.state == state


def test_the_docs_list_every_check() -> None:
    listed = [line for line in (PROJECT / "docs" / "doctor.md").read_text().splitlines() if line.startswith("| `")]
    assert listed == [
        f"| `{c.id}` | {c.looks_at} | {c.why} | {c.mend} | {'yes' if c.before_start else ''} |" for c in CHECKS
    ]
