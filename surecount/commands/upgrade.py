"""The command ``surecount upgrade``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from surecount import config
from surecount.commands.life import Accept, OnlyJob, chosen_jobs, prepare
from surecount.config import Pipeline, parse_duration
from surecount.console import AsJson, Directory, FlinkUrl, PipelineFile, err, find_cluster, out, print_json
from surecount.errors import SurecountError
from surecount.local.stack import DEFAULT_DIRECTORY
from surecount.ops.submit import job_name
from surecount.ops.upgrade import Upgrade, as_json, refused
from surecount.ops.upgrade_plan import Plan

_WITHIN_MS = 120_000


def upgrade(
    pipeline: PipelineFile,
    directory: Directory = DEFAULT_DIRECTORY,
    flink: FlinkUrl = None,
    job: OnlyJob = None,
    parallelism: Annotated[int | None, typer.Option(min=1, help="Default: that of the last run.")] = None,
    within: Annotated[
        str | None,
        typer.Option(
            help="How long the new version may take to two checkpoints before the old one is back; "
            "default: 2 min and two intervals."
        ),
    ] = None,
    accept: Accept = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    as_json_: AsJson = False,
) -> None:
    """Upgrade jobs to the current file and code; show a plan first, roll back on failure."""
    loaded = config.load(pipeline)
    within_s = (parse_duration(within) if within else _WITHIN_MS + 2 * loaded.checkpoint.interval) / 1000
    cluster, environment = find_cluster(directory, flink)
    if as_json_ and not (yes or dry_run):
        raise SurecountError("--json does not ask", "add --yes, or --dry-run for the plan only")
    with err.status("asking Flink") as status:
        work = Upgrade(loaded, pipeline, cluster, environment, status.update)
        plans = work.plans(chosen_jobs(loaded, job), parallelism)
    if not as_json_:
        _show(loaded, plans)
    refused(plans, loaded)
    ids: dict[str, str] = {}
    changing = [one for one in plans if one.changes]
    if changing and not dry_run:
        if not yes:
            typer.confirm("go on?", abort=True)
        with err.status("checking topics") as status:
            prepare(loaded, (cluster, environment), [one.job for one in changing], parallelism, accept or ())
            work = Upgrade(loaded, pipeline, cluster, environment, status.update)
            ids = work.run(changing, within_s=within_s, parallelism=parallelism, accepted=accept or ())
    if as_json_:
        print_json(as_json(plans, ids))
        return
    for name, job_id in ids.items():
        out.print(f"{job_name(loaded, name)} runs as {job_id}")


def _show(pipeline: Pipeline, plans: Sequence[Plan]) -> None:
    for one in plans:
        name = job_name(pipeline, one.job)
        if not one.changes:
            out.print(f"{name} stays as it is")
            continue
        down = ""
        if one.downtime:
            down = (
                f"; down for about {one.downtime.total_s:.0f} s (its last checkpoint took"
                f" {one.downtime.checkpoint_s:.1f} s, its last start {one.downtime.start_s:.0f} s)"
            )
        out.print(f"{name}{down}", soft_wrap=True)
        for change in one.changes:
            out.print(f"  {change}", soft_wrap=True)
