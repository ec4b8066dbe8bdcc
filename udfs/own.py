"""A user's own decode function: what it returns is read, and whatever it raises rejects one record."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from udfs import failures, reasons, record, tables
from udfs.reasons import RejectedError
from udfs.spec import Spec


def batchwise(function: Callable[[pa.Array], pa.Table]) -> Callable[[pa.Array], pa.Table]:
    """Mark a user's decode function that takes a whole Arrow array of values, and returns a table.

    The table has one row a value, in order, and a column for each declared path.
    """
    function.surecount_batch = True  # type: ignore[attr-defined]
    return function


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
            return tables.conform(self._function(values), len(values), self._spec)
        except BaseException as error:
            if failures.is_shutdown(error):
                raise
            return None

    def read(self, value: bytes, kafka_ms: int) -> tuple[int, list[Any]]:
        """The event time in ms and the values of ``spec.fields``; raises RejectedError."""
        with _users_code():
            document = self._document(value)
        # A mapping may be of the user's own making, too.
        with _users_code(RejectedError):
            if not isinstance(document, Mapping):
                raise RejectedError(reasons.NOT_AN_OBJECT, f"decode returned a {type(document).__name__}, no mapping")
            return record.read_document(document, self._spec, kafka_ms)

    def _document(self, value: bytes) -> Any:
        if not self._takes_batches:
            return self._function(value)
        table = self._function(pa.array([value], pa.binary()))
        if not isinstance(table, pa.Table | pa.RecordBatch):
            raise TypeError(f"decode returned a {type(table).__name__}, no table")
        [row] = table.to_pylist()
        return tables.nest(row)


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
