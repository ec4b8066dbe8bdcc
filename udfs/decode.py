"""A batch of values becomes columns, or reasons: in Arrow where it can, else record by record.

The Arrow reader is some ten times faster, but it stops at the first odd record, and forgives what
docs/records.md does not. So a piece goes through it only after cheap checks that leave nothing to
forgive, a piece that it refuses is cut smaller, and a small piece is read by :mod:`udfs.record`. What
happens to a record does not depend on its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from udfs import checks, reasons, record, shapes, tables, times
from udfs.own import OwnFunction
from udfs.own import batchwise as batchwise  # users import it from here
from udfs.reasons import RejectedError
from udfs.spec import MAX_EVENT_TIME_MS, Field, Spec

Int64s = npt.NDArray[np.int64]
WIDE = pa.decimal128(38, 0)
"""Integers of more than 64 bits; as everywhere, decimals are integers at their scale."""

_OPEN, _CLOSE, _OPEN_LIST, _LINE_FEED = b"{}[\n"
_SMALL = 256
_PIECES = 8


@dataclass(frozen=True)
class Columns:
    """Accepted records: ``rows`` are their places in the batch, ``time_ms`` their event times, and
    ``fields`` an Arrow array for each declared path, without nulls: string, int64 or WIDE, float64.
    """

    rows: Int64s
    time_ms: Int64s
    fields: dict[str, pa.Array]


@dataclass(frozen=True)
class Rejected:
    """One record that cannot be used."""

    row: int
    reason: str
    detail: str


@dataclass(frozen=True)
class Batch:
    """Values from Kafka, a binary array, null for a tombstone, and Kafka's timestamps.

    ``sizes`` are the values' lengths as they came, where members that nobody asked for are left out of these.
    """

    values: pa.Array
    kafka_ms: Int64s
    sizes: Int64s | None = None


class Decoder:
    """Decodes batches for a spec; resolves the user's own function once."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._schema = tables.json_schema((*spec.fields, *spec.optional))
        self._reader = record.RecordReader(spec)
        self._own = OwnFunction(spec.decode, spec) if spec.decode else None

    def __call__(self, batch: Batch) -> tuple[Columns, list[Rejected]]:
        """Columns of what can be used, and each other record with its reason."""
        rejected: list[Rejected] = []
        pieces: list[Columns] = []
        rows = self._sort_out(batch, rejected)
        if len(rows):
            self._decode(batch, rows, pieces, rejected)
        return _concat(pieces, self._spec.fields), rejected

    def _sort_out(self, batch: Batch, rejected: list[Rejected]) -> Int64s:
        """The rows whose values can be looked into."""
        limit = self._spec.max_value_bytes
        sizes = np.diff(tables.offsets(batch.values)) if batch.sizes is None else batch.sizes
        odd = sizes > limit
        if batch.values.null_count:
            odd |= batch.values.is_null().to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(odd).tolist():
            if batch.values[row].is_valid:
                rejected.append(Rejected(row, reasons.VALUE_TOO_LARGE, f"{sizes[row]} bytes, over {limit}"))
            else:
                rejected.append(Rejected(row, reasons.TOMBSTONE, "no value"))
        return np.flatnonzero(~odd)

    def _decode(self, batch: Batch, rows: Int64s, pieces: list[Columns], rejected: list[Rejected]) -> None:
        table = self._read(batch, rows)
        if table is not None:
            odd = self._accept(table, rows, batch.kafka_ms, pieces)
            self._decode_singly(batch, odd, pieces, rejected)
        elif len(rows) <= _SMALL:
            self._decode_singly(batch, rows, pieces, rejected)
        else:
            for part in np.array_split(rows, _PIECES):
                self._decode(batch, part, pieces, rejected)

    def _read(self, batch: Batch, rows: Int64s) -> pa.Table | None:
        """A table of required and optional fields, nulls where a record has none; None where one is odd."""
        values = batch.values if len(rows) == len(batch.values) else batch.values.take(pa.array(rows))
        if self._own is None:
            table = shapes.read(values, (*self._spec.fields, *self._spec.optional))
            return _read_json(values, self._schema) if table is None else table
        return self._own.table(values)

    def _accept(self, table: pa.Table, rows: Int64s, kafka_ms: Int64s, pieces: list[Columns]) -> Int64s:
        """Keep the rows that break no rule; return the others."""
        good = np.ones(len(rows), bool)
        for field in self._spec.fields:
            column = tables.column_of(table, field)
            if column.null_count:
                good &= column.is_valid().to_numpy(zero_copy_only=False)
            if field.type == "float":
                good &= np.isfinite(column.to_numpy(zero_copy_only=False))
        for check in self._spec.checks:
            good &= checks.passing(check, tables.column_of(table, check.field))
        time = self._spec.event_time
        if time.path is None:
            time_ms = kafka_ms[rows]
        elif time.unit == "rfc3339":
            time_ms = _rfc3339_column(tables.column_of(table, self._spec.fields[0]), good)
        else:
            raw = tables.column_of(table, self._spec.fields[0]).fill_null(0).to_numpy(zero_copy_only=False)
            numerator, denominator = times.UNITS_PER_MS[time.unit]
            limit = np.iinfo(np.int64).max // numerator
            good &= (raw >= -limit) & (raw <= limit)
            time_ms = raw * numerator // denominator
        good &= self._times_are_good(time_ms, kafka_ms[rows])
        if not good.all():
            table, time_ms = table.filter(pa.array(good)), time_ms[good]
        columns = {field.path: _integers(tables.column_of(table, field), field) for field in self._spec.fields}
        pieces.append(Columns(rows[good], time_ms, columns))
        odd: Int64s = rows[~good]
        return odd

    def _times_are_good(self, time_ms: Int64s, kafka_ms: Int64s) -> npt.NDArray[np.bool_]:
        known = times.are_times(kafka_ms)
        if self._spec.event_time.path is None:
            return known
        good: npt.NDArray[np.bool_] = (time_ms >= 0) & (time_ms <= MAX_EVENT_TIME_MS)
        ahead = np.where(known, time_ms - kafka_ms, 0)
        good &= ahead <= self._spec.max_ahead_ms
        # Whether a far time is a wrong unit is for the record's own reading to say.
        good &= np.abs(ahead) <= times.FAR_MS
        good &= known | times.are_times(time_ms)
        return good

    def _decode_singly(self, batch: Batch, rows: Int64s, pieces: list[Columns], rejected: list[Rejected]) -> None:
        good: list[int] = []
        time_ms: list[int] = []
        values: list[list[Any]] = []
        for row in rows.tolist():
            try:
                moment, read = self._decode_one(batch.values[row].as_py(), int(batch.kafka_ms[row]))
            except RejectedError as error:
                rejected.append(Rejected(row, error.reason, error.detail))
                continue
            good.append(row)
            time_ms.append(moment)
            values.append(read)
        if good:
            columns = {
                field.path: _array([read[place] for read in values], field)
                for place, field in enumerate(self._spec.fields)
            }
            pieces.append(Columns(np.asarray(good, np.int64), np.asarray(time_ms, np.int64), columns))

    def _decode_one(self, value: bytes, kafka_ms: int) -> tuple[int, list[Any]]:
        return self._reader.read(value, kafka_ms) if self._own is None else self._own.read(value, kafka_ms)


def _read_json(values: pa.Array, schema: pa.Schema) -> pa.Table | None:
    """One row a value, or None where a value is odd, or only might be."""
    lines = len(values)
    sizes = np.diff(tables.offsets(values))
    if sizes.min() < len(b"{}"):
        return None
    try:
        joined: bytes = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, lines], pa.int32()), values), b"\n")[
            0
        ].as_py()
    except pa.ArrowException:  # too large for one
        return None
    ends = np.cumsum(sizes + 1, dtype=np.int64) - 2
    starts = ends - sizes + 1
    data = np.frombuffer(joined, np.uint8)
    # Each value is one line that begins as an object and ends as one; then as many rows as values can
    # only mean one row a value. Arrow takes NaN and broken UTF-8 in fields that nobody asked for, a byte
    # order mark, and any depth.
    if (
        (data[starts] != _OPEN).any()
        or (data[ends] != _CLOSE).any()
        or np.count_nonzero(data == _LINE_FEED) != lines - 1
        or (b"N" in joined and b"NaN" in joined)
        or (b"I" in joined and b"Inf" in joined)
        or _may_be_deep(data, starts)
    ):
        return None
    try:
        if not joined.isascii():
            joined.decode()
        table = pj.read_json(
            pa.BufferReader(joined),
            pj.ReadOptions(use_threads=False, block_size=len(joined) + 1),
            pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    return table.combine_chunks() if table.num_rows == lines else None


def _may_be_deep(data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64]) -> bool:
    """Whether a line opens more objects and lists than may stand in one another."""
    opened = np.count_nonzero(data == _OPEN) + np.count_nonzero(data == _OPEN_LIST)
    if opened - len(starts) < record.MAX_DEPTH:
        return False
    opens = (data == _OPEN) | (data == _OPEN_LIST)
    return bool((np.add.reduceat(opens, starts, dtype=np.int64) > record.MAX_DEPTH).any())


def _rfc3339_column(column: pa.Array, good: npt.NDArray[np.bool_]) -> Int64s:
    time_ms = np.full(len(column), -1, np.int64)
    for row, text in enumerate(column.to_pylist()):
        if good[row]:
            try:
                time_ms[row] = times.from_rfc3339(text)
            except RejectedError:
                good[row] = False
    return time_ms


def _integers(column: pa.Array, field: Field) -> pa.Array:
    """Decimals as integers at their scale; other columns as they are."""
    if field.type != "decimal":
        return column
    words = decimal128_words(column)
    if (words[:, 1] == words[:, 0] >> 63).all():
        return pa.array(words[:, 0])
    return pa.Array.from_buffers(WIDE, len(column), [None, pa.py_buffer(words.tobytes())])


def decimal128_words(column: pa.Array) -> Int64s:
    """Arrow's decimal128 values as ``(rows, 2)`` little-endian 64-bit words, the low one first."""
    data = np.frombuffer(column.buffers()[1], np.int64) if len(column) else np.empty(0, np.int64)
    return data.reshape(-1, 2)[column.offset : column.offset + len(column)]


def _array(values: list[Any], field: Field) -> pa.Array:
    if field.type == "string":
        return pa.array(values, pa.string())
    if field.type == "float":
        return pa.array(values, pa.float64())
    try:
        return pa.array(values, pa.int64())
    except (pa.ArrowInvalid, OverflowError):
        return pa.array(values, WIDE)


def _concat(pieces: list[Columns], fields: tuple[Field, ...]) -> Columns:
    if len(pieces) == 1:
        return pieces[0]
    if not pieces:
        none = np.empty(0, np.int64)
        return Columns(none, none, {field.path: _array([], field) for field in fields})
    columns: dict[str, pa.Array] = {}
    for field in fields:
        arrays = [piece.fields[field.path] for piece in pieces]
        if any(array.type == WIDE for array in arrays):
            arrays = [array.cast(WIDE) for array in arrays]
        columns[field.path] = pa.concat_arrays(arrays)
    return Columns(
        np.concatenate([piece.rows for piece in pieces]),
        np.concatenate([piece.time_ms for piece in pieces]),
        columns,
    )
