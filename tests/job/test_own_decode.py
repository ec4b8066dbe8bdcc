"""A function of the user's own, beside the pipeline file: every command finds it there, from whichever folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Producer

from surecount import topics
from tests.conftest import PIPELINE, Running
from tests.typed import typed

DECODE = """
def decode(value):
    ts, customer, amount = value.decode().split(";")
    return {"ts": int(ts), "customer": customer, "amount": int(amount)}
"""


def test_what_submit_finds_audit_finds(make: Callable[..., Running], tmp_path: Path) -> None:
    run = make(PIPELINE.replace('topics = ["NAME.in"]', 'topics = ["NAME.in"]\ndecode = "semicolons:decode"'))
    (tmp_path / "semicolons.py").write_text(DECODE)
    lines = "".join(f"{1_700_000_000_000 + number};{number % 3};{number}\n" for number in range(30))
    (tmp_path / "lines.csv").write_text(f"{lines}odd\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place = (str(run.file), "--dir", str(run.stack.directory), "--bounded")
    typed(elsewhere, "check", str(run.file))
    typed(elsewhere, "send", str(run.file), str(tmp_path / "lines.csv"))
    typed(elsewhere, "submit", *place)
    said = typed(elsewhere, "audit", *place)
    assert "books balance: 31 records in = 30 in results + 0 in corrections + 1 rejected" in said


SLOW = """
import time

def decode(value):
    time.sleep(0.001)
    return {"ts": int(value), "customer": "c", "amount": 1}
"""


def test_a_checkpoint_waits_for_few_batches_of_a_slow_function(make: Callable[..., Running]) -> None:
    """A batch takes more than a second. Eight of them, which a quick function gets at once, would take nine."""
    settings = "[performance]\nbatch_records = 1000\n\n[[aggregate]]"
    pipeline = PIPELINE.replace('topics = ["NAME.in"]', 'topics = ["NAME.in"]\ndecode = "NAME_slow:decode"')
    run = make(pipeline.replace("[[aggregate]]", settings, 1), partitions=1)
    (run.file.parent / f"{run.pipeline.name}_slow.py").write_text(SLOW)
    producer = Producer(topics.client_config(run.pipeline.kafka))
    for number in range(15_000):
        producer.produce(f"{run.pipeline.name}.in", b"%d" % (1_700_000_000_000 + number))
    producer.flush()

    jobs = run.submit_all(bounded=True)

    for job in jobs.values():
        taken = run.flink.checkpoints(job)
        assert taken["counts"]["restored"] == 0
        assert taken["summary"]["end_to_end_duration"]["max"] < 5_000
