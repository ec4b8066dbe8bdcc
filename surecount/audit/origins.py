"""Origins: where records stand on their pathways' clusters, as numbers that can be kept by the million."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from surecount.audit.contents import PREFIX, Headers, header
from surecount.audit.outputs import MalformedError
from surecount.errors import SurecountError

Origins = npt.NDArray[np.uint64]
"""The number of a pathway's partition in the upper bits, the offset in it in the lower ones."""

OFFSET_BITS = 44
_MAX_PLACES = 1 << (64 - OFFSET_BITS)
_PLACE_HEADERS = (f"{PREFIX}pathway", f"{PREFIX}topic", f"{PREFIX}partition")
_OFFSET_HEADER = f"{PREFIX}offset"


class Places:
    """Numbers the partitions of all pathways as they are met."""

    def __init__(self) -> None:
        self._names: list[tuple[str, str, int]] = []
        self._numbers: dict[tuple[str, str, int], int] = {}
        # The first origin by the headers that state it, which are the same for millions of records.
        self._stated: dict[tuple[str | bytes | None, ...], int] = {}

    def first(self, pathway: str, topic: str, partition: int) -> int:
        """The origin at offset 0; those behind it follow one by one."""
        name = (pathway, topic, partition)
        number = self._numbers.setdefault(name, len(self._names))
        if number == len(self._names):
            if number == _MAX_PLACES:
                raise SurecountError(f"records come from more than {_MAX_PLACES:,} partitions")
            self._names.append(name)
        return number << OFFSET_BITS

    def relayed(self, pathway: str, headers: Headers) -> int:
        """The origin that a relay's copy states; raises MalformedError."""
        text = header(headers, "relayed")
        parts = text.split(" ")
        if len(parts) != 4:
            raise MalformedError(f"its header surecount.relayed is {text!r}")
        partition, offset, _, topic = parts
        return self.first(pathway, topic, _number(partition, "partition")) + _number(offset, "offset")

    def stated(self, headers: Headers) -> int:
        """The origin that a record's headers state; raises MalformedError."""
        place = tuple(map(headers.get, _PLACE_HEADERS))
        first = self._stated.get(place)
        if first is None:
            partition = _number(header(headers, "partition"), "partition")
            first = self._stated[place] = self.first(header(headers, "pathway"), header(headers, "topic"), partition)
        offset = headers.get(_OFFSET_HEADER)
        # Most are this short and plain.
        if isinstance(offset, bytes) and offset.isdigit() and len(offset) <= 13:
            return first + int(offset)
        return first + _number(header(headers, "offset"), "offset")

    def pathway(self, origin: int) -> str:
        """The pathway of an origin."""
        return self._names[origin >> OFFSET_BITS][0]

    def name(self, origin: int) -> str:
        """``pathway/topic-partition@offset``."""
        pathway, topic, partition = self._names[origin >> OFFSET_BITS]
        return f"{pathway}/{topic}-{partition}@{origin % (1 << OFFSET_BITS)}"

    def by_pathway(self, origins: Origins) -> Counter[str]:
        """How many of the origins each pathway has."""
        found: Counter[str] = Counter()
        numbers, counts = np.unique(origins >> np.uint64(OFFSET_BITS), return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            found[self._names[number][0]] += count
        return found


def _number(text: str, name: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 1 << OFFSET_BITS
    if number >= 1 << OFFSET_BITS:
        raise MalformedError(f"its {name} is {text!r}")
    return number
