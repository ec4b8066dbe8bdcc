"""The command ``surecount send``."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from surecount import config
from surecount import send as sending
from surecount.config import parse_duration
from surecount.console import AsJson, PipelineFile, out, print_json, progress
from surecount.errors import SurecountError

_STDIN = Path("-")


def send(
    pipeline: PipelineFile,
    file: Annotated[Path, typer.Argument(metavar="[FILE|-]", help="Lines to send; - is standard input.")] = _STDIN,
    pathway: Annotated[str | None, typer.Option(help="Whose topic; default: the first one's.")] = None,
    topic: Annotated[str | None, typer.Option(help="One of the pathway's topics; default: its first.")] = None,
    key: Annotated[str | None, typer.Option(metavar="FIELD", help="The JSON field that is the record's key.")] = None,
    send_id: Annotated[
        str | None, typer.Option("--id", help="Under which Kafka keeps the position; default: the file's own.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the last transaction ended.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Send all once more.")] = False,
    starts_at: Annotated[
        int, typer.Option(min=0, metavar="BYTE", help="FILE is the rest of an input, from this byte on.")
    ] = 0,
    give_up_after: Annotated[str, typer.Option(help="How long Kafka may give no answer.")] = "2 min",
    as_json: AsJson = False,
) -> None:
    """Send JSON lines exactly once, also when killed and resumed."""
    loaded = config.load(pipeline)
    try:
        give_up_ms = parse_duration(give_up_after)
    except ValueError as error:
        raise SurecountError(f"--give-up-after: {error}") from error
    options = sending.Options(
        file=None if file == _STDIN else file, pathway=pathway, topic=topic, key=key, id=send_id,
        resume=resume, again=again, starts_at=starts_at, give_up_ms=give_up_ms,
    )  # fmt: skip
    with progress("records" if options.file is None else "bytes", None) as bar:
        summary = sending.send(loaded, options, lambda done, size: bar(done) if size is None else bar.both(done, size))
    if as_json:
        print_json(summary.to_dict())
    else:
        out.print(str(summary))
    if summary.stopped_by is not None:
        # Nothing is left to protect, so it may do what it does to every command.
        signal.raise_signal(summary.stopped_by)
