"""Whole elapsed time of bounded runs, beside another program where one is given."""

from __future__ import annotations

import enum
import time
import uuid
from collections import defaultdict
from pathlib import Path
from statistics import median

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from rich.table import Table

from benchmarks.stage import PARTITIONS, Stage, stage
from surecount.audit import audit
from surecount.console import err, out
from surecount.errors import SurecountError
from surecount.generate import generate
from surecount.generator.options import Options


class Case(enum.StrEnum):
    """``few``: 10,000,000 events, 1,000 keys. ``many``: 5,000,000 events, 1,000,000 keys."""

    FEW = "few"
    MANY = "many"


_OPTIONS = {
    Case.FEW: Options(events=10_000_000, keys=1_000, per_window=1_000, partitions=PARTITIONS),
    Case.MANY: Options(events=5_000_000, keys=1_000_000, per_window=1, partitions=PARTITIONS),
}
_PIPELINE = """
[source]
topics = ["{case}.events"]
event_time = {{ field = "ts", unit = "ms" }}
out_of_orderness = "5 s"

[[aggregate]]
name = "totals"
key = ["key"]
sum = ["amount"]
window = "1 min"

[checkpoint]
interval = "5 s"
"""


def run(rounds: int, cases: list[Case], peer: Path | None, limit: int) -> None:
    """Print each run as it ends, then medians and the ratio; the audit of each of ours has to balance."""
    took: dict[tuple[Case, str], list[float]] = defaultdict(list)
    with stage() as on:
        for case in cases:
            filled, _ = on.pipeline(f"{case}0", _PIPELINE.format(case=case))
            with err.status(f"{case}: generating {_OPTIONS[case].events:,} events"):
                generate(filled, _OPTIONS[case], lambda _: None)
            _ours(on, case, limit)  # the first job on a TaskManager pays for loading and compiling
            for _ in range(rounds):
                took[case, "surecount"].append(_ours(on, case, limit))
                if peer is not None:
                    took[case, peer.stem].append(_peer(on, case, peer, limit))
    table = Table("case", "program", "median s", "all s", "ratio")
    for (case, program), seconds in took.items():
        ours = median(took[case, "surecount"])
        each = " ".join(f"{second:.1f}" for second in seconds)
        table.add_row(case, program, f"{median(seconds):.1f}", each, f"{ours / median(seconds):.2f}")
    out.print(table)


def _ours(on: Stage, case: Case, limit: int) -> float:
    pipeline, file = on.pipeline(f"{case}{uuid.uuid4().hex[:8]}", _PIPELINE.format(case=case))
    with err.status(f"{case}: surecount"):
        seconds = on.elapsed(on.start(pipeline, file, bounded=True), limit)
    with err.status(f"{case}: audit"):
        began = time.monotonic()
        report = audit(pipeline, bounded=True)
        rate = _OPTIONS[case].events / (time.monotonic() - began)
    if not report.balanced:
        report.print(out)
        raise SurecountError("the books do not balance", exit_code=1)
    line = f"{case} surecount {seconds:.1f} s; audited at {rate:,.0f} records/s: {report.summary()}"
    out.print(line, soft_wrap=True, highlight=False)
    on.delete(pipeline.topics.all)
    return seconds


def _peer(on: Stage, case: Case, program: Path, limit: int) -> float:
    name = f"peer{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": on.stack.bootstrap_servers})
    new = [NewTopic(f"{name}.results", PARTITIONS), NewTopic(f"{name}.rejects", 1)]
    for created in admin.create_topics(new).values():
        created.result(timeout=10)
    arguments = [
        "--src", f"{case}.events", "--results", f"{name}.results", "--rejects", f"{name}.rejects",
        "--bootstrap", on.stack.bootstrap_servers, "--checkpoints", (on.folder / "peer").as_uri(), "--bounded",
    ]  # fmt: skip
    with err.status(f"{case}: {program.stem}"):
        seconds = on.elapsed(on.run(program, arguments), limit)
    out.print(f"{case} {program.stem} {seconds:.1f} s (not audited)")
    return seconds
