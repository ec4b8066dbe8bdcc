"""The commands ``surecount rejects list``, ``count`` and ``replay``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from surecount import config, rejects
from surecount import replay as replaying
from surecount.console import AsJson, PipelineFile, out, print_json, progress
from surecount.foreign_text import visible

app = typer.Typer(no_args_is_help=True)

_SHOWN = 40
_SHOWN_DETAIL = 80

Reasons = Annotated[list[str] | None, typer.Option("--reason", metavar="REASON", help="Only this one; repeatable.")]


class Forgotten(StrEnum):
    """What to do with rejects of which it is not known whether they were replayed."""

    SKIP = "skip"
    SEND = "send"


@app.command("list")
def list_(
    pipeline: PipelineFile,
    reason: Reasons = None,
    limit: Annotated[int, typer.Option(min=1, help="How many of the newest.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line for scripts.")] = False,
) -> None:
    """List the latest rejects with their reasons, newest last."""
    loaded = config.load(pipeline)
    with progress("rejects", None) as bar:
        found = rejects.newest(loaded, limit, reason or (), bar.both)
    if as_json:
        sys.stdout.writelines(json.dumps(reject.to_dict()) + "\n" for reject in found)
    elif found:
        out.print(_table(found))
    else:
        out.print("no rejects")


def _table(found: list[rejects.Reject]) -> Table:
    table = Table()
    for column in ("when", "job", "from", "reason", "detail", "key", "value"):
        table.add_column(column, overflow="fold")
    for reject in found:
        texts = (reject.when, reject.said("job"), reject.origin, reject.reason)
        detail = reject.said("detail").encode()
        table.add_row(
            *(Text(printable(text.encode(), len(text))) for text in texts),
            Text(printable(detail, _SHOWN_DETAIL)),
            Text(printable(reject.key, _SHOWN)),
            Text(printable(reject.value, _SHOWN)),
        )
    return table


def printable(data: bytes | None, length: int) -> str:
    """At most so many of the characters of UTF-8, with escapes in place of other bytes and of control characters."""
    if data is None:
        return "(none)"
    # No character has more than 4 bytes, so one that is cut here is not shown.
    text = data[: 4 * length + 4].decode("utf-8", "backslashreplace")
    shown = visible(text[:length])
    return f"{shown}…" if len(text) > length else shown


@app.command()
def count(pipeline: PipelineFile, as_json: AsJson = False) -> None:
    """Count rejects by reason, job and pathway."""
    loaded = config.load(pipeline)
    with progress("rejects", None) as bar:
        counts = rejects.count(loaded, bar.both)
    by_reason: Counter[str] = Counter()
    for (reason, _, _), number in counts.items():
        by_reason[reason] += number
    rows = sorted(counts.items())
    if as_json:
        keys = ("reason", "job", "pathway", "count")
        counted = [dict(zip(keys, (*row, number), strict=True)) for row, number in rows]
        print_json({"total": counts.total(), "by_reason": dict(sorted(by_reason.items())), "rejects": counted})
        return
    table = Table("reason", "job", "pathway", show_footer=True)
    table.columns[0].footer = "total"
    table.add_column("count", justify="right", footer=f"{counts.total():,}")
    for row, number in rows:
        table.add_row(*(Text(text) for text in row), f"{number:,}")
    out.print(table if rows else "no rejects")


@app.command()
def replay(
    pipeline: PipelineFile,
    reason: Annotated[
        list[str] | None,
        typer.Option(
            "--reason",
            metavar="REASON",
            help="Only this reason; repeatable. Default: all but beyond_horizon (may be copies of events that count "
            "already), tombstone (nothing to mend) and kafka_timestamp (its event time would be that of the replay).",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
    forgotten: Annotated[
        Forgotten | None,
        typer.Option(help="What to do with rejects of which it is not known whether they were replayed."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send rejects again, each once, after the pipeline file or a function was fixed.

    What is rejected again is a new reject. Interrupted, the same command goes on. Kafka keeps how far each
    reason is replayed for as long as the brokers' offsets.retention.minutes say, 7 days by default. After that the
    replay topic tells; without one, older rejects are refused.
    """
    loaded = config.load(pipeline)
    with progress("rejects", None) as bar:
        what = forgotten.value if forgotten else None
        summary = replaying.replay(loaded, reason or (), dry_run=dry_run, forgotten=what, on_progress=bar.both)
    if as_json:
        print_json(summary.to_dict())
    else:
        out.print(str(summary))
