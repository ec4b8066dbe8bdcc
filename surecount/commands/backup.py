"""The commands ``surecount backup`` and ``recover``."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from surecount import config
from surecount.commands.life import Accept, prepare
from surecount.console import AsJson, Directory, FlinkUrl, PipelineFile, err, find_cluster, out, print_json
from surecount.local.stack import DEFAULT_DIRECTORY
from surecount.ops import backup as backups
from surecount.ops.life import Life, told
from surecount.ops.recover import Recovery, bring_files
from surecount.ops.storage import Folder, uri_of
from surecount.ops.submit import job_name

BackupFolder = Annotated[str, typer.Argument(metavar="BACKUP", help="A folder, by its path or URI.")]


def backup(
    pipeline: PipelineFile,
    folder: BackupFolder,
    directory: Directory = DEFAULT_DIRECTORY,
    flink: FlinkUrl = None,
    as_json: AsJson = False,
) -> None:
    """Save savepoints, ledger, topic settings and offsets; stop the jobs for a moment."""
    loaded = config.load(pipeline)
    cluster, environment = find_cluster(directory, flink)
    target = _folder(folder)
    began = time.monotonic()
    with err.status("asking Flink") as status:
        made = backups.Work(loaded, pipeline, cluster, environment, target, status.update).run()
    if as_json:
        print_json(backups.to_dict(made, target))
        return
    out.print(
        f"{target.uri}: {len(made.jobs)} jobs, {len(made.topics)} topics, "
        f"{len(made.groups) + len(made.sendings)} groups of others, in {time.monotonic() - began:.0f} s",
        soft_wrap=True,
    )
    out.print("the records themselves are not in it: mirror or restore the topics")


def recover(
    folder: BackupFolder,
    pipeline: PipelineFile,
    directory: Directory = DEFAULT_DIRECTORY,
    flink: FlinkUrl = None,
    accept: Accept = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Make missing topics and say what would be done, no more.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a backup onto an empty stack with mirrored or restored topics.

    PIPELINE is written from the backup where it is not there; where it is, it may have other addresses.
    """
    source = _folder(folder)
    kept = backups.load(source)
    for path in bring_files(source, kept, pipeline):
        err.print(f"wrote {path} from the backup", soft_wrap=True)
    loaded = config.load(pipeline)
    cluster, environment = find_cluster(directory, flink)
    with err.status("asking Kafka") as status:
        work = Recovery(source, kept, loaded, cluster, status.update)
        made, created = work.prepare()
        ids: dict[str, str] = {}
        if not dry_run:
            work.bring(made, accept or ())
            with told("all is brought back; `surecount start` starts what does not run"):
                prepare(loaded, (cluster, environment), loaded.jobs, None, accept or ())
                life = Life(loaded, pipeline, cluster, environment, status.update)
                ids = life.start(loaded.jobs, accepted=accept or ())
    if as_json:
        print_json(
            {
                "created": created,
                "jobs": {job_name(loaded, job): job_id for job, job_id in ids.items()},
                "refusals": [asdict(refusal) for refusal in made.refusals],
                "notes": made.notes,
            }
        )
        return
    if created:
        out.print(f"made {', '.join(created)}", soft_wrap=True)
    for refusal in made.refusals if dry_run else ():
        out.print(f"would be refused: {refusal}", soft_wrap=True)
    if dry_run and not made.refusals:
        out.print(f"{', '.join(job_name(loaded, job) for job in loaded.jobs)} can go on exactly from the backup")
    for note in made.notes:
        out.print(f"note: {note}", soft_wrap=True)
    for job, job_id in ids.items():
        out.print(f"{job_name(loaded, job)} runs as {job_id}")


def _folder(path: str) -> Folder:
    return Folder(uri_of(path if ":/" in path else str(Path(path).resolve())))
