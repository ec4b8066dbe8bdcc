"""The command ``surecount chaos``."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from surecount import config
from surecount.chaos import report
from surecount.chaos.run import Hearing, Wanted, run
from surecount.chaos.schedule import FAULTS, chosen
from surecount.chaos.seen import Account, Happened
from surecount.console import AsJson, PipelineFile, err, marked, out, print_json
from surecount.errors import SurecountError


def chaos(
    pipeline: PipelineFile,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same faults and events.")] = 0,
    runs: Annotated[int, typer.Option(min=1, help="How many, one after the other, each with the next seed.")] = 1,
    minutes: Annotated[float, typer.Option(min=0.5, help="How long faults are injected.")] = 5.0,
    faults: Annotated[
        str | None,
        typer.Option(metavar="NAME,…", help=f"Only these of {', '.join(FAULTS)}; default: all that lose nothing."),
    ] = None,
    rate: Annotated[float, typer.Option(help="Events a second on each pathway.")] = 1_000.0,
    keys: Annotated[int | None, typer.Option(min=1, help="Distinct keys of the first aggregate.")] = None,
    brokers: Annotated[int, typer.Option(help="1 or 3.")] = 3,
    taskmanagers: Annotated[int, typer.Option(min=1)] = 2,
    secure: Annotated[
        bool, typer.Option("--secure", help="On brokers with TLS, logins and ACLs, as a user with the least rights.")
    ] = False,
    to: Annotated[Path, typer.Option(help="The folder for reports; each run gets one of its own there.")] = Path(
        "chaos-reports"
    ),
    as_json: AsJson = False,
) -> None:
    """Inject faults under a pipeline on its own stack, and judge every record.

    The pipeline file is used as it is, but for addresses: nothing of yours is touched. Exit 1 when the books do not
    balance, the judge finds something, or the jobs do not recover.
    """
    loaded = config.load(pipeline)
    if not math.isfinite(minutes):
        raise SurecountError(f"--minutes {minutes}: not a time", "write 10 for ten minutes")
    names = [name.strip() for name in faults.split(",")] if faults else _possible(loaded)
    if "kill-ingest" in names and not loaded.has_ingest:
        raise SurecountError("--faults kill-ingest: the pipeline has no ingest", "leave it out")
    failed = []
    for number in range(seed, seed + runs):
        wanted = Wanted(number, minutes, chosen(names), rate, keys, brokers, taskmanagers, secure=secure)
        began = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        folder = to / f"{loaded.name}-{began}-seed{number}"
        again = f"seed {number}; again with: {wanted.command(pipeline)}"
        err.print(again, soft_wrap=True)
        with err.status("starting a stack") as status:
            account = run(loaded, pipeline, wanted, folder / "logs", Hearing(_ready, status.update, _happened))
        page = report.write(account, folder)
        if as_json:
            print_json(report.to_dict(account))
        else:
            _print(account, page)
        if not account.passed:
            failed.append(str(page))
        table = report.write_table(to)
    err.print(f"all runs in {to}: {table}", soft_wrap=True)
    if failed:
        raise SurecountError(f"something went wrong under faults, see {', '.join(failed)}", exit_code=1)


def _print(account: Account, page: Path) -> None:
    if account.books is not None:
        out.print(account.books.summary(), soft_wrap=True)
    for violation in account.verdict.violations:
        out.print(f"{violation.kind}: {violation.detail}", style="red", soft_wrap=True)
    if account.failure is not None:
        out.print(account.failure, style="red", soft_wrap=True)
    if account.passed and not account.verdict.passed:
        out.print("records were lost, as they may be with these faults, and it was told", style="yellow")
    out.print(f"{account.faults} processes and other things broken; report: {page}", soft_wrap=True)


def _ready(name: str, seconds: float) -> None:
    err.print(marked("✓", "green", f"{name} ready after {seconds:.1f} s"))


def _happened(one: Happened) -> None:
    if one.kind in ("fault", "recovered", "note"):
        style = {"fault": "red", "recovered": "green"}.get(one.kind)
        said = f"recovered from {one.what}" if one.kind == "recovered" else one.what
        err.print(f"{one.at_s:6.1f} s  {said}", style=style, soft_wrap=True)


def _possible(pipeline: config.Pipeline) -> list[str]:
    """All faults that lose nothing, but for those of a job that the pipeline does not have."""
    return [
        name for name, fault in FAULTS.items() if not fault.loses and (pipeline.has_ingest or name != "kill-ingest")
    ]
