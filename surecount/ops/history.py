"""What the run ledger knows of a pipeline's past, as the audit needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from surecount.audit import Epoch, LostAtStart, Moment, Past
from surecount.audit.retention import may_be_markers
from surecount.config import Pipeline
from surecount.ops.flink import Flink
from surecount.ops.ledger import Ledger, Run
from surecount.ops.metrics import note_failed_commits
from surecount.ops.snapshots import Folders, lineage
from surecount.ops.submit import job_name
from udfs.spec import Spec

History = Mapping[str, Past]
"""What the ledger knows by job."""


def history(pipeline: Pipeline, flink: Flink) -> History:
    """The past of each job that has runs, from the run ledger of a cluster.

    The ledger remembers which commits of running jobs have failed, as far as Flink tells now. Raises SurecountError
    where the ledger cannot be read.
    """
    folders = Folders.of(flink)
    ledgers = {job: Ledger(folders.savepoints, pipeline, job) for job in pipeline.jobs}
    for job, ledger in ledgers.items():
        if running := flink.running(job_name(pipeline, job)):
            note_failed_commits(flink, ledger, running.id)
    lineages = {job: lineage(folders.begun(ledger.runs())) for job, ledger in ledgers.items()}
    return {job: past(pipeline, job, runs) for job, runs in lineages.items() if runs}


def past(pipeline: Pipeline, job: str, runs: Sequence[Run]) -> Past:
    """What a lineage of runs, one at least, tells."""
    # A relay reads no configuration.
    found = epochs(job, runs) if pipeline.pathway_of(job) is None else []
    last = runs[-1]
    if last.moved is not None:  # its topics are copies, with ids of their own
        return Past(found, moments(runs), unread=unread(pipeline, runs))
    return Past(found, moments(runs), last.topic_ids, last.output_ids, unread(pipeline, runs))


def unread(pipeline: Pipeline, runs: Sequence[Run]) -> list[LostAtStart]:
    """What was deleted between the snapshot that a run began from and its start."""
    found = []
    for run in runs:
        begins = {(topic, partition): low for topic, partition, low in run.begins}
        for topic, partition, offset in run.offsets:
            size = begins.get((topic, partition), 0) - max(0, offset)
            if size > 0 and not may_be_markers(size, 0, in_transactions=topic in pipeline.written):
                lost = (topic, partition, max(0, offset), max(0, offset) + size)
                found.append(LostAtStart(run.number, *lost, accepted="records_gone" in run.accepted))
    return found


def moments(runs: Sequence[Run]) -> list[Moment]:
    """When it is known how far a job had read: a run begins with what is before its offsets read. Those of before the
    topics were brought back from a backup are offsets of others."""
    return [
        Moment(run.started_ms, {(topic, partition): offset for topic, partition, offset in run.offsets})
        for run in runs
        if run.offsets and run.generation == runs[-1].generation
    ]


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
