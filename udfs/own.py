"""A user's own decode function: what it returns is read, and whatever it raises rejects one record."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from udfs import failures, reasons, record, tables
from udfs.reasons import RejectedError
from udfs.spec import Spec


def batchwise(function: Callable[[pa.Array], pa.Table]) -> Callable[[pa.Array], pa.Table]:
    """Mark a user's decode function that takes a whole Arrow array of values, and returns a table.

    The table has one row a value, in order, and a column for each declared path.
    """
    function.surecount_batch = True  # type: ignore[attr-defined]
    return function


_MOST_TEXT = 4 << 20
"""How many bytes of texts a record may have. A result holds its key twice, as JSON, which may take six bytes for one of
them, and a sink writes 64 MiB at most."""


class OwnFunction:
    """The function at an import path ``package.module:name``; raises ImportError or AttributeError."""

    def __init__(self, path: str, spec: Spec) -> None:
        self._function = resolve(path)
        self._spec = spec
        self._takes_batches = getattr(self._function, "surecount_batch", False) is True

    def table(self, values: pa.Array) -> pa.Table | None:
        """A table of required and optional fields, a row a value; None where the values have to be read singly."""
        if not self._takes_batches:
            return None
        try:
            table = tables.conform(self._function(values), len(values), self._spec)
        except BaseException as error:
            if failures.is_shutdown(error):
                raise
            return None
        return None if table is None or _text_bytes(table).max(initial=0) > _MOST_TEXT else table

    def read(self, value: bytes, kafka_ms: int) -> tuple[int, list[Any]]:
        """The event time in ms and the values of ``spec.fields``; raises RejectedError."""
        with _users_code():
            document = self._document(value)
        # A mapping may be of the user's own making, too.
        with _users_code(RejectedError):
            if not isinstance(document, Mapping):
                raise RejectedError(reasons.NOT_AN_OBJECT, f"decode returned a {type(document).__name__}, no mapping")
            moment, read = record.read_document(document, self._spec, kafka_ms)
        size = sum(len(value.encode()) for value in read if isinstance(value, str))
        if size > _MOST_TEXT:
            raise RejectedError(reasons.DECODE_FAILED, f"decode returned {size} bytes of texts, over {_MOST_TEXT}")
        return moment, read

    def _document(self, value: bytes) -> Any:
        if not self._takes_batches:
            return self._function(value)
        table = self._function(pa.array([value], pa.binary()))
        if not isinstance(table, pa.Table | pa.RecordBatch):
            raise TypeError(f"decode returned a {type(table).__name__}, no table")
        [row] = table.to_pylist()
        return tables.nest(row)


def _text_bytes(table: pa.Table) -> npt.NDArray[np.int64]:
    """The bytes of texts of each row."""
    sizes = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        if pa.types.is_string(column.type):
            sizes += pc.binary_length(column).fill_null(0).to_numpy()
    return sizes


@contextmanager
def _users_code(*passing: type[BaseException]) -> Iterator[None]:
    """What a user's code raises, which may be anything, as a RejectedError; but for exceptions that are ``passing``."""
    try:
        yield
    except passing:
        raise
    except BaseException as error:
        if failures.is_shutdown(error):
            raise
        raise RejectedError(reasons.DECODE_FAILED, failures.text_of(error)) from error


def resolve(path: str) -> Callable[[Any], Any]:
    """The function at an import path ``package.module:name``; raises ImportError or AttributeError."""
    module, _, name = path.partition(":")
    function: Callable[[Any], Any] = getattr(importlib.import_module(module), name)
    return function
