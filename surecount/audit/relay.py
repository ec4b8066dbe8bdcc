"""What a relay has to have done: every record of its pathway's topics stands in the relay topic once, with the
same content.

Records that were sent again by ``surecount rejects replay`` are left out, as they may come from either side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from surecount.audit.matching import Columns, Fault, Matcher
from surecount.audit.origins import Places
from surecount.audit.report import Difference, Differences, Kind

_FOUND = 1
_KINDS: dict[Fault, tuple[Kind, str]] = {
    "unknown": ("relay_unexpected", "is in the relay topic, and is no record of the pathway"),
    "taken": ("relay_doubled", "is in the relay topic more than once"),
    "changed": ("relay_changed", "is in the relay topic with another key, value, timestamp or header"),
}


class RelayJudge:
    """Holds a relay topic against the records of its pathway, as ``origin`` and ``content``: 18 bytes for each."""

    def __init__(self, raw: Columns, places: Places, differences: Differences) -> None:
        self._differences = differences
        self._places = places
        columns = raw.sorted()
        self._records = Matcher(columns["origin"], columns["content"], np.zeros(len(columns["origin"]), np.uint8))

    def find(self, origins: Sequence[int], contents: Sequence[int]) -> None:
        """Records of the relay topic."""
        alike = np.zeros(len(origins), np.uint8)
        _, odd = self._records.match(np.array(origins, np.uint64), np.array(contents, np.uint64), alike, _FOUND)
        for oddity in odd:
            kind, detail = _KINDS[oddity.fault]
            self._differences.add(Difference(kind, detail, self._places.name(origins[oddity.at])))

    def close(self) -> None:
        """Judge what is missing; then the differences are complete."""
        missing = self._records.origins[self._records.found == 0].tolist()
        self._differences.add_all(
            missing, lambda origin: Difference("relay_missing", "is not in the relay topic", self._places.name(origin))
        )
