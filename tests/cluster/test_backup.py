"""A backup of a pipeline under load, and its recovery on another, empty stack, with topics whose offsets are others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from surecount import config, topics
from surecount.audit import audit
from surecount.errors import SurecountError
from surecount.generate import Options, generate
from surecount.local.stack import Stack
from surecount.ops import backup as backups
from surecount.ops.history import history
from surecount.ops.life import Life
from surecount.ops.recover import Recovery, bring_files
from surecount.ops.steps import Step
from surecount.ops.storage import Folder
from surecount.waiting import wait_until
from tests.conftest import PIPELINE, Load, Running, read_committed, started
from tests.lives import read_up_to, send
from tests.typed import kill_of, typed_of


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Another stack, with nothing on it of what a test makes."""
    stack = Stack(tmp_path_factory.mktemp("elsewhere"), is_owned=True)
    with started(stack, request, slots=4):
        yield stack


def mirror(of: Running, to: Running, names: list[str], ends: dict[tuple[str, int], int] | None = None) -> None:
    """Copy committed records as a mirror does: partition, key, value, headers and time, and other offsets; up to
    ``ends`` only where they are given."""
    producer = Producer(topics.client_config(to.pipeline.kafka))
    for name in names:
        for message in read_committed(of.pipeline, name):
            place = name, message.partition()
            if ends is None or message.offset() < ends[place]:
                producer.produce(
                    name, message.value(), message.key(), message.partition(),
                    timestamp=message.timestamp()[1], headers=message.headers(),
                )  # fmt: skip
    assert producer.flush(60) == 0


def own_settings(run: Running, name: str) -> dict[str, str]:
    return dict(topics.describe(topics.Admin(run.pipeline.kafka), [name], only_own=True).topics[name].config)


def test_a_pipeline_goes_on_exactly_on_an_empty_stack(
    make: Callable[..., Running], load: Callable[..., Load], elsewhere: Stack, tmp_path: Path
) -> None:
    run = make(PIPELINE)
    name, outputs = run.pipeline.name, list(run.pipeline.topics.all)
    source, results = f"{name}.in", run.pipeline.topics.results
    life = Life(run.pipeline, run.file, run.flink, run.stack.flink_env())
    life.start(run.pipeline.jobs, parallelism=2)
    # Without bad records: a reject names its offset, which no audit could match once that is another one.
    feeding = load(run.pipeline, rate=500, keys=50, disorder_ms=500, late=0.01, seed=13)
    wait_until(lambda: run.read(results), 90, "results")
    group = "reports"
    place = results, run.read(results)[0].partition()
    read_to = min(message.offset() for message in run.read(results) if message.partition() == place[1]) + 1
    topics.commit(run.pipeline.kafka, group, {place: read_to})

    folder = Folder(tmp_path.joinpath("backup").as_uri())
    work = backups.Work(run.pipeline, run.file, run.flink, run.stack.flink_env(), folder)
    kept = work.run()
    assert list(life.running(run.pipeline.jobs)) == ["aggregate"]  # it goes on
    assert backups.load(folder) == kept
    with pytest.raises(SurecountError, match="holds a backup"):
        work.run()

    # What the first stack does from here on is lost with it, but for the records that came in.
    feeding.end()
    ends = {mark.place: mark.offset for job in kept.jobs.values() for mark in job.writes}
    file = tmp_path / "there" / "shop.toml"
    assert bring_files(folder, kept, file) == [file]
    assert file.read_text() == run.file.read_text()
    file.write_text(file.read_text().replace(run.stack.bootstrap_servers, elsewhere.bootstrap_servers))
    there = Running(config.load(file), file, elsewhere)

    def recovery(running: Running) -> Recovery:
        return Recovery(folder, kept, running.pipeline, running.flink)

    empty, made = recovery(there).prepare()
    assert set(made) == {source, *outputs}
    assert {refusal.code for refusal in empty.refusals} == {"records_gone"}
    assert own_settings(there, results) == own_settings(run, results) != {}
    with pytest.raises(SurecountError, match="the partition is empty now"):
        recovery(there).bring(empty)

    # Aborted records and a transaction marker first, so that no offset is what it was.
    shift = Producer({**topics.client_config(there.pipeline.kafka), "transactional.id": "shift"})
    shift.init_transactions(30)
    shift.begin_transaction()
    for partition in range(2):
        shift.produce(source, b"{}", partition=partition)
    shift.flush(30)
    shift.abort_transaction(30)
    mirror(run, there, [source, results])
    beyond, _ = recovery(there).prepare()
    assert "written_again" in {refusal.code for refusal in beyond.refusals}
    admin = AdminClient(topics.client_config(there.pipeline.kafka))
    admin.delete_topics([results])[results].result(30)
    wait_until(lambda: results not in topics.Admin(there.pipeline.kafka).metadata().topics, 30, "it to be gone")
    assert recovery(there).prepare()[1] == [results]
    mirror(run, there, outputs, ends)

    plan, _ = recovery(there).prepare()
    assert not plan.refusals
    assert not plan.notes
    assert all(plan.moved["aggregate"][mark.place] != mark.offset for mark in kept.jobs["aggregate"].reads)
    kill_of(there, Step.LEDGER, "recover", folder.uri, there.file.name)
    assert f"a recovery from {folder.uri} has not brought all files yet" in typed_of(there, "start", expect=1)
    recovery(there).bring(plan)
    recovery(there).bring(recovery(there).prepare()[0])  # one that was interrupted can be made again
    assert topics.committed(there.pipeline.kafka, group, [place])[place] == plan.groups[group][place]

    goes_on = Life(there.pipeline, there.file, there.flink, elsewhere.flink_env())
    ids = goes_on.start(there.pipeline.jobs)
    wait_until(lambda: there.flink.checkpoints(ids["aggregate"])["counts"]["completed"] >= 2, 60, "checkpoints")
    goes_on.rescale(["aggregate"], 1)
    assert [run.generation for run in goes_on.ledger("aggregate").runs()] == [0, 1, 1]
    with pytest.raises(SurecountError, match="knows runs of"):
        recovery(there).prepare()
    sent = generate(there.pipeline, Options(events=2_000, keys=50, rate=500, disorder_ms=500, seed=14))
    report = audit(there.pipeline, history=history(there.pipeline, there.flink))
    print(report.summary())
    assert report.balanced, report.summary()
    assert sent.records == 2_000
    assert report.books[0].results > 0


def test_one_name_on_two_flink_clusters_is_refused(make: Callable[..., Running], elsewhere: Stack) -> None:
    # No window closes by the clock, so there are no results to refuse a start for.
    run = make(PIPELINE.replace('idle_after = "5 s"', 'idle_after = "1 h"'), partitions=1)
    there = Running(run.pipeline, run.file, elsewhere)
    now = int(time.time() * 1000) // 5_000 * 5_000
    assert "runs as" in typed_of(run, "start")
    # Nothing was read yet, so only transactional ids tell.
    refused = typed_of(there, "start", expect=1)
    assert f"transactional ids surecount.{run.pipeline.name}.aggregate." in refused
    assert "--accept namesake" in refused
    assert "runs already" in typed_of(run, "start")  # our own are no namesake's
    send(run, 10, now)
    read_up_to(run, 10)
    assert "has committed offset 10 of" in typed_of(there, "submit", expect=1)
    typed_of(run, "stop")
    typed_of(run, "start")
    typed_of(run, "stop")

    assert "runs as" in typed_of(there, "start", "--accept", "namesake")
    send(run, 10, now)
    read_up_to(run, 20)
    refused = typed_of(run, "start", expect=1)
    assert f"{run.pipeline.name}.in partition 0: 20, for 10 in file:///" in refused
    typed_of(there, "stop")
    assert "runs as" in typed_of(run, "start", "--accept", "namesake")
    life = Life(run.pipeline, run.file, run.flink, run.stack.flink_env())
    assert life.ledger("aggregate").runs()[-1].accepted == ("namesake",)
