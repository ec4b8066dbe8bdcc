"""The load of a run of chaos: a generator in a process of its own, which can be stopped for a while."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Self

import psutil

from surecount.config import Pipeline
from surecount.generate import Summary, generate
from surecount.generator.options import Options

_END_S = 150.0


class Load:
    """Sends events until :meth:`end`. It is a context manager, which leaves no process behind."""

    def __init__(self, pipeline: Pipeline, options: Options) -> None:
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        self._pid = self._pool.submit(os.getpid).result()
        self._sending: Future[Summary] = self._pool.submit(generate, pipeline, options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._sending.done():
            with suppress(psutil.NoSuchProcess):  # Ctrl-C has reached it, too
                psutil.Process(self._pid).kill()
        self._pool.shutdown()

    def check(self) -> None:
        """Raise what ended it, where it has ended."""
        if self._sending.done():
            self._sending.result()

    def hold_back(self, seconds: float) -> None:
        """Send nothing for so long, and then all of it at once."""
        os.kill(self._pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(self._pid, signal.SIGCONT)

    def end(self) -> Summary:
        """Stop; what was sent, and is acknowledged."""
        if not self._sending.done():
            os.kill(self._pid, signal.SIGINT)
        return self._sending.result(_END_S)
