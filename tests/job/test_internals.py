"""A job runs on PyFlink and Beam as they come, too."""

from __future__ import annotations

from collections.abc import Callable

from surecount import topics
from surecount.audit import audit
from surecount.generate import generate
from surecount.generator.options import Options
from tests.conftest import Running

PIPELINE = """
[source]
topics = ["NAME.in"]
event_time = { field = "ts", unit = "ms" }
event_id = { field = "id", type = "string" }
[[aggregate]]
name = "a"
key = ["customer"]
sum = ["amount"]
window = "1 s"
[performance]
replace_internals = false
"""


def test_books_balance_where_nothing_of_pyflink_is_replaced(make: Callable[..., Running]) -> None:
    run = make(PIPELINE)
    generate(run.pipeline, Options(events=5_000, keys=50, rate=None, bad=0.01, duplicates=0.1, seed=3))
    jobs = run.submit_all(bounded=True)
    assert all(run.flink.checkpoints(job)["counts"]["restored"] == 0 for job in jobs.values())
    report = audit(run.pipeline, bounded=True)
    assert report.balanced, report.summary()
    [books] = report.books
    assert books.results > 4_000
    assert topics.offsets(run.pipeline.kafka, [run.pipeline.topics.clean])
