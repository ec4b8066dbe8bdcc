"""Batches cross between Flink and Python as Arrow, and stay Arrow on this side.

PyFlink makes pandas Series of the batches that a vectorised function gets, an object for each value, and Arrow of the
Series that it returns. Both is done in two functions of its ``table/utils.py``, which its coder calls; a worker that
runs our functions has others in their place.

What runs in workers only is imported where it is used: it loads Beam, and a client that plans a job would take a second
longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
from pyflink.common import RowKind

_INSERT = RowKind.INSERT.value


def keep_arrow() -> None:
    """Have vectorised functions in this process take and return Arrow arrays. AttributeError on another PyFlink."""
    from pyflink.fn_execution import coder_impl_fast

    for name, ours in {"arrow_to_pandas": _columns, "pandas_to_arrow": _batch}.items():
        getattr(coder_impl_fast, name)
        setattr(coder_impl_fast, name, ours)


def _columns(_timezone: Any, _types: Any, batches: list[pa.RecordBatch]) -> list[pa.Array]:
    [batch] = batches
    return list(batch.columns)


def _batch(schema: pa.Schema, _timezone: Any, _types: Any, columns: list[pa.Array]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def internal_rows(rows: Iterable[Sequence[Any]]) -> list[Any]:
    """What Flink's coder makes of Rows anyway: to make Rows and take them apart took most of a pack's time."""
    from pyflink.fn_execution.coder_impl_fast import InternalRow

    return [InternalRow([*row], _INSERT) for row in rows]
