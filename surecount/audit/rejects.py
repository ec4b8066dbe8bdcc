"""The rejects that have to be, and those that are: compared by digests, so that memory is for chunks of
offsets and not for records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from surecount.audit.contents import PREFIX, Headers, compared, compared_key, digest, header
from surecount.audit.outputs import MalformedError

CHUNK = 100_000
"""Offsets to a chunk."""

ChunkId = tuple[str, int, int]
"""``(topic, partition, offset // CHUNK)``."""


class Reject(NamedTuple):
    """A rejected record: where it stood, the reason's code, and a digest of its key and value."""

    topic: str
    partition: int
    offset: int
    reason: str
    content: int

    @property
    def chunk(self) -> ChunkId:
        return self.topic, self.partition, self.offset // CHUNK


def is_reject_of(job: str, headers: Headers) -> bool:
    """Whether a record of the rejects topic, which the jobs of a pipeline share, is of ``job``."""
    return headers.get(f"{PREFIX}job") in (job, job.encode())


def parse_reject(headers: Headers, key: bytes | None, value: bytes | None) -> Reject:
    """Read a record of the rejects topic; raises MalformedError."""
    topic, partition, offset, reason = (header(headers, name) for name in ("topic", "partition", "offset", "reason"))
    if not (partition.isascii() and partition.isdigit() and offset.isascii() and offset.isdigit()):
        raise MalformedError(f"its partition is {partition!r} and its offset {offset!r}")
    return Reject(topic, int(partition), int(offset), reason, digest(compared_key(key), compared(value, headers)))


class RejectLedger:
    """Digests of expected less found rejects."""

    def __init__(self) -> None:
        self.expected = 0
        self.found = 0
        # Count, and sum of 64-bit digests, of the expected less the found.
        self._chunks: dict[ChunkId, tuple[int, int]] = {}

    def expect(self, reject: Reject) -> None:
        """The input has this one."""
        self.expected += 1
        self._book(reject, 1)

    def find(self, reject: Reject) -> None:
        """The rejects topic has this one."""
        self.found += 1
        self._book(reject, -1)

    def _book(self, reject: Reject, sign: int) -> None:
        count, total = self._chunks.get(reject.chunk, (0, 0))
        mark = digest(b"%d" % reject.offset, reject.reason.encode(), b"%d" % reject.content)
        count, total = count + sign, total + sign * mark
        if count or total:
            self._chunks[reject.chunk] = count, total
        else:
            del self._chunks[reject.chunk]

    def uneven(self) -> list[ChunkId]:
        """The chunks in which the rejects differ, in their order."""
        return sorted(self._chunks)


class RejectRecount:
    """A second look at some chunks, offset by offset."""

    def __init__(self, chunks: Iterable[ChunkId]) -> None:
        self.chunks = frozenset(chunks)
        self._expected: dict[tuple[str, int, int], Reject] = {}
        self._found: dict[tuple[str, int, int], list[Reject]] = {}

    def expect(self, reject: Reject) -> None:
        """The input has this one."""
        if reject.chunk in self.chunks:
            self._expected[reject[:3]] = reject

    def find(self, reject: Reject) -> None:
        """The rejects topic has this one."""
        if reject.chunk in self.chunks:
            self._found.setdefault(reject[:3], []).append(reject)

    def differences(self) -> list[tuple[tuple[str, int, int], Reject | None, list[Reject]]]:
        """``((topic, partition, offset), expected, found …)`` where one is not the other, in order."""
        places = sorted(self._expected.keys() | self._found.keys())
        pairs = [(place, self._expected.get(place), self._found.get(place, [])) for place in places]
        return [(place, expected, found) for place, expected, found in pairs if found != [expected]]
