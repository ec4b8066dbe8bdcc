"""Which records may be deleted from the beginnings of topics, by where they come from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from surecount.audit.matching import Columns
from surecount.audit.origins import OFFSET_BITS, Origins, Places
from surecount.audit.times import NEVER

NO_COPIES: Mapping[str, Collection[int]] = {}

_ALL = 1 << OFFSET_BITS
_BITS = np.uint64(OFFSET_BITS)
_OFFSET = np.uint64(_ALL - 1)


class Beginnings:
    """For each partition that records come from the first offset behind those that may be deleted.

    Topics that are read themselves begin at an offset. Of a pathway whose records are read as copies, ``trimmed`` has
    the partitions of copies that have lost their beginning: what such a partition has of another one is in its order,
    so before the first copy that is left it may have had any, and where none is left, all.
    """

    def __init__(self, places: Places, trimmed: Mapping[str, Collection[int]] = NO_COPIES) -> None:
        self._places = places
        self._begin: dict[int, int] = {}
        self._trimmed = trimmed
        # By the number of the partition that copies come from, and the partition that they stand in.
        self._first_copies: dict[tuple[int, int], int] = {}

    def begins(self, first: int, offset: int) -> None:
        """A partition, told by the origin of its offset 0, begins at ``offset``."""
        self._begin[first >> OFFSET_BITS] = offset

    def copies(self, pathway: str, partition: int, origins: Origins) -> None:
        """Origins of a pathway's copies in a partition, in their order there."""
        if partition in self._trimmed.get(pathway, ()):
            numbers, first = np.unique(origins >> _BITS, return_index=True)
            for number, at in zip(numbers.tolist(), first.tolist(), strict=True):
                self._first_copies.setdefault((number, partition), int(origins[at] & _OFFSET))

    def deleted(self, origins: Origins) -> npt.NDArray[np.bool_]:
        """Which of some records may be deleted."""
        numbers, found = origins >> _BITS, np.zeros(len(origins), bool)
        for number in np.unique(numbers).tolist():
            if end := self._end(number):
                found |= (numbers == number) & ((origins & _OFFSET) < np.uint64(end))
        return found

    def _end(self, number: int) -> int:
        if number in self._begin:
            return self._begin[number]
        trimmed = self._trimmed.get(self._places.pathway(number << OFFSET_BITS), ())
        return max((self._first_copies.get((number, partition), _ALL) for partition in trimmed), default=0)


class StandIns:
    """Clean records whose raw records are deleted: what is known of their events, to tell duplicates by."""

    def __init__(self) -> None:
        self.columns = Columns(origin="Q", id="Q", time="q", watermark="q", replayed="B")

    def add(
        self,
        origins: Iterable[int],
        ids: Iterable[int],
        times: Iterable[int],
        watermarks: Iterable[int],
        replayed: Iterable[bool],
    ) -> None:
        """Add records, with their events' ids and times."""
        self.columns.extend(origin=origins, id=ids, time=times, watermark=watermarks, replayed=map(int, replayed))


@dataclass(frozen=True)
class Deleted:
    """What may be deleted of ingest's topics.

    ``raw`` tells which raw records, None: none. Of the outputs it may be those of records with an event time of up to
    ``clean``, ``rejects`` and ``duplicates`` (ms since 1970): for a rejected record its Kafka timestamp counts.
    """

    raw: Beginnings | None = None
    clean: int = NEVER
    rejects: int = NEVER
    duplicates: int = NEVER

    @property
    def latest(self) -> int:
        """The latest event time of an accepted record that may have lost its output, which may be any of the three."""
        return max(self.clean, self.rejects, self.duplicates)


NOTHING = Deleted()
