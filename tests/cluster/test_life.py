"""The life of a job under load: savepoint, stop, start, rescale, a crash; and starts that are refused."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from surecount import topics
from surecount.audit import audit
from surecount.errors import SurecountError
from surecount.waiting import wait_until
from tests.conftest import PIPELINE, Load, Running
from tests.lives import JOBS, changed, drain, life_of, read_up_to, results, send
from tests.typed import told_of, typed, typed_of


def checkpoints(run: Running, job_id: str) -> int:
    return int(run.flink.checkpoints(job_id)["counts"]["completed"])


def test_no_count_is_lost_when_a_job_is_stopped_started_and_rescaled(
    make: Callable[..., Running], load: Callable[..., Load]
) -> None:
    run = make(PIPELINE)
    assert "runs as" in typed_of(run, "start")
    feeding = load(run.pipeline, rate=1_000, keys=50, disorder_ms=500, bad=0.01, seed=3)
    saved = told_of(run, "savepoint")[0]["savepoint"]
    assert "200 is more than state.max_parallelism, 128" in typed_of(run, "rescale", "--parallelism", "200", expect=2)
    crashed = told_of(run, "rescale", "--parallelism", "2")[0]["job"]
    assert "has parallelism 2 already" in typed_of(run, "rescale", "--parallelism", "2")
    wait_until(lambda: checkpoints(run, crashed) >= 2, 60, "checkpoints of the rescaled job")
    run.flink.cancel(crashed)  # as a crash that leaves retained checkpoints
    wait_until(lambda: run.flink.state(crashed) == "CANCELED", 60, "the job to end")
    went_on = told_of(run, "start")[0]["job"]
    assert "runs already" in typed_of(run, "start")
    sent = feeding.end()
    report = audit(run.pipeline)
    assert report.balanced, report.summary()
    assert report.books[0].records_in == sent.records

    listed = life_of(run).snapshots("aggregate")
    first, second, third = listed.runs
    assert [run.parallelism for run in listed.runs] == [1, 2, 2]
    assert first.snapshot is None
    assert second.snapshot == first.stopped_with is not None
    assert f"/{second.job_id}/chk-" in (third.snapshot or "")
    assert (second.job_id, second.stopped_with, third.job_id) == (crashed, None, went_on)
    paths = [snapshot.path for snapshot in listed.snapshots]
    assert paths.index(saved) < paths.index(second.snapshot)
    assert listed.newest is not None
    assert listed.newest.run.job_id == went_on
    stopped = told_of(run, "stop")[0]["savepoint"]
    assert told_of(run, "snapshots")[0]["newest"] == stopped
    assert "does not run" in typed_of(run, "savepoint", expect=1)

    prune = ("snapshots", "prune", run.file.name, "--dir", str(run.stack.directory), "--keep", "1")
    assert "would be removed" in typed(run.file.parent, *prune, "--dry-run")
    gone = {row["path"] for row in json.loads(typed(run.file.parent, *prune, "--json"))}
    assert {saved, second.snapshot} < gone
    assert any(path.endswith(crashed) for path in gone)
    assert [snapshot.path for snapshot in life_of(run).snapshots("aggregate").snapshots if snapshot.savepoint] == [
        stopped
    ]
    assert "nothing to remove" in typed(run.file.parent, *prune)
    assert "runs as" in typed_of(run, "start")


def test_what_could_not_go_on_exactly_is_refused(make: Callable[..., Running]) -> None:
    # Flink drops the last watermark of a source that is idle when it is drained.
    run = make(PIPELINE.replace('idle_after = "5 s"', 'idle_after = "10 min"'), partitions=1)
    life, source = life_of(run), f"{run.pipeline.name}.in"
    now = int(time.time() * 1000) // 5_000 * 5_000
    life.start(JOBS)
    send(run, 10, now)
    read_up_to(run, 10)
    with pytest.raises(SurecountError, match="99 more slots are needed, and 3 are free"):
        life.rescale(JOBS, 100)
    older = life.savepoint(JOBS)["aggregate"]
    send(run, 10, now)
    newest = life.stop(JOBS)["aggregate"]
    send(run, 10, now)

    with pytest.raises(SurecountError, match="not_newest") as refused:
        life.start(JOBS, snapshot=older)
    assert newest in str(refused.value)

    with pytest.raises(SurecountError, match="there is no snapshot at"):
        life.start(JOBS, snapshot=f"{newest}x")

    text = run.file.read_text()
    with pytest.raises(SurecountError, match="max parallelism 128"):
        life_of(changed(run, text + "\n[state]\nmax_parallelism = 64\n")).start(JOBS)
    run.file.write_text(text)

    admin = AdminClient(topics.client_config(run.pipeline.kafka))
    for deleted in admin.delete_records([TopicPartition(source, 0, 25)]).values():
        assert deleted.result(timeout=10).low_watermark == 25
    with pytest.raises(SurecountError, match=r"offsets 20 to 24 are deleted, 5 that"):
        life.start(JOBS)

    # What would have been lost without a word: with the loss accepted, the job counts 5 less.
    job = life.start(JOBS, accepted=["records_gone"])["aggregate"]
    assert life.snapshots("aggregate").runs[-1].accepted == ("records_gone",)
    read_up_to(run, 30)

    drain(run, job)
    assert [result["count"] for result in results(run)] == [25]
    with pytest.raises(SurecountError, match="closed every window"):
        life.start(JOBS)

    # What would have come out of a window that was closed before its end.
    life.start(JOBS, accepted=["drained"])
    send(run, 5, now)
    wait_until(lambda: run.read(run.pipeline.topics.corrections), 60, "a correction")
    (correction,) = run.read(run.pipeline.topics.corrections)
    assert json.loads(correction.value())["count"] == 5
    life.stop(JOBS)

    # What would have been written twice: the old savepoint knows nothing of the window's result.
    job = life.start(JOBS, snapshot=older, accepted=["not_newest", "records_gone"])["aggregate"]

    # The group has been that far before.
    def read() -> int:
        life.savepoint(JOBS)
        return life.snapshots("aggregate").newest.offsets[source, 0]

    wait_until(lambda: read() == 35, 60, "a savepoint behind the records", seen=read)
    drain(run, job)
    first, again = results(run)
    assert again == {**first, "count": 20, "sum": {"amount": 20}}
