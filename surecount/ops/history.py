"""What the run ledger knows of a pipeline's past, as the audit needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from surecount.audit import Epoch
from surecount.config import Pipeline
from surecount.ops.flink import Flink
from surecount.ops.ledger import Ledger, Run
from surecount.ops.snapshots import Folders, lineage
from udfs.spec import Spec

History = Mapping[str, Sequence[Epoch]]
"""Epochs by job."""


def history(pipeline: Pipeline, flink: Flink) -> History:
    """The epochs of ingest and of the aggregate job, from the run ledger of a cluster; none of a job without runs.

    Raises SurecountError where the ledger cannot be read.
    """
    folders = Folders.of(flink)
    ledgers = {job: Ledger(folders.savepoints, pipeline, job).runs() for job in pipeline.jobs}
    return {
        job: epochs(job, lineage(runs)) for job, runs in ledgers.items() if runs and pipeline.pathway_of(job) is None
    }


def epochs(job: str, runs: Sequence[Run]) -> list[Epoch]:
    """The epochs of a lineage of runs: one that reads its records as the one before goes on with its epoch."""
    found: list[Epoch] = []
    last: Spec | None = None
    for run in runs:
        pipeline = run.pipeline()
        spec = pipeline.aggregate_spec() if job == "aggregate" else pipeline.spec()
        if spec != last:
            begin = {(topic, partition): max(0, offset) for topic, partition, offset in run.offsets}
            found.append(Epoch(pipeline, begin))
        last = spec
    return found
