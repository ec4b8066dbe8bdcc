"""The commands ``surecount stop``, ``start``, ``savepoint`` and ``rescale``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from surecount import config, topics
from surecount.commands.doctor import print_notes
from surecount.config import Pipeline
from surecount.console import AsJson, Directory, FlinkUrl, PipelineFile, err, find_cluster, out, print_json
from surecount.doctor import refuse_to_start
from surecount.errors import SurecountError
from surecount.local.stack import DEFAULT_DIRECTORY
from surecount.ops.flink import Flink
from surecount.ops.ledger import config_of, hash_of, newest
from surecount.ops.life import Life
from surecount.ops.namesakes import refuse_namesakes
from surecount.ops.restore import LATEST, check_accepted
from surecount.ops.restore_rules import ACCEPTABLE
from surecount.ops.submit import job_name

OnlyJob = Annotated[str | None, typer.Option("--job", help="Only this job of the pipeline; default: all of them.")]
From = Annotated[str, typer.Option("--from", metavar="latest|PATH", help="The snapshot to go on from.")]
Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        metavar="CODE",
        help=f"Go against a refusal of this code; the ledger keeps it. One of {', '.join(ACCEPTABLE)}.",
    ),
]


def stop(
    pipeline: PipelineFile,
    directory: Directory = DEFAULT_DIRECTORY,
    flink: FlinkUrl = None,
    job: OnlyJob = None,
    as_json: AsJson = False,
) -> None:
    """Stop a pipeline's jobs, each with a savepoint."""
    with opened(pipeline, directory, flink) as (loaded, life):
        _print(loaded, life.stop(chosen_jobs(loaded, job)), "savepoint", "stopped with", as_json=as_json)


def start(
    pipeline: PipelineFile,
    directory: Directory = DEFAULT_DIRECTORY,
    flink: FlinkUrl = None,
    job: OnlyJob = None,
    snapshot: From = LATEST,
    parallelism: Annotated[int | None, typer.Option(min=1, help="Default: that of the last run.")] = None,
    accept: Accept = None,
    as_json: AsJson = False,
) -> None:
    """Start a pipeline's stopped jobs, each from its newest snapshot."""
    with opened(pipeline, directory, flink) as (loaded, life):
        names = chosen_jobs(loaded, job, None if snapshot == LATEST else snapshot)
        prepare(loaded, find_cluster(directory, flink), names, parallelism, accept or ())
        ids = life.start(names, snapshot=snapshot, parallelism=parallelism, accepted=accept or ())
        for name in ids:
            if (last := newest(life.ledger(name).runs())) and last.config_hash != hash_of(config_of(loaded)):
                err.print(
                    f"note: run {last.number} of {job_name(loaded, name)} was written down by another command, with "
                    "another pipeline file\n  → `surecount upgrade` brings that of now",
                    style="yellow",
                )
        if not as_json:
            _say(loaded, names, ids, "runs already")
        _print(loaded, ids, "job", "runs as", as_json=as_json)


def savepoint(
    pipeline: PipelineFile,
    directory: Directory = DEFAULT_DIRECTORY,
    flink: FlinkUrl = None,
    job: OnlyJob = None,
    as_json: AsJson = False,
) -> None:
    """Take a savepoint of each running job."""
    with opened(pipeline, directory, flink) as (loaded, life):
        _print(loaded, life.savepoint(chosen_jobs(loaded, job)), "savepoint", "savepoint", as_json=as_json)


def rescale(
    pipeline: PipelineFile,
    parallelism: Annotated[int, typer.Option(min=1, help="Of each job, from now on.")],
    directory: Directory = DEFAULT_DIRECTORY,
    flink: FlinkUrl = None,
    job: OnlyJob = None,
    accept: Accept = None,
    as_json: AsJson = False,
) -> None:
    """Restart a pipeline's jobs with another parallelism."""
    with opened(pipeline, directory, flink) as (loaded, life):
        names = chosen_jobs(loaded, job)
        # What would keep the jobs from starting again has to be known before they are stopped.
        prepare(loaded, find_cluster(directory, flink), names, parallelism, accept or ())
        ids = life.rescale(names, parallelism, accept or ())
        if not as_json:
            _say(loaded, names, ids, f"has parallelism {parallelism} already")
        _print(loaded, ids, "job", "runs as", as_json=as_json)


def chosen_jobs(pipeline: Pipeline, job: str | None, snapshot: str | None = None) -> tuple[str, ...]:
    """The jobs that ``--job`` names; a ``snapshot`` by its path is of one job."""
    if job is not None and job not in pipeline.jobs:
        raise SurecountError(f"--job {job}: the pipeline has no such job", f"it has {', '.join(pipeline.jobs)}")
    names = pipeline.jobs if job is None else (job,)
    if snapshot is not None and len(names) > 1:
        raise SurecountError("--from names a snapshot, which is of one job", f"add --job {' or '.join(pipeline.jobs)}")
    return names


def prepare(
    pipeline: Pipeline,
    cluster: tuple[Flink, Mapping[str, str]],
    jobs: Sequence[str],
    parallelism: int | None,
    accepted: Collection[str] = (),
) -> None:
    """Check the topics that a pipeline reads, with a note for what may come later, and make those that it writes.

    ``jobs`` are to be started at once with a ``parallelism``, or that of their last runs: what the doctor can see
    before that is checked, and fails, but for the ``accepted`` codes; so does a job of the same name that the run
    ledger does not know. ``cluster`` is Flink, and the environment of its command line.
    """
    check_accepted(accepted)
    for note in topics.check_sources(pipeline):
        err.print(f"note: {note}\n  → its relay waits for it", style="yellow")
    with ThreadPoolExecutor(1) as pool:
        namesakes = pool.submit(refuse_namesakes, pipeline, *cluster, jobs, accepted)  # takes seconds
        print_notes(refuse_to_start(pipeline, *cluster, jobs, parallelism, accepted))
        namesakes.result()
    topics.ensure_outputs(pipeline)


@contextmanager
def opened(file: Path, directory: Path, flink: str | None) -> Iterator[tuple[Pipeline, Life]]:
    """A pipeline file and the life of its jobs on a cluster, with a line that says what is being done."""
    loaded = config.load(file)
    client, environment = find_cluster(directory, flink)
    with err.status("asking Flink") as status:
        yield loaded, Life(loaded, file, client, environment, status.update)


def _say(pipeline: Pipeline, jobs: Iterable[str], done: Collection[str], words: str) -> None:
    """Of the jobs with which nothing was done."""
    for job in jobs:
        if job not in done:
            out.print(f"{job_name(pipeline, job)} {words}")


def _print(pipeline: Pipeline, found: dict[str, str], kind: str, words: str, *, as_json: bool) -> None:
    if as_json:
        print_json([{"name": job_name(pipeline, job), kind: value} for job, value in found.items()])
        return
    for job, value in found.items():
        out.print(f"{job_name(pipeline, job)} {words} {value}", soft_wrap=True)
