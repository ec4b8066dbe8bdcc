"""Upgrades under load: aggregates come, go and get other windows, and the books of all stay exact; and the way back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from surecount import config
from surecount.audit import audit
from surecount.errors import SurecountError
from surecount.ops.history import history
from surecount.ops.life import Life
from surecount.ops.upgrade import Upgrade
from surecount.waiting import wait_until
from tests.conftest import Load, Running
from tests.typed import typed_of

SOURCE = """
[source]
topics = ["NAME.in"]
event_time = { field = "ts", unit = "ms" }
out_of_orderness = "1 s"
idle_after = "5 s"

[checkpoint]
interval = "1 s"
"""
A = '[[aggregate]]\nname = "a"\nkey = ["customer"]\nsum = ["amount"]\nwindow = "5 s"\n'
B = '[[aggregate]]\nname = "b"\nkey = ["country"]\nwindow = "5 s"\n'
C = """
[[aggregate]]
name = "c"
key = ["channel"]
sum = [{ field = "tax", type = "decimal", scale = 2 }]
window = "5 s"
"""
JOBS = ("aggregate",)


def changed(run: Running, change: Callable[[str], str]) -> Running:
    """The same pipeline with another file."""
    run.file.write_text(change(run.file.read_text()))
    return replace(run, pipeline=config.load(run.file))


def upgrade_of(run: Running) -> Upgrade:
    return Upgrade(run.pipeline, run.file, run.flink, run.stack.flink_env())


def test_every_count_is_exact_through_upgrades_under_load(
    make: Callable[..., Running], load: Callable[..., Load]
) -> None:
    whole = make(SOURCE + A + B + C)
    run = changed(whole, lambda text: text.replace(C, ""))
    life = Life(run.pipeline, run.file, run.flink, run.stack.flink_env())
    feeding = load(whole.pipeline, rate=1_000, keys=50, disorder_ms=500, bad=0.01, seed=5)
    life.start(JOBS)
    wait_until(lambda: run.read(run.pipeline.topics.results), 60, "results of a and b")
    assert "aggregate stays as it is" in typed_of(run, "upgrade")

    run = changed(run, lambda text: text.replace(A, A.replace("5 s", "10 s")).replace(B, C))
    said = typed_of(run, "upgrade", "--dry-run")
    for change in (
        "aggregate 'a': window 5 s → 10 s; windows that are open keep their bounds",
        "aggregate 'b' ends: windows that are open then never close",
        "aggregate 'c' begins, with the records after the savepoint",
    ):
        assert change in said
    assert re.search(r"aggregate; down for about [1-9]\d* s", said), said
    assert "Aborted" in typed_of(run, "upgrade", answer="n\n", expect=1)
    said = typed_of(run, "upgrade", "--parallelism", "2", answer="y\n")
    assert "parallelism: 1 → 2" in said
    second = said.rpartition("runs as ")[2].strip()

    # Its workers die of the first record: the old version goes on.
    (run.file.parent / "deadly.py").write_text("import os\n\n\ndef decode(value):\n    os._exit(3)\n")
    deadly = changed(run, lambda text: text.replace("[source]", '[source]\ndecode = "deadly:decode"'))
    work = upgrade_of(deadly)
    with pytest.raises(SurecountError, match=r"t\d+\.aggregate runs again as it did in run 2") as failed:
        work.run(work.plans(JOBS), within_s=20)
    print(failed.value)
    runs = life.ledger("aggregate").runs()
    assert [run.number for run in runs] == [1, 2, 3, 4]
    assert runs[2].snapshot == runs[1].stopped_with
    assert runs[1].job_id == second
    assert (runs[3].config, runs[3].code_hash) == (runs[1].config, runs[1].code_hash)

    sent = feeding.end()
    report = audit(run.pipeline, history=history(run.pipeline, run.flink))
    print(report.summary())
    assert report.balanced, report.summary()
    books = {books.aggregate: books for books in report.books}
    assert list(books) == ["a by 5 s", "b", "a by 10 s", "c"]
    assert books["a by 5 s"].records_in + books["a by 10 s"].records_in >= sent.records
    assert all(books.results for books in report.books)
    assert books["b"].open > 0
    assert "aggregate 'b' has ended" in " ".join(report.notes)

    again = changed(run, lambda text: text + B)
    assert [str(refusal) for refusal in upgrade_of(again).plans(JOBS)[0].refusals] == [
        "aggregate 'b' was there in run 1, and has ended\n  → give the new one another name"
    ]
