"""The command ``surecount doctor``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from surecount import config
from surecount.console import AsJson, Directory, FlinkUrl, PipelineFile, err, find_cluster, out, print_json
from surecount.doctor import Row, diagnose
from surecount.errors import SurecountError
from surecount.local.stack import DEFAULT_DIRECTORY
from surecount.ops.history import history
from surecount.ops.ledger import Ledger
from surecount.ops.snapshots import Folders

_LOST = "lost_commits"
_STYLES = {"ok": "green", "unknown": "magenta", "warn": "yellow", "fail": "red"}


def doctor(
    pipeline: PipelineFile,
    directory: Directory = DEFAULT_DIRECTORY,
    flink: FlinkUrl = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(metavar=_LOST, help="Keep in the ledger that failed commits up to now are known, and lost."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find what would lose, double or delay records; exit 1 if a check fails."""
    if unknown := [code for code in accept or () if code != _LOST]:
        raise SurecountError(f"--accept {unknown[0]}: the doctor knows no such code", f"it knows {_LOST}")
    loaded = config.load(pipeline)
    cluster, environment = find_cluster(directory, flink)
    if accept:
        history(loaded, cluster)  # those of now are among them
        for job in loaded.jobs:
            Ledger(Folders.of(cluster).savepoints, loaded, job).settle()
    with err.status("asking Kafka and Flink"):
        rows = diagnose(loaded, cluster, environment)
    if as_json:
        print_json([_to_dict(row) for row in rows])
    else:
        out.print(_table(rows))
        counts = {state: sum(row.state == state for row in rows) for state in _STYLES}
        out.print(", ".join(f"{number} {state}" for state, number in counts.items() if number))
    if any(row.state == "fail" for row in rows):
        raise typer.Exit(1)


def print_notes(rows: Iterable[Row]) -> None:
    """Rows that are not right, but no reason to stop, on standard error."""
    for row in rows:
        lines = [f"{row.check.id}: {finding.seen}" for finding in row.telling]
        text = "\n".join([*lines, *(f"  → {mend}" for mend in row.mends)])
        err.print(f"note: {text}", style="yellow")


def _table(rows: Iterable[Row]) -> Table:
    table = Table()
    table.add_column("check", no_wrap=True)
    table.add_column("state")
    table.add_column("seen, why it matters, how to mend it", overflow="fold")
    for row in rows:
        text = Text("\n".join(finding.seen for finding in row.telling))
        if row.mends:
            text.append(f"\n{row.check.why}", style="dim")
            text.append("".join(f"\n→ {mend}" for mend in row.mends), style=_STYLES[row.state])
        table.add_row(row.check.id, Text(row.state, style=_STYLES[row.state]), text)
    return table


def _to_dict(row: Row) -> dict[str, Any]:
    return {
        "id": row.check.id,
        "state": row.state,
        "findings": [{"state": finding.state, "seen": finding.seen} for finding in row.findings],
        "why": row.check.why,
        "mend": row.mends,
    }
