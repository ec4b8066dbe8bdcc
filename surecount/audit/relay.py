"""What a relay has to have done: every record of its pathway's topics stands in the relay topic once, with the
same content.

Copies that ``surecount rejects replay`` sent again, before it had a topic for that, are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from surecount.audit.beginnings import Beginnings
from surecount.audit.contents import PREFIX, Headers
from surecount.audit.matching import Columns, Fault, Matcher
from surecount.audit.origins import Places
from surecount.audit.report import Difference, Differences, Kind

_FOUND = 1
_AT_NO_TIME = "0"
_KINDS: dict[Fault, tuple[Kind, str]] = {
    "unknown": ("relay_unexpected", "is in the relay topic, and is no record of the pathway"),
    "taken": ("relay_doubled", "is in the relay topic more than once"),
    "changed": ("relay_changed", "is in the relay topic with another key, value, timestamp or header"),
}


def is_replayed(headers: Headers) -> bool:
    """Whether a copy is of a replay and not of the relay, which always says when it made one."""
    parts = (headers.get(f"{PREFIX}relayed") or b"").split()
    return len(parts) == 4 and parts[2] in (_AT_NO_TIME, _AT_NO_TIME.encode())


class RelayJudge:
    """Holds a relay topic against the records of its pathway, as ``origin`` and ``content``: 18 bytes for each.

    ``raw_deleted`` are the records that may be deleted, and ``copies_deleted`` those whose copies may be.
    """

    def __init__(
        self,
        raw: Columns,
        places: Places,
        differences: Differences,
        raw_deleted: Beginnings,
        copies_deleted: Beginnings,
    ) -> None:
        self.before_cut = 0
        """Copies of records that are deleted."""
        self.outputs_deleted = 0
        """Records whose copies are deleted."""
        self._raw_deleted, self._copies_deleted = raw_deleted, copies_deleted
        self._differences = differences
        self._places = places
        columns = raw.sorted()
        self._records = Matcher(columns["origin"], columns["content"], np.zeros(len(columns["origin"]), np.uint8))

    def find(self, origins: Sequence[int], contents: Sequence[int]) -> None:
        """Records of the relay topic."""
        found = np.array(origins, np.uint64)
        deleted = self._raw_deleted.deleted(found)
        self.before_cut += int(deleted.sum())
        found, alike = found[~deleted], np.zeros(len(origins) - int(deleted.sum()), np.uint8)
        _, odd = self._records.match(found, np.array(contents, np.uint64)[~deleted], alike, _FOUND)
        for oddity in odd:
            kind, detail = _KINDS[oddity.fault]
            self._differences.add(Difference(kind, detail, self._places.name(int(found[oddity.at]))))

    def close(self) -> None:
        """Judge what is missing; then the differences are complete."""
        missing = self._records.origins[self._records.found == 0]
        deleted = self._copies_deleted.deleted(missing)
        self.outputs_deleted = int(deleted.sum())
        self._differences.add_all(
            missing[~deleted].tolist(),
            lambda origin: Difference("relay_missing", "is not in the relay topic", self._places.name(origin)),
        )
