"""Batches cross between Flink and Python as Arrow, and stay Arrow on this side.

PyFlink makes pandas Series of the batches that a vectorised function gets, an object for each value, and Arrow of the
Series that it returns. Both is done in two functions of its ``table/utils.py``, which its coder calls; a worker that
runs our functions has others in their place.

What runs in workers only is imported where it is used: it loads Beam, and a client that plans a job would take a second
longer.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyflink.common import RowKind

_INSERT = RowKind.INSERT.value


def prepare_worker() -> None:
    """Change PyFlink and Beam in this process, which is a worker. AttributeError where they are others."""
    _keep_arrow()
    _read_in_place()
    _sample_no_states()
    _keep_memory()


def _keep_arrow() -> None:
    """Have vectorised functions take and return Arrow arrays."""
    from pyflink.fn_execution import coder_impl_fast

    _replace(coder_impl_fast, {"arrow_to_pandas": _columns, "pandas_to_arrow": _batch})


def _replace(in_: Any, attributes: Mapping[str, Any]) -> None:
    for name, ours in attributes.items():
        getattr(in_, name)  # one that is not there is another version's
        setattr(in_, name, ours)


def _columns(_timezone: Any, _types: Any, batches: list[pa.RecordBatch]) -> list[pa.Array]:
    [batch] = batches
    return list(batch.columns)


def _batch(schema: pa.Schema, _timezone: Any, _types: Any, columns: list[pa.Array]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _read_in_place() -> None:
    """Have Arrow read a batch where it lies, not through a file that copies it piece by piece."""
    from pyflink.fn_execution import coder_impl_fast
    from pyflink.fn_execution.ResettableIO import ResettableIO

    class InPlace(ResettableIO):
        _input_bytes: bytes
        _input_offset: int

        def read_buffer(self, size: int) -> pa.Buffer:
            found = pa.py_buffer(self._input_bytes)[self._input_offset : self._input_offset + size]
            self._input_offset += found.size
            return found

    _replace(coder_impl_fast, {"ResettableIO": InPlace})


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


def internal_rows(rows: Iterable[Sequence[Any]]) -> list[Any]:
    """What Flink's coder makes of Rows anyway: to make Rows and take them apart took most of a pack's time."""
    from pyflink.fn_execution.coder_impl_fast import InternalRow

    return [InternalRow([*row], _INSERT) for row in rows]
