"""What an upgrade changes: aggregates, settings, code, versions, parallelism; and what a job's state does not allow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from surecount import config
from surecount.config import Pipeline
from surecount.ops.ledger import Run, config_of
from surecount.ops.upgrade_plan import Plan, plan

CONTENT: dict[str, Any] = {
    "name": "shop",
    "kafka": {"bootstrap_servers": "localhost:9092"},
    "source": {"topics": ["in"], "event_time": "kafka"},
    "aggregate": [
        {"name": "a", "key": ["k"], "sum": ["x"], "window": "1 min"},
        {"name": "b", "key": ["k"], "window": "1 min"},
    ],
}
VERSIONS = {"surecount": "1", "jars": "a.jar b.jar"}


def pipeline(**changes: Any) -> Pipeline:
    return config.parse({**CONTENT, **changes}, "shop.toml")


RUN = Run(3, "a" * 32, 1, None, 2, False, config_of(pipeline()), "", "code", VERSIONS, "p")


def planned(now: Pipeline | None = None, **more: Any) -> Plan:
    given: dict[str, Any] = {"code_hash": "code", "versions": VERSIONS, **more}
    return plan(now or pipeline(), "aggregate", RUN, **given)


def test_what_is_the_same_stays() -> None:
    assert planned() == Plan("aggregate", RUN, ())
    assert planned(parallelism=2).changes == ()
    # The same sum, written another way.
    aggregates = [{**CONTENT["aggregate"][0], "sum": [{"field": "x"}]}, CONTENT["aggregate"][1]]
    assert planned(pipeline(aggregate=aggregates)).changes == ()


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"checkpoint": {"interval": "5 s"}}, ["checkpoint.interval: 10 s → 5 s"]),
        (
            {"source": {**CONTENT["source"], "decode": "mine:decode", "max_value": "2 MiB"}},
            ["source.decode: not set → mine:decode", "source.max_value: 1 MiB → 2 MiB"],
        ),
        (
            {
                "aggregate": [
                    {**CONTENT["aggregate"][0], "window": "5 min"},
                    {"name": "c", "key": ["k"], "window": "1 s"},
                ]
            },
            [
                "aggregate 'a': window 1 min → 5 min; windows that are open keep their bounds",
                "aggregate 'b' ends: windows that are open then never close",
                "aggregate 'c' begins, with the records after the savepoint",
            ],
        ),
        (
            {"aggregate": [*CONTENT["aggregate"], {"name": "c", "key": ["k"], "window": "1 s"}]},
            [
                "aggregate 'a' is kept",
                "aggregate 'b' is kept",
                "aggregate 'c' begins, with the records after the savepoint",
            ],
        ),
    ],
)
def test_changes_of_the_file_are_told(changes: dict[str, Any], lines: list[str]) -> None:
    found = planned(pipeline(**changes))
    assert list(found.changes) == lines
    assert found.refusals == ()


def test_changes_of_code_and_versions_are_told() -> None:
    versions = {"surecount": "2", "jars": "b.jar c.jar"}
    assert planned(code_hash="other", versions=versions, parallelism=4).changes == (
        "code: code → other",
        "surecount: 1 → 2",
        "jar a.jar is taken out",
        "jar c.jar is added",
        "parallelism: 2 → 4",
    )


def test_what_the_state_does_not_allow_is_refused_before_anything_is_stopped() -> None:
    key = [{**CONTENT["aggregate"][0], "key": ["other"]}, CONTENT["aggregate"][1]]
    found = planned(pipeline(aggregate=key, state={"buckets": 8}))
    assert [refusal.code for refusal in found.refusals] == ["buckets", "aggregate_key"]


def test_a_new_job_has_nothing_to_go_on_from() -> None:
    assert plan(pipeline(), "ingest", None, "code", VERSIONS).changes == ("the job is new",)


def test_what_may_be_secret_is_not_kept_and_comes_from_the_file_of_now() -> None:
    now = pipeline(kafka={"bootstrap_servers": "localhost:9092", "properties": {"client.id": "secret"}})
    assert RUN.pipeline().kafka.properties == {}
    assert RUN.pipeline(now) == now
    assert planned(now).changes == ()


def test_a_run_is_gone_back_to_with_the_security_of_now() -> None:
    """Its certificates may have moved since, or the cluster may have none any more."""
    before, after = (
        pipeline(kafka={"bootstrap_servers": "localhost:9092", "security": {"protocol": "SSL", "ca_file": path}})
        for path in ("/old/ca.pem", "/new/ca.pem")
    )
    run = replace(RUN, config=config_of(before))
    assert run.pipeline() == before
    assert run.pipeline(after) == after
    assert run.pipeline(pipeline()) == pipeline()
    changes = plan(after, "aggregate", run, "code", VERSIONS).changes
    assert changes == ("kafka.security.ca_file: /old/ca.pem → /new/ca.pem",)


def test_code_of_an_earlier_version_can_read_a_pipeline_without_security() -> None:
    """An upgrade may go back to it; it refuses settings that it does not know."""
    far = {"name": "far", "topics": ["in"], "bootstrap_servers": "far:9092"}
    content = pipeline(source={"pathway": [far]}).model_dump(mode="json")
    assert "security" not in content["kafka"]
    assert "security" not in content["source"]["pathway"][0]
