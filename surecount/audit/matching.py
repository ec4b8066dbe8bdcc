"""Finding records by their origins, each once, some thousand at a time."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from surecount.audit.contents import OMITTED
from surecount.audit.origins import Origins

U64 = npt.NDArray[np.uint64]
U8 = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]


class Columns:
    """Columns of numbers that grow together; each has a type code of ``array``. The first is to sort by."""

    def __init__(self, **codes: str) -> None:
        self._columns: dict[str, array[int]] = {name: array(code) for name, code in codes.items()}

    def extend(self, **values: Iterable[int]) -> None:
        """Append as many values to every column."""
        for name, column in self._columns.items():
            column.extend(values[name])

    def sorted(self) -> dict[str, npt.NDArray[Any]]:
        """All as numpy's arrays in the order of the first column. It empties this, to hold little twice."""
        order = None
        arrays = {}
        for name in list(self._columns):
            column = self._columns.pop(name)
            values = np.frombuffer(column, column.typecode) if column else np.empty(0, column.typecode)
            if order is None:
                order = np.argsort(values, kind="stable")
            arrays[name] = values[order]
        return arrays


Fault = Literal["unknown", "taken", "other", "changed"]
"""``unknown``: no record has that origin. ``taken``: the record was found before. ``other``: the record was
judged otherwise; it still is to be found. ``changed``: found, with another content."""


class Oddity(NamedTuple):
    """The batch's entry ``at`` is not as it has to be; ``position`` is of the record that it may stand for."""

    at: int
    position: int
    fault: Fault


class Matcher:
    """Records by origin, in sorted columns. ``found`` tells what each was found as, 0 for not at all."""

    def __init__(self, origins: Origins, contents: U64, verdicts: U8) -> None:
        self.origins = origins
        self.verdicts = verdicts
        self.found = np.zeros(len(origins), np.uint8)
        self._contents = contents

    def match(self, origins: Origins, contents: U64, verdicts: U8, mark: int) -> tuple[Positions, list[Oddity]]:
        """Find the records that a batch of outputs stands for, and mark them as found.

        Returns the position of each, -1 where none was marked, and what is odd.
        """
        positions = self._plain(origins, contents, verdicts)
        self.found[positions[positions >= 0]] = mark
        odd = []
        for index in np.flatnonzero(positions < 0).tolist():
            position, fault = self._look_closer(origins[index], contents[index], verdicts[index])
            if fault is None or fault == "changed":
                positions[index] = position
                self.found[position] = mark
            if fault is not None:
                odd.append(Oddity(index, position, fault))
        return positions, odd

    def _plain(self, origins: Origins, contents: U64, verdicts: U8) -> Positions:
        """The positions of those with which all is well; -1 for others."""
        if not len(self.origins):
            return np.full(len(origins), -1)
        at = np.minimum(np.searchsorted(self.origins, origins), len(self.origins) - 1)
        plain = (self.origins[at] == origins) & (self.found[at] == 0)
        plain &= (self.verdicts[at] == verdicts) & ((self._contents[at] == contents) | (contents == OMITTED))
        first = np.zeros(len(origins), bool)
        first[np.unique(origins, return_index=True)[1]] = True
        return np.where(plain & first, at, -1)

    def _look_closer(self, origin: np.uint64, content: np.uint64, verdict: np.uint8) -> tuple[int, Fault | None]:
        """The same for a single one. Where a relay's copies were sent again, some records have one origin."""
        begin, end = (int(np.searchsorted(self.origins, origin, side)) for side in ("left", "right"))
        if begin == end:
            return -1, "unknown"
        free = [position for position in range(begin, end) if not self.found[position]]
        if not free:
            return end - 1, "taken"
        alike = [position for position in free if self.verdicts[position] == verdict]
        if not alike:
            return free[0], "other"
        same = [position for position in alike if content in (self._contents[position], OMITTED)]
        return (same[0], None) if same else (alike[0], "changed")
