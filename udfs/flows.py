"""What workers tell of records and windows while they run, so that a look from outside can judge it.

Names of metrics, and the spans over which events are counted, are shared with ``surecount status`` and ``doctor``.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOWS = "surecount_flows"
"""The group of meters: one of each kind of event in each of :data:`SPANS_S`."""
SPANS_S = {"recent": 300, "long": 21_600}
"""Now, and what is usual: long enough that a burst of some minutes does not become the usual."""

RECORDS = "records"
"""All records that were decoded."""
DUPLICATES = "duplicates"
REJECTED = "rejected_"
"""Followed by the reason."""
LATE = "late_"
"""Followed by the aggregate: records that became part of corrections."""

WINDOWS = "surecount_windows"
"""The group of the gauges of :class:`Waiting`."""


@dataclass
class Waiting:
    """Whether the windows of a subtask wait for the watermark, as far as its records tell; times in ms since 1970.

    ``newest`` is the latest start of a window that a record went to. While it is more than ``patience_ms`` ahead of
    the watermark, ``since`` is when that began, by the clock of the worker, else 0. ``moved`` is when the watermark was
    last seen to move. A worker looks when it gets records, so what it tells is of its last ones.
    """

    patience_ms: int
    newest: int = 0
    since: int = 0
    moved: int = 0
    _watermark: int | None = None

    def note(self, newest: int, watermark: int, now_ms: int) -> None:
        """Records went to windows up to ``newest``, while the watermark was there."""
        self.newest = max(self.newest, newest)
        if watermark != self._watermark:
            self._watermark, self.moved = watermark, now_ms
        if self.newest - watermark <= self.patience_ms:
            self.since = 0
        elif not self.since:
            self.since = now_ms
