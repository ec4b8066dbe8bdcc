"""What of PyFlink and Beam is changed in a worker, so that batches cross between Flink and Python quickly.

What runs in workers only is imported where it is used: it loads Beam, and a client that plans a job would take a second
longer.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping
from typing import Any


def prepare_worker() -> None:
    """Change PyFlink and Beam in this process, which is a worker. AttributeError where they are others."""
    _sample_no_states()
    _keep_memory()


def _replace(in_: Any, attributes: Mapping[str, Any]) -> None:
    for name, ours in attributes.items():
        getattr(in_, name)  # one that is not there is another version's
        setattr(in_, name, ours)


def _keep_memory() -> None:
    """Have glibc keep what a batch has freed for the next one.

    It gives larger pieces back, and to have them again page by page took a third of the time of a batch.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for parameter, megabytes in {_M_MMAP_THRESHOLD: 32, _M_TRIM_THRESHOLD: 256, _M_TOP_PAD: 16}.items():
            libc.mallopt(parameter, megabytes << 20)


# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def _sample_no_states() -> None:
    """Have no thread look at what Beam's operations do, for figures that Flink does not show.

    It sleeps up to 200 ms between two looks, and the end of a bundle, on which the whole job waits, waits until it
    wakes.
    """
    from apache_beam.runners.worker import statesampler

    track: Callable[[Any], None] = statesampler.set_current_tracker

    def start(self: Any) -> None:
        self.tracked_thread = threading.current_thread()
        track(self)
        self.started = True

    def stop(self: Any) -> None:
        track(None)
        self.finished = True

    _replace(statesampler.StateSampler, {"start": start, "stop": stop})
