"""Which topics are created how, and which existing ones are refused. No broker is needed."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from surecount import config
from surecount.errors import SurecountError
from surecount.topic_rules import Cluster, Topic, check_names, check_outputs, wanted_outputs, wanted_raw
from surecount.topics import client_config, log

RAW = ["shop.orders", "shop.returns"]


def pipeline(*, kafka: dict[str, Any] | None = None, **source: Any) -> config.Pipeline:
    data = {
        "name": "shop",
        "kafka": kafka or {},
        "source": {"topics": ["shop.orders", "shop.returns"], "event_time": {"field": "ts"}, **source},
        "aggregate": [{"name": "a", "key": ["customer"], "window": "1 min"}],
    }
    return config.parse(data, "test")


def cluster(*topics: Topic, brokers: int = 1) -> Cluster:
    return Cluster(brokers, frozenset(t.name for t in topics), {t.name: t for t in topics})


def topic(name: str, partitions: int = 1, **settings: str) -> Topic:
    return Topic(name, partitions, 1, {name.replace("_", "."): value for name, value in settings.items()})


def large(name: str, **settings: str) -> Topic:
    """A topic that takes every record by its size."""
    return topic(name, max_message_bytes="67174400", **settings)


@pytest.mark.parametrize(("brokers", "replicas", "in_sync"), [(1, 1, "1"), (2, 1, "1"), (3, 3, "2"), (5, 3, "2")])
def test_replicas_fit_the_brokers(brokers: int, replicas: int, in_sync: str) -> None:
    shop = pipeline()
    wanted = [*wanted_outputs(shop, cluster(brokers=brokers), []), *wanted_raw(shop, RAW, 4, brokers)]
    assert {(t.replicas, t.config["min.insync.replicas"]) for t in wanted} == {(replicas, in_sync)}


def test_results_of_large_keys_and_of_a_users_function_may_be_as_large_as_any_record() -> None:
    own = wanted_outputs(pipeline(decode="udfs.mine:decode"), cluster(), [])
    assert {t.max_message_bytes for t in own} == {(64 << 20) + (64 << 10)}
    results = wanted_outputs(pipeline(max_value="31 MiB"), cluster(), [])[0]
    assert results.max_message_bytes == (62 << 20) + (64 << 10)


def test_outputs_follow_their_sources() -> None:
    orders = topic("shop.orders", 3, max_message_bytes="8388608")
    wanted = wanted_outputs(pipeline(), cluster(), [orders, topic("shop.returns", 5)])
    assert [t.name for t in wanted] == ["shop.results", "shop.corrections", "shop.rejects"]
    assert {t.partitions for t in wanted} == {5}
    assert {t.timestamp_type for t in wanted} == {"LogAppendTime"}
    assert {t.config["cleanup.policy"] for t in wanted} == {"delete"}
    # Whatever the source's limit, which is on compressed batches.
    assert wanted[2].max_message_bytes == (64 << 20) + (64 << 10)
    # Twice the largest value that counts: a result holds its key twice.
    assert wanted[0].max_message_bytes == wanted[1].max_message_bytes == 2 * (1 << 20) + (64 << 10)


def test_outputs_of_sources_that_do_not_exist_yet() -> None:
    wanted = wanted_outputs(pipeline(), cluster(), [])
    assert {t.partitions for t in wanted} == {1}
    assert wanted[2].max_message_bytes == (64 << 20) + (64 << 10)


def test_sources_keep_event_times_and_old_events() -> None:
    by_field, by_kafka = wanted_raw(pipeline(), RAW, 4, 1), wanted_raw(pipeline(event_time="kafka"), RAW, 4, 1)
    assert [t.name for t in by_field] == ["shop.orders", "shop.returns"]
    assert {t.timestamp_type for t in (*by_field, *by_kafka)} == {"CreateTime"}
    assert {t.max_message_bytes for t in by_field} == {8 << 20}
    assert {t.partitions for t in by_field} == {4}
    assert {t.config.get("retention.ms") for t in by_field} == {None}
    assert {t.config.get("retention.ms") for t in by_kafka} == {"-1"}


INGEST = {
    "topics": [],
    "pathway": [
        {"name": "east", "topics": ["shop.orders"]},
        {"name": "west", "topics": ["shop.orders"], "bootstrap_servers": "west:9092"},
    ],
}


def test_copies_of_records_are_kept_as_long_as_the_records_and_keep_their_times() -> None:
    raw = [topic("shop.orders", 3, retention_ms="1000"), topic("shop.orders", 2, retention_ms="5000")]
    wanted = {t.name: t for t in wanted_outputs(pipeline(**INGEST), cluster(), raw)}
    copies = ["shop.pathway.west", "shop.clean", "shop.replay"]
    assert list(wanted) == [*copies, "shop.results", "shop.corrections", "shop.rejects"]
    # Records are sent again when their times may long be past retention, and are what tells that they were.
    replay = wanted["shop.replay"]
    assert (replay.timestamp_type, replay.retention_ms, replay.partitions) == ("LogAppendTime", -1, 3)
    short = replace(replay, config={**replay.config, "retention.ms": "5000"})
    with pytest.raises(SurecountError, match=r"'shop.replay' has retention.ms=5000, and must have -1: it tells"):
        check_outputs(pipeline(**INGEST), cluster(short), raw)
    assert replay.max_message_bytes == wanted["shop.rejects"].max_message_bytes
    for name in ("shop.pathway.west", "shop.clean"):
        assert wanted[name].timestamp_type == "CreateTime"
        assert wanted[name].retention_ms == 5000
        assert wanted[name].partitions == 3
        # By default a broker refuses what is over an hour ahead of its clock.
        assert int(wanted[name].config["message.timestamp.after.max.ms"]) > 10**15
    forever = wanted_outputs(pipeline(**INGEST), cluster(), [*raw, topic("x", retention_ms="-1")])
    assert {t.retention_ms for t in forever if t.timestamp_type == "CreateTime"} == {-1}
    assert wanted_outputs(pipeline(**INGEST), cluster(), [])[0].retention_ms == 604_800_000


def test_outputs_as_they_are_created_pass() -> None:
    shop = pipeline()
    check_outputs(shop, cluster(), [])
    check_outputs(shop, cluster(*wanted_outputs(shop, cluster(), [])), [])


@pytest.mark.parametrize(
    ("existing", "message", "setting"),
    [
        (
            topic("shop.results", message_timestamp_type="CreateTime"),
            "'shop.results' has message.timestamp.type=CreateTime",
            "--entity-name shop.results --add-config message.timestamp.type=LogAppendTime",
        ),
        (
            topic("shop.corrections", message_timestamp_type="LogAppendTime", cleanup_policy="compact,delete"),
            "'shop.corrections' has cleanup.policy=compact,delete",
            "--add-config cleanup.policy=delete",
        ),
        (
            topic("shop.clean", message_timestamp_type="LogAppendTime", max_message_bytes="2097152"),
            "'shop.clean' has message.timestamp.type=LogAppendTime: the broker would replace",
            "--entity-name shop.clean --add-config message.timestamp.type=CreateTime",
        ),
        (
            topic("shop.rejects", message_timestamp_type="LogAppendTime", max_message_bytes="1048588"),
            "'shop.rejects' has max.message.bytes=1048588",
            "--add-config max.message.bytes=67174400",
        ),
        # A key of 700 kB, which a result holds twice, restarted the job for ever.
        (
            topic("shop.results", message_timestamp_type="LogAppendTime", max_message_bytes="1048588"),
            "'shop.results' has max.message.bytes=1048588: what the job writes needs up to 2162688",
            "--entity-name shop.results --add-config max.message.bytes=2162688",
        ),
        (
            topic("shop.corrections", message_timestamp_type="LogAppendTime", max_message_bytes="2097152"),
            "'shop.corrections' has max.message.bytes=2097152",
            "--entity-name shop.corrections --add-config max.message.bytes=2162688",
        ),
        (
            topic("shop.pathway.west", max_message_bytes="1048588"),
            "'shop.pathway.west' has max.message.bytes=1048588",
            "--entity-name shop.pathway.west --add-config max.message.bytes=67174400",
        ),
        (
            large("shop.clean", segment_bytes="14000000"),
            "'shop.clean' has segment.bytes=14000000",
            "--add-config segment.bytes=67174400",
        ),
        (
            large("shop.clean", min_insync_replicas="2"),
            "'shop.clean' has min.insync.replicas=2 and 1 replica(s)",
            "--add-config min.insync.replicas=1",
        ),
        (
            large("shop.clean", unclean_leader_election_enable="true"),
            "'shop.clean' has unclean.leader.election.enable=true",
            "--add-config unclean.leader.election.enable=false",
        ),
        (
            large("shop.clean", message_timestamp_after_max_ms="3600000"),
            "'shop.clean' has message.timestamp.after.max.ms=3600000: records are copied with their own times",
            "--add-config message.timestamp.after.max.ms=9223372036854775807",
        ),
        (
            large("shop.clean", message_timestamp_before_max_ms="1"),
            "'shop.clean' has message.timestamp.before.max.ms=1",
            "--add-config message.timestamp.before.max.ms=9223372036854775807",
        ),
    ],
)
def test_outputs_that_would_lose_records_are_refused(existing: Topic, message: str, setting: str) -> None:
    with pytest.raises(SurecountError) as caught:
        check_outputs(pipeline(**INGEST), cluster(existing), [])
    assert message in caught.value.message
    assert setting in caught.value.hint
    assert "localhost:9092" in caught.value.hint


@pytest.mark.parametrize(("kept", "raw_kept"), [("604800000", "-1"), ("999", "1000"), ("0", "1")])
def test_copies_that_would_go_before_their_records_are_refused(kept: str, raw_kept: str) -> None:
    raw = [topic("shop.orders", retention_ms=raw_kept)]
    clean = large("shop.clean", retention_ms=kept)
    with pytest.raises(SurecountError) as caught:
        check_outputs(pipeline(**INGEST), cluster(clean), raw)
    assert f"'shop.clean' has retention.ms={kept}, the topic it is copied from {raw_kept}" in caught.value.message
    assert f"--entity-name shop.clean --add-config retention.ms={raw_kept}" in caught.value.hint


@pytest.mark.parametrize(("kept", "raw_kept"), [("-1", "-1"), ("-1", "5"), ("6", "5"), ("5", "5")])
def test_copies_may_be_kept_longer_than_their_records(kept: str, raw_kept: str) -> None:
    clean = large("shop.clean", retention_ms=kept)
    check_outputs(pipeline(**INGEST), cluster(clean), [topic("shop.orders", retention_ms=raw_kept)])
    # While the cluster of a raw topic is away, it is not known how long that keeps records.
    check_outputs(pipeline(**INGEST), cluster(large("shop.clean", retention_ms="1")), [])


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(SurecountError) as caught:
        check_outputs(pipeline(), cluster(topic("shop.results"), topic("shop.corrections")), [])
    assert "shop.results" in caught.value.message
    assert "shop.corrections" in caught.value.message


def test_compacted_results_are_fine() -> None:
    results = large("shop.results", message_timestamp_type="LogAppendTime", cleanup_policy="compact")
    check_outputs(pipeline(), cluster(results), [])


def test_missing_sources_are_named_with_the_nearest() -> None:
    names = frozenset({"shop.order", "shop.results", "other", "__consumer_offsets"})
    with pytest.raises(SurecountError) as caught:
        check_names(pipeline().kafka, RAW, names)
    first, second = caught.value.message.splitlines()
    assert first.startswith("source topic 'shop.orders' does not exist; near: shop.order")
    assert second.startswith("source topic 'shop.returns' does not exist; near: shop.order, shop.results")
    assert "localhost:9092 (kafka.bootstrap_servers): other, shop.order, shop.results;" in caught.value.hint
    assert "__consumer_offsets" not in str(caught.value)


def test_sources_that_are_there_pass() -> None:
    check_names(pipeline().kafka, RAW, frozenset(RAW))


def test_client_config_is_the_address_and_the_properties() -> None:
    kafka = {"bootstrap_servers": "one:1,two:2", "properties": {"client.id": "me"}}
    assert client_config(pipeline(kafka=kafka).kafka) == {"bootstrap.servers": "one:1,two:2", "client.id": "me"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max.request.size", "1", "'max.request.size': No such configuration property"),
        ("linger.ms", "soon", "'linger.ms': Invalid value"),
        ("bootstrap.servers", "x:1", '"bootstrap.servers" is set elsewhere'),
    ],
)
def test_properties_that_librdkafka_refuses_are_named(name: str, value: str, message: str) -> None:
    shop = pipeline(kafka={"properties": {"client.id": "me", name: value}})
    with pytest.raises(SurecountError) as caught:
        client_config(shop.kafka)
    assert f"kafka.properties: {message}" in caught.value.message


def test_what_librdkafka_logs_is_not_printed_unasked() -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in log.handlers)
