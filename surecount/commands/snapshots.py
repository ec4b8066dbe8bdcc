"""The commands ``surecount snapshots list`` and ``prune``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperGroup

from surecount.commands.life import OnlyJob, chosen_jobs, opened
from surecount.config import Pipeline
from surecount.console import AsJson, Directory, FlinkUrl, PipelineFile, flink_url, out, print_json
from surecount.local.stack import DEFAULT_DIRECTORY
from surecount.ops.flink import Flink
from surecount.ops.life import Listed
from surecount.ops.prune import find
from surecount.ops.snapshots import Snapshot
from surecount.ops.submit import job_name


class _ListUnlessNamed(TyperGroup):
    """``snapshots PIPELINE`` is short for ``snapshots list PIPELINE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(no_args_is_help=True, cls=_ListUnlessNamed)


@app.command("list")
def list_(
    pipeline: PipelineFile,
    directory: Directory = DEFAULT_DIRECTORY,
    flink: FlinkUrl = None,
    job: OnlyJob = None,
    as_json: AsJson = False,
) -> None:
    """List the savepoints and retained checkpoints of a pipeline's jobs, and which run began from which."""
    with opened(pipeline, directory, flink) as (loaded, life):
        found = [life.snapshots(name) for name in chosen_jobs(loaded, job)]
    if as_json:
        print_json([_to_dict(loaded, listed) for listed in found])
        return
    for listed in found:
        out.print(_table(loaded, listed))


@app.command()
def prune(
    pipeline: PipelineFile,
    directory: Directory = DEFAULT_DIRECTORY,
    flink: FlinkUrl = None,
    job: OnlyJob = None,
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest snapshots of each job stay.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove snapshots that no restore needs, and leftovers of unfinished ones.

    The run ledger stays as it is. Checkpoints of a job's last run are Flink's to remove.
    """
    rows = []
    with opened(pipeline, directory, flink) as (loaded, life):
        cluster = Flink(flink_url(directory, flink))
        for name in chosen_jobs(loaded, job):
            for one in find(life, cluster, name, keep):
                size = one.folder.size()
                if not dry_run:
                    one.folder.remove()
                rows.append((job_name(loaded, name), one, size))
    if as_json:
        keys = ("name", "path", "run", "what", "bytes")
        print_json([dict(zip(keys, (n, o.folder.uri, o.run, o.what, size), strict=True)) for n, o, size in rows])
        return
    words = "would be removed" if dry_run else "removed"
    for name, one, size in rows:
        out.print(f"{name} {words}: {one.what} of run {one.run}, {size:,} bytes, {one.folder.uri}", soft_wrap=True)
    total = sum(size for *_, size in rows)
    out.print(f"{len(rows)} {words}, {total:,} bytes" if rows else "nothing to remove")


def _table(pipeline: Pipeline, listed: Listed) -> Table:
    table = Table(title=job_name(pipeline, listed.job))
    for column in ("run", "snapshot", "taken", "kind", ""):
        table.add_column(column, overflow="fold")
    for run in listed.runs:
        began = f"from {run.snapshot}" if run.snapshot else "from nothing"
        accepted = f", accepting {', '.join(run.accepted)}" if run.accepted else ""
        table.add_row(str(run.number), f"began {began}{accepted}", _time(run.started_ms), "run", "")
        for snapshot in (s for s in listed.snapshots if s.run == run):
            newest = "newest" if snapshot == listed.newest else ""
            table.add_row("", snapshot.path, _time(snapshot.at_ms), _kind(snapshot), newest)
    return table


def _kind(snapshot: Snapshot) -> str:
    kind = "savepoint" if snapshot.savepoint else "checkpoint"
    return f"{kind} {snapshot.id}{', drained' if snapshot.drained else ''}"


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _to_dict(pipeline: Pipeline, listed: Listed) -> dict[str, Any]:
    return {
        "name": job_name(pipeline, listed.job),
        "newest": listed.newest.path if listed.newest else None,
        "runs": [
            {
                "number": run.number,
                "job": run.job_id,
                "started_ms": run.started_ms,
                "snapshot": run.snapshot,
                "parallelism": run.parallelism,
                "accepted": run.accepted,
                "generation": run.generation,
                "stopped_with": run.stopped_with,
                "config_hash": run.config_hash,
                "code_hash": run.code_hash,
                "versions": run.versions,
            }
            for run in listed.runs
        ],
        "snapshots": [
            {
                "path": snapshot.path,
                "run": snapshot.run.number,
                "id": snapshot.id,
                "at_ms": snapshot.at_ms,
                "savepoint": snapshot.savepoint,
                "drained": snapshot.drained,
                "max_parallelism": snapshot.max_parallelism,
                "offsets": [
                    {"topic": topic, "partition": partition, "offset": offset}
                    for (topic, partition), offset in snapshot.offsets.items()
                ],
            }
            for snapshot in listed.snapshots
        ],
    }
