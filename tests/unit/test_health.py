"""What ``surecount status`` says of a cluster's jobs, as far as that needs no cluster."""

from __future__ import annotations

import pytest

from surecount.doctor.health import runs_twice
from surecount.ops.flink import Job


@pytest.mark.parametrize("name", ["shop.aggregate", "shop.ingest", "shop.relay.web"])
def test_a_job_that_runs_twice_is_a_problem_of_both(name: str) -> None:
    jobs = [Job("b", name, "RUNNING", 2), Job("a", name, "RESTARTING", 1), Job("c", "other.aggregate", "RUNNING", 3)]
    found = runs_twice(jobs)
    assert set(found) == {"a", "b"}
    assert found["a"] == f"{name} runs 2 times, as jobs b, a: each writes everything"


@pytest.mark.parametrize(
    ("name", "state"), [("shop.aggregate", "FINISHED"), ("shop.aggregate", "CANCELLING"), ("their-job", "RUNNING")]
)
def test_what_was_replaced_and_others_programs_are_none(name: str, state: str) -> None:
    assert runs_twice([Job("b", name, "RUNNING", 2), Job("a", name, state, 1)]) == {}
