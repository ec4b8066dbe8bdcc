"""How results are packed for the JVM."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from udfs import results
from udfs.spec import Aggregate, Field
from udfs.window_log import Merged

AGGREGATE = Aggregate("a", (Field("k", "string"),), (), 60_000)


@pytest.mark.parametrize(("keys", "length", "most"), [(2_000, 10, 2_000), (2_001, 10, 2_000), (10, 1 << 20, 3)])
def test_a_pack_holds_as_many_records_as_fit(keys: int, length: int, most: int) -> None:
    # Keys may be as large as records are.
    names = [str(number).rjust(length, "x") for number in range(keys)]
    partial = pa.record_batch([pa.array(names), pa.array(np.ones(keys, np.int64))], names=["k0", "count"])
    packs = [*results.packs(Merged(AGGREGATE, 0, 60_000, partial))]
    sizes = [len([*pack.records()]) for pack in packs]
    assert sizes == [most] * (keys // most) + ([keys % most] if keys % most else [])
    assert max(len(pack.lines) for pack in packs) <= 5 << 20
