"""Whole elapsed time of bounded runs, beside another program where one is given."""

from __future__ import annotations

import enum
import re
import subprocess
import time
import uuid
from collections import defaultdict
from pathlib import Path
from statistics import median

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from rich.table import Table

from benchmarks.stage import PARTITIONS, Stage, stage
from surecount import topics
from surecount.audit import audit
from surecount.config import Pipeline
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
        seconds = _elapsed(on, on.start(pipeline, file, bounded=True), limit)
    with err.status(f"{case}: audit"):
        began = time.monotonic()
        report = audit(pipeline, bounded=True)
        rate = _OPTIONS[case].events / (time.monotonic() - began)
    if not report.balanced:
        report.print(out)
        raise SurecountError("the books do not balance", exit_code=1)
    line = f"{case} surecount {seconds:.1f} s; audited at {rate:,.0f} records/s: {report.summary()}"
    out.print(line, soft_wrap=True, highlight=False)
    _delete(pipeline)
    return seconds


def _peer(on: Stage, case: Case, program: Path, limit: int) -> float:
    name = f"peer{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": on.stack.bootstrap_servers})
    new = [NewTopic(f"{name}.results", PARTITIONS), NewTopic(f"{name}.rejects", 1)]
    for created in admin.create_topics(new).values():
        created.result(timeout=10)
    environment = on.stack.flink_env()
    command = [
        str(Path(environment["FLINK_BIN_DIR"]) / "flink"), "run", "--detached",
        "--jobmanager", on.flink.url.removeprefix("http://"),
        "--python", str(program),
        "--src", f"{case}.events", "--results", f"{name}.results", "--rejects", f"{name}.rejects",
        "--bootstrap", on.stack.bootstrap_servers, "--checkpoints", (on.folder / "peer").as_uri(), "--bounded",
    ]  # fmt: skip
    with err.status(f"{case}: {program.stem}"):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        found = re.search(r"JobID ([0-9a-f]{32})", done.stdout + done.stderr)
        if found is None:
            raise SurecountError(f"Flink refused {program}:\n{(done.stdout + done.stderr)[-2000:]}", exit_code=1)
        seconds = _elapsed(on, found[1], limit)
    out.print(f"{case} {program.stem} {seconds:.1f} s (not audited)")
    return seconds


def _elapsed(on: Stage, job: str, limit: int) -> float:
    """Flink's own duration of a finished job, in seconds; one that takes longer than ``limit`` is cancelled."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        state = on.flink.get(f"/jobs/{job}")
        if state["state"] == "FINISHED":
            return float(state["duration"]) / 1000
        if state["state"] in ("FAILED", "CANCELED", "RESTARTING"):
            raise SurecountError(f"the job is {state['state']}: {on.flink.cause(job)}", exit_code=1)
        time.sleep(0.3)
    on.flink.cancel(job)
    raise SurecountError(f"not finished after {limit} s", exit_code=1)


def _delete(pipeline: Pipeline) -> None:
    admin = AdminClient({**topics.client_config(pipeline.kafka)})
    for deleted in admin.delete_topics(list(pipeline.topics.all)).values():
        deleted.result(timeout=10)
