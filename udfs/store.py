"""What the logs of a bucket need of Flink's keyed state: a ledger, and segments by name."""

from __future__ import annotations

from typing import Protocol


class Store(Protocol):
    """Where one bucket's state is kept. A segment that is read exists."""

    def read_ledger(self) -> bytes | None: ...
    def write_ledger(self, data: bytes) -> None: ...
    def read_segment(self, name: str) -> bytes: ...
    def write_segment(self, name: str, data: bytes) -> None: ...
    def remove_segment(self, name: str) -> None: ...


class UnknownVersionError(ValueError):
    """Bytes were written by another version of the encoding."""
