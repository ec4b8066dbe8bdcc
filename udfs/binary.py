"""Arrow's arrays of binary values as lengths and bytes, which is what blocks for Java are made of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from udfs.tables import offsets

Int32s = npt.NDArray[np.int32]


def filled(column: pa.Array) -> tuple[Int32s, pa.Array]:
    """The lengths of values, -1 for null, and the values, empty for null."""
    values = column.fill_null(b"")
    lengths = np.where(column.is_null().to_numpy(zero_copy_only=False), -1, np.diff(offsets(values)))
    return lengths.astype("<i4"), values


def content(column: pa.Array) -> pa.Buffer:
    """The bytes of all values, one after the other."""
    bounds, data = offsets(column), column.buffers()[2]
    return pa.py_buffer(b"") if data is None else data.slice(int(bounds[0]), int(bounds[-1] - bounds[0]))
