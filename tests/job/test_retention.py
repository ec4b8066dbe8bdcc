"""What Kafka deletes of a job's input: after it was counted it is an account of the audit, before it is a loss."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from surecount import topics
from surecount.audit import Report, audit
from surecount.audit.reader import DeletedError, TopicReader
from surecount.ops.history import history
from surecount.waiting import wait_until
from tests.conftest import PIPELINE, Running
from tests.lives import JOBS, life_of, read_up_to, results, send


def delete_before(run: Running, topic: str, offset: int) -> None:
    admin = AdminClient(topics.client_config(run.pipeline.kafka))
    for deleted in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        deleted.result(timeout=10)


def audited(run: Running) -> Report:
    return audit(run.pipeline, history=history(run.pipeline, run.flink), timeout_s=60)


def test_deleted_after_it_was_counted_and_before(make: Callable[..., Running]) -> None:
    # The last window stays open, however long nothing comes.
    run = make(PIPELINE.replace('idle_after = "5 s"', 'idle_after = "1 h"'), partitions=1)
    source = run.pipeline.source.topics[0]
    now = time.time_ns() // 1_000_000
    first = now - now % 5_000 - 3_600_000
    for window in range(10):
        send(run, 10, first + window * 5_000)
    send(run, 1, first + 60_000)
    run.submit()
    read_up_to(run, 101)
    wait_until(lambda: len(results(run)) == 10, 60, "the windows' results")

    delete_before(run, source, 45)
    report = audited(run)
    assert report.balanced, report.summary()
    (books,) = report.books
    assert (books.records_in, books.before_cut, books.results, books.open) == (56, 45, 100, 1)

    # An audit that reads meanwhile takes another cut.
    with (
        pytest.raises(DeletedError),
        TopicReader(run.pipeline.kafka, {(source, 0): (0, 9)}, spread_ms=0, timeout_s=9) as r,
    ):
        while not r.done:
            r.poll()

    # Results may go by themselves.
    place = run.read(run.pipeline.topics.results)[-1]
    delete_before(run, place.topic(), place.offset())
    report = audited(run)
    assert report.balanced, report.summary()

    # The job is away while its input is deleted.
    life_of(run).stop(JOBS)
    send(run, 20, first + 60_000)
    delete_before(run, source, 110)
    report = audited(run)
    assert [(d.kind, d.where) for d in report.differences] == [("deleted_unread", f"{source}-0@101")]
    assert "offsets 101 to 109: deleted before the job had read it; up to 9 records are lost" in report.summary()

    # Started all the same, it is told on, but no more than that.
    life_of(run).start(JOBS, accepted=["records_gone"])
    read_up_to(run, 121)
    report = audited(run)
    assert report.balanced, report.summary()
    assert f"{source}-0@101: offsets 101 to 109 were deleted unread before run 2 began, as was accepted" in report.notes
