"""The least rights of a pipeline, derived from its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AclOperation, ResourcePatternType, ResourceType
from typer.testing import CliRunner

from surecount import config
from surecount.cli import app
from surecount.config import Pipeline
from surecount.kafka.grants import bindings
from surecount.kafka.rights import ROLES, Needed, Right, needed


def pipeline(**more: Any) -> Pipeline:
    data = {
        "name": "shop",
        "kafka": {"bootstrap_servers": "own:1"},
        "source": {"topics": ["orders"]},
        "aggregate": [{"name": "a", "key": ["customer"], "window": "1 min"}],
        **more,
    }
    return config.parse(data, "test")


TWO_CLUSTERS = {
    "source": {
        "event_id": "id",
        "pathway": [
            {"name": "east", "topics": ["orders"]},
            {"name": "west", "topics": ["orders"], "bootstrap_servers": "west:1"},
        ],
    },
    "topics": {"duplicates": "shop.copies"},
}


def allowed(found: list[Needed], kind: str, at: str = "own:1") -> dict[str, set[str]]:
    return {
        one.right.name + ("*" if one.right.prefixed else ""): set(one.right.operations)
        for one in found
        if one.right.kind == kind and one.kafka.bootstrap_servers == at
    }


def test_a_job_reads_writes_commits_and_nothing_else() -> None:
    found = needed(pipeline(), ["jobs"])
    output = {"Write", "Read"}
    assert allowed(found, "topic") == {
        "orders": {"Read"}, "shop.results": output, "shop.corrections": output, "shop.rejects": output,
    }  # fmt: skip
    assert allowed(found, "group") == {"surecount.shop.aggregate": {"Read"}}
    sinks = ("rejects", "results", "corrections")
    assert allowed(found, "transactional-id") == {f"surecount.shop.aggregate.{kind}*": {"Write"} for kind in sinks}
    assert allowed(found, "cluster") == {}


def test_jobs_of_a_pipeline_on_two_clusters() -> None:
    found = needed(pipeline(**TWO_CLUSTERS), ["jobs"])
    assert allowed(found, "topic", "west:1") == {"orders": {"Read"}}
    assert allowed(found, "group", "west:1") == {"surecount.shop.relay.west": {"Read"}}
    assert allowed(found, "transactional-id", "west:1") == {}
    both = {"Read", "Write"}
    assert allowed(found, "topic") == {
        "orders": {"Read"}, "shop.pathway.west": both, "shop.clean": both, "shop.copies": both,
        "shop.rejects": both, "shop.results": both, "shop.corrections": both, "shop.replay": {"Read"},
    }  # fmt: skip
    assert set(allowed(found, "transactional-id")) == {
        "surecount.shop.relay.west.copy*",
        *(f"surecount.shop.ingest.{kind}*" for kind in ("rejects", "clean", "duplicate")),
        *(f"surecount.shop.aggregate.{kind}*" for kind in ("rejects", "results", "corrections")),
    }


def test_only_the_operator_writes_the_replay_topic() -> None:
    # What it says is believed, so to write it is a right of its own; raw topics need none for a replay then.
    found = {role: allowed(needed(pipeline(**TWO_CLUSTERS), [role]), "topic") for role in ROLES}
    writers = [role for role, topics in found.items() if "Write" in topics.get("shop.replay", ())]
    assert writers == ["operator"]
    assert not [topic for topic, operations in found["operator"].items() if "Write" in operations and topic == "orders"]


@pytest.mark.parametrize("more", [{}, TWO_CLUSTERS])
def test_no_prefix_reaches_into_another_pipeline(more: dict[str, Any]) -> None:
    for one in needed(pipeline(**more)):
        if one.right.prefixed:
            assert not one.right.name.startswith("surecount.") or one.right.name.startswith("surecount.shop.")
            assert not "surecount.shop2.aggregate.results-0".startswith(one.right.name)


def test_readers_may_change_nothing_and_no_one_may_delete_or_alter() -> None:
    found = needed(pipeline(**TWO_CLUSTERS))
    assert {operation for one in found if one.role == "reader" for operation in one.right.operations} == {"Read"}
    every = {operation for one in found for operation in one.right.operations}
    assert every == {"Read", "Write", "Create", "Describe", "DescribeConfigs"}
    assert not [one for one in found if one.right.kind == "cluster" and one.right.operations != ("DescribeConfigs",)]


def test_each_resource_is_named_once_for_a_role() -> None:
    found = needed(pipeline(**TWO_CLUSTERS))
    keys = [
        (one.role, one.kafka.bootstrap_servers, one.right.kind, one.right.name, one.right.prefixed) for one in found
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("right", "line"),
    [
        (Right("topic", "orders", ("Read",)), "--operation Read --topic orders"),
        (
            Right("transactional-id", "surecount.shop.", ("Write", "Describe"), prefixed=True),
            "--operation Write --operation Describe --transactional-id surecount.shop. "
            "--resource-pattern-type prefixed",
        ),
        (Right("cluster", "kafka-cluster", ("DescribeConfigs",)), "--operation DescribeConfigs --cluster"),
    ],
)
def test_lines_of_kafka_acls(right: Right, line: str) -> None:
    assert right.acl(pipeline().kafka, "User:it's me") == (
        "kafka-acls.sh --bootstrap-server own:1 --command-config admin.properties --add "
        f"""--allow-principal 'User:it'"'"'s me' {line}"""
    )


def test_rights_as_kafka_keeps_them() -> None:
    one, other = bindings(Right("transactional-id", "surecount.shop.", ("Write", "Describe"), prefixed=True), "User:a")
    assert (one.restype, one.name, one.principal) == (ResourceType.TRANSACTIONAL_ID, "surecount.shop.", "User:a")
    assert one.resource_pattern_type == ResourcePatternType.PREFIXED
    assert (one.operation, other.operation) == (AclOperation.WRITE, AclOperation.DESCRIBE)
    (of_cluster,) = bindings(Right("cluster", "kafka-cluster", ("DescribeConfigs",)), "User:a")
    assert of_cluster.restype == ResourceType.BROKER  # what librdkafka calls the cluster


def run(file: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["acls", str(file), *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "shop.json"
    made.write_text(json.dumps(pipeline().model_dump(mode="json")))
    return made


def test_the_command_prints_each_role_and_what_each_line_is_for(file: Path) -> None:
    printed = run(file).splitlines()
    assert [line for line in printed if line.startswith("#")] == [f"# {role}: {what}" for role, what in ROLES.items()]
    assert len([line for line in printed if line.startswith("kafka-acls.sh ")]) == len(needed(pipeline()))
    assert all("--allow-principal User:shop " in line and "  # " in line for line in printed if line[0] != "#")


def test_the_command_for_one_role_one_principal_and_scripts(file: Path) -> None:
    rows = json.loads(run(file, "--role", "reader", "--principal", "User:bob", "--json"))
    assert {row["role"] for row in rows} == {"reader"}
    assert {row["principal"] for row in rows} == {"User:bob"}
    assert rows[0] == {
        "role": "reader", "bootstrap_servers": "own:1", "principal": "User:bob", "resource": "topic",
        "name": "shop.results", "pattern": "literal", "operations": ["Read"], "why": "is read",
    }  # fmt: skip
