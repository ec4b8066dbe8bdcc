"""What processes use while they run: CPU seconds and memory, of whole trees, however short-lived their children are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self

import psutil

_CPU_EVERY_S = 0.2
# Reading it costs the kernel a walk through all pages.
_MEMORY_EVERY_S = 2.0


class Usage:
    """Samples processes and their children from now on until it is left.

    ``cpu_s`` are the seconds that they used meanwhile, in user and system mode, what a child used in its last 0.2 s
    aside. ``peak_bytes`` is the most memory of all together (proportional set size).
    """

    def __init__(self, processes: Callable[[], Iterable[int]]) -> None:
        self._processes = processes
        self._last: dict[psutil.Process, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.cpu_s = 0.0
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        # What they used before is not theirs to answer for here.
        self._sample_cpu()
        self.cpu_s = 0.0
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._sample_cpu()

    def _run(self) -> None:
        memory_at = time.monotonic()
        while not self._stop.wait(_CPU_EVERY_S):
            self._sample_cpu()
            if time.monotonic() >= memory_at:
                self._sample_memory()
                memory_at = time.monotonic() + _MEMORY_EVERY_S

    def _tree(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for pid in self._processes():
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                found += [process, *process.children(recursive=True)]
        return found

    def _sample_cpu(self) -> None:
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used = times.user + times.system
                self.cpu_s += used - self._last.get(process, 0.0)
                self._last[process] = used

    def _sample_memory(self) -> None:
        total = 0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        self.peak_bytes = max(self.peak_bytes, total)
