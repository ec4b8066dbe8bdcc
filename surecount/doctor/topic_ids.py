"""Rules over the identity of topics: a running job reads and writes those that it began with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from surecount import topics
from surecount.audit.identity import made_anew
from surecount.config import Pipeline
from surecount.doctor.facts import Facts, Unseen, seen
from surecount.doctor.findings import Finding
from surecount.errors import SurecountError
from surecount.ops.flink import Flink, Job
from surecount.ops.ledger import Ledger, Run
from surecount.ops.snapshots import Folders


def now(pipeline: Pipeline, job: str) -> Mapping[str, str] | Unseen:
    """The brokers' ids, by topic, of what a job reads and writes, of those topics that exist."""
    try:
        read = topics.ids_of(*pipeline.reads(job))
        return {**topics.ids_of(pipeline.kafka, pipeline.writes(job)), **read}
    except SurecountError as error:
        return Unseen(error.message)


def of_job(name: str, run: Run, found: Mapping[str, str] | Unseen) -> list[Finding]:
    """All that can be said of one running job, whose topics have the ids ``found`` now."""
    if isinstance(found, Unseen):
        return [
            Finding("unknown", f"{name}: whether its topics are those that it began with is not known: {found.why}")
        ]
    was = {**run.output_ids, **run.topic_ids}
    wrong = [Finding("fail", f"{name}: {told}") for _, told in made_anew(was, found, run.topic_ids)]
    return wrong or [Finding("ok", f"{name} has the {len(was)} topics that it began with")]


def of_named(flink: Flink, job: Job) -> list[Finding]:
    """The same of a job as Flink lists it, whose pipeline the ledger knows; nothing of a job that it does not know.

    The ledger keeps no client properties, so where the brokers ask for some, that is what is found.
    """
    try:
        runs = Ledger.named(Folders.of(flink).savepoints, job.name).runs()
        run = next((run for run in runs if run.job_id == job.id), None)
        if run is None:
            return []
        pipeline = run.pipeline()
    except SurecountError as error:
        return [Finding("unknown", f"{job.name}: the ledger does not tell its topics: {error.message}")]
    return of_job(job.name, run, now(pipeline, job.name.removeprefix(f"{pipeline.name}.")))


def same_topics(facts: Facts) -> Iterator[Finding]:
    """Topics of the jobs that run."""
    runs = seen(facts.runs)
    told = False
    for job, running in seen(facts.jobs).items():
        run = next((run for run in runs.get(job, ()) if running is not None and run.job_id == running.id), None)
        if running is not None and run is not None:
            told = True
            yield from of_job(running.name, run, facts.topic_ids.get(job, Unseen("it was not asked for")))
    if not told:
        yield Finding("ok", "no job runs that the ledger knows")
