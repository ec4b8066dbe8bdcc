"""What peers' runs have in common: an environment of Python's, and processes with a log each."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import psutil

from surecount.errors import SurecountError

ROOT = Path(__file__).parents[2]
_STOP_S = 30
_SHOWN = 3_000
# The driver's own environment must not reach into a peer's.
_OURS = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}


def environment(folder: Path) -> Path:
    """The ``python`` of ``folder/.venv``, which has what ``folder/requirements.txt`` pins.

    It is made anew where it is missing or older than what it is made of. Raises SurecountError with the installer's
    last words.
    """
    requirements, venv = folder / "requirements.txt", folder / ".venv"
    python, stamp = venv / "bin" / "python", venv / ".installed"
    if stale(stamp, requirements):
        run([sys.executable, "-m", "venv", "--clear", str(venv)])
        run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)])
        stamp.touch()
    return python


def pinned(folder: Path, package: str) -> str:
    """The version of a package in ``folder/requirements.txt``."""
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return next(line.partition("==")[2] for line in lines if re.split(r"[\[=]", line)[0] == package)


def stale(stamp: Path, source: Path) -> bool:
    """Whether what ``stamp`` stands for has to be made (again) of ``source``."""
    return not stamp.exists() or stamp.stat().st_mtime < source.stat().st_mtime


def run(command: Sequence[str]) -> None:
    """Run a command to its end. Raises SurecountError with the end of what it printed where it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_clean())
    if done.returncode:
        said = (done.stdout + done.stderr)[-_SHOWN:]
        raise SurecountError(f"{' '.join(command)} failed with exit code {done.returncode}:\n{said}")


class Processes:
    """The processes of one run, which go on until they are stopped; a :class:`~benchmarks.peers.peer.Running`.

    Each has a log in ``folder``, and its temporary files there, too. All that they start is theirs, and ends with them.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        folder: Path,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._logs = {name: folder / f"{name}.log" for name in commands}
        self._started: dict[str, psutil.Popen] = {}
        environment = {**_clean(), "TMPDIR": str(folder), **variables}
        try:
            for name, command in commands.items():
                with self._logs[name].open("wb") as log:
                    self._started[name] = psutil.Popen(
                        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                    )
        except OSError as error:
            self.stop()
            raise SurecountError(f"{commands[name][0]} did not start: {error.strerror}") from error

    def processes(self) -> Iterable[int]:
        """Pids of the main processes."""
        return [process.pid for process in self._started.values()]

    def check(self) -> None:
        """Raise SurecountError, with the end of its log, for one that has ended."""
        for name, process in self._started.items():
            code = process.poll()
            if code is not None:
                said = self._logs[name].read_text(encoding="utf-8", errors="replace")[-_SHOWN:]
                raise SurecountError(f"{name} ended with exit code {code}:\n{said}", exit_code=1)

    def stop(self) -> None:
        """End them and all that they started: politely first, after 30 s by force."""
        trees: set[psutil.Process] = set()
        for process in self._started.values():
            if process.poll() is None:
                trees |= {process, *process.children(recursive=True)}
        for process in self._started.values():
            if process.poll() is None:
                process.terminate()
        _, alive = psutil.wait_procs(trees, timeout=_STOP_S)
        for left in alive:
            left.kill()
        psutil.wait_procs(alive)
        self._started.clear()


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _OURS}
