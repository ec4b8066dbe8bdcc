"""Batches cross between Flink and Python as Arrow, and stay Arrow on this side.

PyFlink makes pandas Series of the batches that a vectorised function gets, an object for each value, and Arrow of the
Series that it returns. Both is done in two functions of its ``table/utils.py``, which its coder calls; a worker that
runs our functions has others in their place.

What runs in workers only is imported where it is used: it loads Beam, and a client that plans a job would take a second
longer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa
from pyflink.common import RowKind

_INSERT = RowKind.INSERT.value


def prepare_worker() -> None:
    """Change PyFlink and Beam in this process, which is a worker. AttributeError where they are others."""
    _keep_arrow()
    _sample_no_states()


def _keep_arrow() -> None:
    """Have vectorised functions take and return Arrow arrays."""
    from pyflink.fn_execution import coder_impl_fast

    for name, ours in {"arrow_to_pandas": _columns, "pandas_to_arrow": _batch}.items():
        getattr(coder_impl_fast, name)
        setattr(coder_impl_fast, name, ours)


def _columns(_timezone: Any, _types: Any, batches: list[pa.RecordBatch]) -> list[pa.Array]:
    [batch] = batches
    return list(batch.columns)


def _batch(schema: pa.Schema, _timezone: Any, _types: Any, columns: list[pa.Array]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(columns, schema=schema)


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

    for name, ours in {"start": start, "stop": stop}.items():
        getattr(statesampler.StateSampler, name)
        setattr(statesampler.StateSampler, name, ours)


def internal_rows(rows: Iterable[Sequence[Any]]) -> list[Any]:
    """What Flink's coder makes of Rows anyway: to make Rows and take them apart took most of a pack's time."""
    from pyflink.fn_execution.coder_impl_fast import InternalRow

    return [InternalRow([*row], _INSERT) for row in rows]
