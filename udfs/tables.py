"""Arrow tables of a pipeline's fields: their types, a user's table made to fit, and one field's column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from udfs.spec import Field, Spec


def arrow_type(field: Field) -> pa.DataType:
    """The type of a field's column; an int of more than 64 bits has none."""
    return {
        "string": pa.string(),
        "int": pa.int64(),
        "float": pa.float64(),
        "decimal": pa.decimal128(38, field.scale),
    }[field.type]


def to_list(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """A column of ints, texts or bytes as Python values; ints are never null.

    Arrow's own ``to_pylist`` takes several times as long.
    """
    values: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
    return values


def offsets(column: pa.Array) -> npt.NDArray[np.int32]:
    """Where each value of a binary array begins and the last one ends, in its buffer."""
    if len(column) == 0:
        return np.zeros(1, np.int32)
    return np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]


def json_schema(fields: Iterable[Field]) -> pa.Schema:
    """What Arrow is to look for in JSON: dotted paths as nested structs."""
    tree: dict[str, Any] = {}
    for field in fields:
        level = tree
        for part in field.parts[:-1]:
            level = level.setdefault(part, {})
        level[field.parts[-1]] = arrow_type(field)

    def build(level: dict[str, Any]) -> list[pa.Field]:
        return [
            pa.field(name, pa.struct(build(inner)) if isinstance(inner, dict) else inner)
            for name, inner in level.items()
        ]

    return pa.schema(build(tree))


def column_of(table: pa.Table, field: Field) -> pa.Array:
    """A declared field of a table with nested structs or with dotted names, as one array."""
    if field.path in table.column_names:
        return _one_chunk(table.column(field.path))
    array = _one_chunk(table.column(field.parts[0]))
    for part in field.parts[1:]:
        # flatten() carries a null object down to its fields, field() does not.
        names = [array.type.field(i).name for i in range(array.type.num_fields)]
        array = array.flatten()[names.index(part)]
    return array


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def conform(table: pa.Table, rows: int, spec: Spec) -> pa.Table | None:
    """A user's table with required and optional columns in the declared types; None where it does not fit.

    It may also raise anything.
    """
    if not isinstance(table, pa.Table | pa.RecordBatch) or table.num_rows != rows:
        return None
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    for field in (*spec.fields, *spec.optional):
        if any(_is_inside(name, field.path) or _is_inside(field.path, name) for name in table.column_names):
            return None
        if field.path in table.column_names:
            column = table.column(field.path)
            if not _stands_for(column.type, field):
                return None
            columns[field.path] = column.cast(arrow_type(field), safe=True)
        elif field in spec.optional:
            columns[field.path] = pa.nulls(rows, arrow_type(field))
        else:
            return None
    found = pa.table(columns)
    # Texts that are not UTF-8 would be found when a window closes.
    found.validate(full=True)
    return found


def _is_inside(path: str, other: str) -> bool:
    return path.startswith(other + ".")


def _stands_for(kind: pa.DataType, field: Field) -> bool:
    """Whether values of an Arrow type are read as the field's; Arrow would cast texts to numbers as well."""
    kinds = {
        "string": (pa.types.is_string, pa.types.is_large_string),
        "int": (pa.types.is_integer,),
        "float": (pa.types.is_floating, pa.types.is_integer),
        "decimal": (pa.types.is_decimal, pa.types.is_integer),
    }[field.type]
    return pa.types.is_null(kind) or any(is_kind(kind) for is_kind in kinds)


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted column names as nested objects; they go before a column of an object, or of a value, there."""
    document: dict[str, Any] = {}
    for path in sorted(flat):
        *outer, last = path.split(".")
        level = document
        for part in outer:
            if not isinstance(level.get(part), dict):
                level[part] = {}
            level = level[part]
        level[last] = flat[path]
    return document
