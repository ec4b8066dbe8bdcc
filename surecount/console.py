"""What all commands share: the two consoles, arguments that mean the same everywhere, progress bars."""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.text import Text

from surecount import rest_tls
from surecount.errors import SurecountError
from surecount.foreign_text import visible
from surecount.local.stack import Stack
from surecount.ops.flink import Flink
from surecount.ops.submit import check_client_tls, client_environment


class SafeConsole(Console):
    """A console that shows foreign text and never obeys it.

    Keys, names and other programs' messages may hold a terminal's commands, or what rich takes for markup. So
    strings are no markup here (a ``Text`` has styles where they are wanted), and what is not printable is escaped:
    in strings before they are laid out, in anything else in the last step, which nothing that is printed can avoid.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """As rich has it, but for what is not printable."""
        return super().render_str(_visible_lines(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """As rich has it, but for what is not printable."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(_visible_lines(segment.text), segment.style)


def _visible_lines(text: str) -> str:
    return text if text.isprintable() else "\n".join(map(visible, text.split("\n")))


out = SafeConsole()
err = SafeConsole(stderr=True)

PipelineFile = Annotated[Path, typer.Argument(metavar="PIPELINE", help="The pipeline's TOML file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Directory = Annotated[
    Path,
    typer.Option("--dir", envvar="SURECOUNT_DIR", help="The folder that holds all of a local stack."),
]
FlinkUrl = Annotated[
    str | None,
    typer.Option(
        "--flink",
        metavar="URL[,URL]",
        help="A cluster's REST address, or those of all its JobManagers; default: the local stack's.",
    ),
]


_REST_FILES = {
    "ca": (rest_tls.CA, "PEM file of the authorities that sign the certificates of Flink's REST API."),
    "cert": (rest_tls.CERT, "PEM file of the certificate to show to Flink's REST API."),
    "key": (rest_tls.KEY, "PEM file of its key."),
}


def with_rest_tls(command: Any) -> Any:
    """The command with ``--ca``, ``--cert`` and ``--key`` where it has ``--flink``. They set the environment's
    variables (:mod:`surecount.rest_tls`), where all that asks Flink finds them."""
    signature = inspect.signature(command, eval_str=True)
    if "flink" not in signature.parameters:
        return command

    @wraps(command)
    def called(*arguments: Any, **named: Any) -> Any:
        for name, (variable, _) in _REST_FILES.items():
            if (file := named.pop(name)) is not None:
                os.environ[variable] = file
        return command(*arguments, **named)

    added = {
        name: Annotated[str | None, typer.Option(f"--{name}", metavar="FILE", envvar=variable, help=text)]
        for name, (variable, text) in _REST_FILES.items()
    }
    parameters = [
        *signature.parameters.values(),
        *(inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=a) for n, a in added.items()),
    ]
    called.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return called


def run(app: typer.Typer) -> None:
    """Run a command line, errors as one clear text on standard error, signals as interrupts that clean up."""
    stopped_by: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        stopped_by.append(number)
        raise KeyboardInterrupt  # so that what was started is stopped before the end

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        app(standalone_mode=True)
    except BaseException as error:
        if stopped_by:  # Kafka's client, for one, makes a TypeError of an interrupt that meets its constructor.
            err.print("interrupted")
            sys.exit(128 + stopped_by[0])
        if not isinstance(error, SurecountError):
            raise
        err.print(f"error: {error}", style="red", soft_wrap=True)
        sys.exit(error.exit_code)


class Bar:
    """A progress bar as the two callbacks that work reports to."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def __call__(self, done: int) -> None:
        """So much is done."""
        self._progress.update(self._task, completed=done)

    def both(self, done: int, total: int) -> None:
        """So much of so much is done."""
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def progress(unit: str, total: int | None) -> Iterator[Bar]:
    """A bar on standard error, gone when it is done; without a ``total`` it gets one as work reports it."""
    columns = (TextColumn(unit), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        yield Bar(progress, progress.add_task(unit, total=total))


def flink_url(directory: Path, flink: str | None) -> str:
    """The cluster that ``--flink`` names, or the local stack's."""
    return flink or Stack(directory).flink_url


def find_cluster(directory: Path, flink: str | None) -> tuple[Flink, dict[str, str]]:
    """The same, with the environment for Flink's command line."""
    if flink is not None:
        client, environment = Flink(flink), client_environment()
        check_client_tls(client.url, environment)
        return client, environment
    stack = Stack(directory)
    return Flink(stack.flink_url), stack.flink_env()


def marked(mark: str, style: str, text: str) -> Text:
    """A line that begins with a coloured mark."""
    return Text.assemble((mark, style), f" {text}")


def print_json(content: Any) -> None:
    """For scripts, on standard output."""
    sys.stdout.write(json.dumps(content, indent=2, default=str) + "\n")
