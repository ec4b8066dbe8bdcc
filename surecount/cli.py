"""The command line: ``surecount COMMAND``.

Exit codes: 0 done, 1 a check failed as it should (the books don't balance, something is not healthy),
2 wrong use or a broken environment. Ctrl-C ends with 130, SIGTERM with 143.
"""

from __future__ import annotations

import dataclasses
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from surecount import __version__, config, live, templates, topics
from surecount import demo as demonstration
from surecount import plan as plans
from surecount.commands import backup, doctor, life, rejects, snapshots
from surecount.commands.acls import acls
from surecount.commands.chaos import chaos
from surecount.commands.send import send
from surecount.commands.upgrade import upgrade
from surecount.config import Pipeline, parse_duration
from surecount.console import (
    AsJson,
    Directory,
    FlinkUrl,
    PipelineFile,
    err,
    find_cluster,
    flink_url,
    out,
    print_json,
    progress,
    run,
    with_rest_tls,
)
from surecount.doctor import health
from surecount.errors import SurecountError
from surecount.generate import generate as run_generate
from surecount.generator.options import Options, parse_start
from surecount.kafka import security
from surecount.local.flink import parse_settings
from surecount.local.stack import DEFAULT_DIRECTORY, Stack, StackRunsError
from surecount.ops import bounded as bounded_runs
from surecount.ops.code import check_decode
from surecount.ops.flink import Flink
from surecount.ops.history import History, history
from surecount.ops.life import Troubles
from surecount.ops.restore import LATEST
from surecount.ops.steps import Step
from surecount.ops.submit import check_outputs_empty, confirm, job_name
from surecount.ops.submit import submit as run_submit
from surecount.watch import Watch

app = typer.Typer(
    help="Counts and sums over Kafka that stay exact through failures, and that can be audited.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line, errors as one clear text on standard error."""
    run(app)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        out.print(f"surecount {__version__}")
        raise typer.Exit


@app.command()
def up(
    directory: Directory = DEFAULT_DIRECTORY,
    brokers: Annotated[int | None, typer.Option(help="1 or 3; default: 3 with --ha, else 1.")] = None,
    taskmanagers: Annotated[int, typer.Option(min=1)] = 1,
    slots: Annotated[int, typer.Option(min=1, help="Slots of each TaskManager.")] = 2,
    kafka_port: Annotated[int, typer.Option(help="The first broker's port; 0 for any free one.")] = 9092,
    flink_port: Annotated[
        int, typer.Option(help="The first JobManager's port of Flink's REST API and UI; 0 for any free one.")
    ] = 8081,
    flink: Annotated[
        bool, typer.Option("--flink/--no-flink", help="Without: only Kafka, as a second cluster of raw topics.")
    ] = True,
    ha: Annotated[
        bool, typer.Option("--ha", help="Two JobManagers and ZooKeeper: jobs go on when any process dies.")
    ] = False,
    secure: Annotated[
        bool, typer.Option("--secure", help="Clients come over TLS, authenticate, and need ACLs; makes certificates.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of Flink's, in place of that in flink-conf/."),
    ] = None,
) -> None:
    """Start Kafka and Flink as processes of this machine."""
    stack = Stack(directory)
    flink_settings = parse_settings(settings or [])
    try:
        live.start(
            stack,
            brokers=(3 if ha else 1) if brokers is None else brokers,
            taskmanagers=taskmanagers,
            slots=slots,
            kafka_port=kafka_port,
            flink_port=flink_port,
            flink=flink,
            ha=ha,
            secure=secure,
            flink_settings=flink_settings,
        )
    except StackRunsError as running:
        out.print(running.message)
    if secure:
        out.print(
            f"secured: put {stack.client_file} into a pipeline file, and give its user rights with "
            "`surecount acls PIPELINE --grant`",
            highlight=False,
            soft_wrap=True,
        )
    where = f"Kafka {stack.bootstrap_servers}" + (f"   Flink {stack.flink_url}" if flink else "")
    out.print(where)


@app.command()
def status(directory: Directory = DEFAULT_DIRECTORY, as_json: AsJson = False) -> None:
    """Show the health of every process and job; exit 1 if something is wrong.

    A job is unhealthy when it failed, or runs twice; when its last checkpoint failed, or none was completed for long;
    when a commit failed that nobody has accepted; when it restarted within 10 minutes, or has completed no checkpoint
    since; when a topic was deleted and recreated under it; when its watermark is in the future or stands still; or when
    the share of rejects, duplicates or late records jumped.
    """
    found = Stack(directory).status()
    jobs_found = health.of_jobs(Flink(found.flink_url)) if found.ok and found.flink_url else []
    problems = [*found.problems, *(problem for job in jobs_found for problem in job.problems)]
    if as_json:
        jobs_shown = [dataclasses.asdict(job) for job in jobs_found]
        print_json({**dataclasses.asdict(found), "ok": not problems, "problems": problems, "jobs": jobs_shown})
    else:
        table = Table("process", "state", "pid")
        for column in ("up", "restarts", "memory"):
            table.add_column(column, justify="right")
        for p in found.processes:
            up_s = f"{p.uptime_s:.0f} s" if p.uptime_s is not None else ""
            state = f"{p.state}, leads" if p.name == found.leader else p.state
            table.add_row(p.name, state, str(p.pid or ""), up_s, str(p.restarts), f"{p.rss_bytes >> 20} MiB")
        out.print(table)
        for job in jobs_found:
            out.print(f"job {job.name} {job.state} {job.id}")
            for note in job.notes:
                out.print(f"  {note}", style="yellow")
        for problem in problems:
            err.print(f"problem: {problem}", style="red")
    if problems:
        raise typer.Exit(1)


@app.command()
def down(
    directory: Directory = DEFAULT_DIRECTORY,
    purge: Annotated[bool, typer.Option(help="Remove the folder with all its data too.")] = False,
) -> None:
    """Stop everything that `up` started."""
    with out.status("stopping"):
        stopped = Stack(directory).down(purge=purge)
    out.print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def new(name: str, folder: Annotated[Path, typer.Option(help="Where to write.")] = Path()) -> None:
    """Write a commented pipeline file, its JSON Schema for editors, and an example udf."""
    config.check_name(name)
    for path in templates.write(folder, name):
        out.print(f"wrote {path}")
    schema = folder / "pipeline.schema.json"
    schema.write_text(json.dumps(config.json_schema(), indent=2) + "\n", encoding="utf-8")
    out.print(f"wrote {schema}\nnext: surecount check {folder / name}.toml")


@app.command()
def check(
    pipeline: Annotated[Path | None, typer.Argument(metavar="PIPELINE")] = None,
    as_json: AsJson = False,
    schema: Annotated[bool, typer.Option(help="Print the JSON Schema of pipeline files.")] = False,
) -> None:
    """Validate a pipeline file and print its plan."""
    if schema:
        print_json(config.json_schema())
        return
    if pipeline is None:
        raise SurecountError("no pipeline file named", "surecount check PIPELINE, or --schema")
    loaded = config.load(pipeline)
    check_decode(pipeline, loaded)
    content = {**plans.plan(loaded), "warnings": security.check(loaded)}
    if as_json:
        print_json(content)
    else:
        for line in plans.lines(content):
            out.print(line)


@app.command()
def generate(
    pipeline: PipelineFile,
    events: Annotated[int, typer.Option(help="How many; copies and bad records come on top.")],
    keys: Annotated[int | None, typer.Option(help="Distinct keys of the first aggregate.")] = None,
    rate: Annotated[float | None, typer.Option(help="Events a second; default: as fast as it goes.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed makes the same records.")] = 0,
    late: Annotated[float, typer.Option(help="Fraction sent after their window closed.")] = 0.0,
    bad: Annotated[float, typer.Option(help="Fraction of extra records that cannot be used.")] = 0.0,
    duplicates: Annotated[float, typer.Option(help="Fraction sent twice.")] = 0.0,
    disorder: Annotated[str, typer.Option(help="How far events are out of order, such as '3 s'.")] = "0 s",
    partitions: Annotated[int, typer.Option(help="For topics that don't exist yet.")] = 4,
    start_at: Annotated[
        str | None, typer.Option("--start", help="First event time, such as 2026-01-31T00:00:00Z.")
    ] = None,
    per_window: Annotated[int, typer.Option(help="Events of a key in a window, where no rate says it.")] = 10,
    huge: Annotated[bool, typer.Option(help="5 MB values among the bad records.")] = False,
    pathway: Annotated[str | None, typer.Option(help="The one to send on; default: all of them.")] = None,
    skew: Annotated[str, typer.Option(help="How far the clocks of two producers in three are off.")] = "0 s",
    as_json: AsJson = False,
) -> None:
    """Generate deterministic events with a known answer for every window."""
    loaded = config.load(pipeline)
    options = Options(
        events=events, keys=keys, rate=rate, seed=seed, late=late, bad=bad, duplicates=duplicates,
        disorder_ms=_duration("--disorder", disorder), skew_ms=_duration("--skew", skew), partitions=partitions,
        per_window=per_window, huge=huge, pathway=pathway, start_ms=parse_start(start_at) if start_at else None,
    )  # fmt: skip
    with progress("events", events) as bar:
        summary = run_generate(loaded, options, bar)
    if as_json:
        print_json(dataclasses.asdict(summary))
    else:
        out.print(str(summary))
    if summary.expected is None:
        raise typer.Exit(130)


def _duration(option: str, text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise SurecountError(f"{option}: {error}") from error


app.command()(send)
for command in (
    *(life.stop, life.start, life.savepoint, life.rescale, upgrade),
    *(backup.backup, backup.recover, doctor.doctor, acls, chaos),
):
    app.command()(command)
app.add_typer(snapshots.app, name="snapshots", help="List and prune savepoints and checkpoints.")
app.add_typer(rejects.app, name="rejects", help="List, count and replay rejected records.")


@app.command()
def submit(
    pipeline: PipelineFile,
    directory: Directory = DEFAULT_DIRECTORY,
    flink: FlinkUrl = None,
    job: Annotated[str | None, typer.Option(help="Only this job of the pipeline; default: all of them.")] = None,
    parallelism: Annotated[int, typer.Option(min=1)] = 1,
    bounded: Annotated[bool, typer.Option(help="Read what is there, close all windows, and wait for the end.")] = False,
    snapshot: Annotated[
        str | None,
        typer.Option("--from", metavar="latest|PATH", help="The savepoint or checkpoint to start from; default: none."),
    ] = None,
    accept: life.Accept = None,
    as_json: AsJson = False,
) -> None:
    """Submit a pipeline's jobs to the local stack, or to any Flink cluster."""
    loaded = config.load(pipeline)
    names = life.chosen_jobs(loaded, job, None if snapshot == LATEST else snapshot)
    cluster, environment = find_cluster(directory, flink)
    life.prepare(loaded, (cluster, environment), names[:1] if bounded else names, parallelism, accept or ())
    if snapshot is None:
        for name in names:
            check_outputs_empty(loaded, name)
    done = []
    troubles = Troubles(loaded)
    for name in names:
        # A bounded run would be without what the relay does not bring.
        with nullcontext() if bounded else troubles.of(name):
            with err.status("asking Flink") as status:
                job_id = run_submit(
                    loaded, pipeline, cluster, environment,
                    job=name, parallelism=parallelism, bounded=bounded, snapshot=snapshot, accepted=accept or (),
                    on_step=status.update,
                )  # fmt: skip
                if not bounded:
                    status.update(Step.AWAITING.of(job_name(loaded, name)))
                    seconds = bounded_runs.wait_until_running(cluster, job_id)
                confirm(loaded, name, cluster, job_id, status.update)
            if bounded:
                seconds = _wait_for_end(loaded, name, cluster, job_id)
            state = cluster.state(job_id)
            done.append({"job": job_id, "name": job_name(loaded, name), "state": state, "seconds": seconds})
            if not as_json:
                out.print(f"{job_name(loaded, name)} {state} after {seconds:.1f} s, job {job_id}")
    if as_json:
        print_json(done)
    troubles.check([name for name in names if any(job["name"] == job_name(loaded, name) for job in done)])


def _wait_for_end(pipeline: Pipeline, job: str, cluster: Flink, job_id: str) -> float:
    total = sum(high - low for low, high in topics.offsets(*pipeline.reads(job)).values())
    with progress("records", total) as bar:
        return bounded_runs.wait_for_end(cluster, job_id, bar)


@app.command()
def jobs(directory: Directory = DEFAULT_DIRECTORY, flink: FlinkUrl = None, as_json: AsJson = False) -> None:
    """List the cluster's jobs."""
    found = Flink(flink_url(directory, flink)).jobs()
    if as_json:
        print_json([dataclasses.asdict(job) for job in found])
        return
    table = Table("job", "state", "id")
    for job in found:
        table.add_row(job.name, job.state, job.id)
    out.print(table if found else "no jobs")


@app.command()
def watch(
    pipeline: PipelineFile,
    directory: Directory = DEFAULT_DIRECTORY,
    flink: FlinkUrl = None,
    seconds: Annotated[float | None, typer.Option("--for", help="End after so many seconds; default: Ctrl-C.")] = None,
) -> None:
    """Watch windows close, with rates, checkpoints and restarts."""
    loaded = config.load(pipeline)
    with Watch(loaded, Flink(flink_url(directory, flink))) as view:
        live.show(view, (lambda elapsed: elapsed < seconds) if seconds else (lambda _: True))


@app.command()
def audit(
    pipeline: PipelineFile,
    directory: Directory = DEFAULT_DIRECTORY,
    flink: FlinkUrl = None,
    bounded: Annotated[bool, typer.Option(help="The job ran --bounded: nothing may be open.")] = False,
    timeout: Annotated[str, typer.Option(help="How long to wait until nothing is pending.")] = "2 min",
    as_json: AsJson = False,
) -> None:
    """Recount the input independently and compare; exit 1 if the books don't balance."""
    loaded = config.load(pipeline)
    check_decode(pipeline, loaded)
    timeout_s = parse_duration(timeout) / 1000
    report = live.audited(loaded, _history(loaded, directory, flink), bounded=bounded, timeout_s=timeout_s)
    if as_json:
        print_json(report.to_dict())
    else:
        report.print(out)
    if not report.balanced:
        raise typer.Exit(1)


def _history(pipeline: Pipeline, directory: Path, flink: str | None) -> History | None:
    """What the run ledger knows; None, with a note, where it cannot be read."""
    try:
        return history(pipeline, Flink(flink_url(directory, flink)))
    except SurecountError as error:
        note = f"note: the run ledger is not read, so what upgrades changed is not known: {error.message}"
        err.print(note, style="yellow")
        return None


@app.command()
def demo(
    seconds: Annotated[int, typer.Option(min=20, help="How long to generate.")] = 40,
    keep: Annotated[bool, typer.Option(help="Keep the folder with logs and data.")] = False,
) -> None:
    """Run all at once: up, generate, submit, watch, kill -9 a TaskManager, audit, down."""
    demonstration.run(seconds, keep=keep)


for registered in (*app.registered_commands, *snapshots.app.registered_commands):
    registered.callback = with_rest_tls(registered.callback)


if __name__ == "__main__":
    main()
