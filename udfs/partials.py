"""Partials: the counts and sums of one aggregate's keys in one window, as bytes that travel and are kept.

Layout, version 1: a byte 1, three of padding, a little-endian uint32 whose bit i says that sum i is wide,
then one Arrow IPC record batch (without schema): the key columns, ``count`` as int64, and each sum as int64,
or wide as binary (an integer of any size, :func:`udfs.numbers.to_bytes`). Sums of decimals are integers at
their scale, sums of doubles integers in units of 2**-1074 and always wide.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from udfs import numbers
from udfs.decode import WIDE, decimal128_words
from udfs.numbers import Int64s
from udfs.spec import Aggregate
from udfs.store import UnknownVersionError
from udfs.tables import to_list

VERSION = 1
_HEADER = struct.Struct("<BxxxI")  # eight bytes, so that what follows is aligned for Arrow


def schema(aggregate: Aggregate, wide: int) -> pa.Schema:
    """Columns ``k0…``, ``count``, ``s0…``; ``wide`` has a bit for each sum that is not int64."""
    keys = [(f"k{i}", pa.string() if field.type == "string" else pa.int64()) for i, field in enumerate(aggregate.key)]
    sums = [(f"s{i}", pa.binary() if wide >> i & 1 else pa.int64()) for i in range(len(aggregate.sums))]
    return pa.schema([*keys, ("count", pa.int64()), *sums])


def encode(partial: pa.RecordBatch, aggregate: Aggregate) -> bytes:
    """A batch of :func:`schema` as bytes."""
    wide = 0
    for i in range(len(aggregate.sums)):
        wide |= (partial.schema.field(f"s{i}").type == pa.binary()) << i
    body: bytes = partial.serialize().to_pybytes()
    return _HEADER.pack(VERSION, wide) + body


def decode(data: bytes, aggregate: Aggregate) -> pa.RecordBatch:
    """The inverse of :func:`encode`; raises UnknownVersionError."""
    version, wide = _HEADER.unpack_from(data)
    if version != VERSION:
        raise UnknownVersionError(f"a partial of version {version}; this code reads version {VERSION}")
    return pa.ipc.read_record_batch(pa.py_buffer(data)[_HEADER.size :], schema(aggregate, wide))


def merge(partials: Sequence[pa.RecordBatch], aggregate: Aggregate) -> pa.RecordBatch:
    """One partial with each key once."""
    keys = [f"k{i}" for i in range(len(aggregate.key))]
    names = [*keys, "count", *(f"s{i}" for i in range(len(aggregate.sums)))]
    columns = [_concat([partial.column(name) for partial in partials]) for name in names]
    return group(pa.table(columns, names=names), keys, aggregate)


def group(table: pa.Table, by: list[str], aggregate: Aggregate) -> pa.RecordBatch:
    """Add up ``count`` and each sum over equal values of the columns ``by``, exactly.

    A sum column ``s<i>`` is int64, WIDE, binary (wide), or float64 as it comes from records.
    """
    inputs: dict[str, pa.Array] = {name: table.column(name) for name in [*by, "count"]}
    plans: dict[str, list[str]] = {}
    shifted: list[str] = []
    for i in range(len(aggregate.sums)):
        name = f"s{i}"
        column = table.column(name)
        if column.type == pa.binary() or column.type == pa.float64():
            shifted.append(name)
            continue
        if column.type == WIDE:
            parts = numbers.decimal128_limbs(decimal128_words(column.combine_chunks()))
        else:
            values = column.to_numpy()
            safe = numbers.int64_sum_is_safe(values, len(values))
            parts = [values] if safe else numbers.limbs(values)
        plans[name] = [f"{name}_{limb}" for limb in range(len(parts))]
        inputs.update(zip(plans[name], map(pa.array, parts), strict=True))
    if shifted:
        inputs["row"] = pa.array(np.arange(table.num_rows))
    summed = [("count", "sum")] + [(part, "sum") for parts in plans.values() for part in parts]
    listed = [("row", "list")] if shifted else []
    grouped = pa.table(inputs).group_by(by, use_threads=False).aggregate([*summed, *listed])
    columns = [grouped.column(name) for name in by] + [grouped.column("count_sum")]
    for i in range(len(aggregate.sums)):
        name = f"s{i}"
        if name in plans:
            columns.append(_join([grouped.column(f"{part}_sum") for part in plans[name]]))
        else:
            columns.append(_add_shifted(table.column(name), grouped.column("row_list")))
    names = [*by, "count", *(f"s{i}" for i in range(len(aggregate.sums)))]
    return pa.RecordBatch.from_arrays([_concat([c]) for c in columns], names=names)


def _concat(arrays: Sequence[pa.Array | pa.ChunkedArray]) -> pa.Array:
    """One array; int64 beside binary becomes binary."""
    flat: list[pa.Array] = []
    for array in arrays:
        flat += array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    if len({array.type for array in flat}) > 1:
        flat = [a if a.type == pa.binary() else _binary(to_list(a)) for a in flat]
    return flat[0] if len(flat) == 1 else pa.concat_arrays(flat)


def _binary(values: Sequence[int]) -> pa.Array:
    return pa.array([numbers.to_bytes(value) for value in values], pa.binary())


def _join(parts: list[pa.ChunkedArray]) -> pa.Array:
    """Limb sums as int64 where each fits, else as wide."""
    if len(parts) == 1:
        return parts[0]
    totals = [numbers.join_limbs(list(row)) for row in zip(*map(to_list, parts), strict=True)]
    return _narrowest(totals)


def _narrowest(totals: list[int]) -> pa.Array:
    try:
        return pa.array(totals, pa.int64())
    except (OverflowError, pa.ArrowInvalid):
        return _binary(totals)


def _add_shifted(column: pa.ChunkedArray, rows: pa.ChunkedArray) -> pa.Array:
    """Sums over lists of rows of wide integers, or of doubles as wide integers."""
    if column.type == pa.float64():
        units = float_units(column.to_numpy())
    else:
        units = [numbers.from_bytes(value) for value in to_list(column)]
    return _binary([sum(units[row] for row in group) for group in rows.to_pylist()])


def float_units(values: np.ndarray) -> list[int]:  # type: ignore[type-arg]
    """Each finite double as an integer in units of 2**-1074."""
    parts, shift = numbers.float_parts(values)
    columns: list[Int64s] = [*parts, shift]
    return [((high << 32) + low) << by for low, high, by in zip(*(c.tolist() for c in columns), strict=True)]


def sums(partial: pa.RecordBatch, aggregate: Aggregate) -> list[list[int]]:
    """Each sum column as Python integers."""
    columns = [partial.column(f"s{i}") for i in range(len(aggregate.sums))]
    return [
        [numbers.from_bytes(value) for value in to_list(column)] if column.type == pa.binary() else to_list(column)
        for column in columns
    ]
