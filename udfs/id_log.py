"""The id log of one bucket: which events were there within the horizon, for exact deduplication.

An id is a 128-bit hash (:mod:`udfs.ids`). Ids are kept by *slices* of event time, an eighth of the horizon
each, and leave with their slice once the watermark has passed its end by the horizon. The ids of a slice are
in sorted *runs*; runs of like size are merged, so that there are few. State of a bucket, in the caller's store:

- the *ledger*: JSON ``{"v":1,"forgotten":ms,"slices":[[start,end,[[number,ids],…]],…]}``: what is earlier than
  ``forgotten`` is not known any more, also after a restore, where Flink's watermark begins anew;
- *segments*, one a run, named ``start|end|number``: 16 bytes an id, two little-endian words, by the first word.

In memory is the first word of every id, 8 bytes, so that an id that is not known needs no look at the
store. The second words, which make sure, are there for the slices in use, and read again for others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import orjson

from udfs.store import Store, UnknownVersionError

Ids = npt.NDArray[np.uint64]
"""``(n, 2)`` words."""
Words = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

VERSION = 1
NO_WATERMARK = -(1 << 63)

_SLICES = 8
_WHOLE_SLICES = 3
_MERGED_RUNS = 4


@dataclass
class _Run:
    """Sorted ids: first words, and second words where they are in memory."""

    number: int
    first: Words
    second: Words | None

    def __len__(self) -> int:
        return len(self.first)


@dataclass
class _Slice:
    start: int
    end: int
    runs: list[_Run] = field(default_factory=list)

    @property
    def key(self) -> tuple[int, int]:
        return self.start, self.end

    @property
    def whole(self) -> bool:
        return all(run.second is not None for run in self.runs)

    def segment(self, number: int) -> str:
        return f"{self.start}|{self.end}|{number}"


@dataclass(frozen=True)
class Admitted:
    """What is to be done with each record of a batch; one is in none of the three where it is new."""

    duplicate: Bools
    too_old: Bools


class IdLog:
    """The log of one bucket over a :class:`Store`. Whoever holds one is the only one to write that store."""

    def __init__(self, store: Store, horizon_ms: int) -> None:
        self._store = store
        self._horizon_ms = horizon_ms
        self._width = max(1, horizon_ms // _SLICES)
        self._forgotten = 0
        self._slices = {piece.key: piece for piece in self._read_ledger()}
        # Of the slices whose second words are in memory, the one used last stands last.
        self._in_use = [key for key, piece in self._slices.items() if piece.whole]

    def admit(self, ids: Ids, time_ms: Int64s, watermark: int, replayed: Bools) -> Admitted:
        """Judge records in their order of arrival, and remember the ids of new ones.

        ``replayed`` ones are never too old. The first of equal ids in a batch is the new one.
        """
        before = self._encode()
        oldest = max(watermark - self._horizon_ms if watermark > NO_WATERMARK else 0, self._forgotten)
        self._forget(oldest)
        too_old = (time_ms < oldest) & ~replayed
        duplicate = np.zeros(len(ids), bool)
        # Sorted by id, those of one id in their order of arrival.
        rows = np.flatnonzero(~too_old)
        rows = rows[np.lexsort((rows, ids[rows, 1], ids[rows, 0]))]
        repeated = np.zeros(len(rows), bool)
        repeated[1:] = (ids[rows[1:]] == ids[rows[:-1]]).all(axis=1)
        duplicate[rows[repeated]] = True
        rows = rows[~repeated]
        known = self._known(ids[rows])
        duplicate[rows[known]] = True
        self._remember(ids[rows[~known]], time_ms[rows[~known]], oldest)
        if (ledger := self._encode()) != before:
            self._store.write_ledger(ledger)
        return Admitted(duplicate, too_old)

    def _known(self, ids: Ids) -> Bools:
        """Which of sorted ids are remembered."""
        known = np.zeros(len(ids), bool)
        first = np.ascontiguousarray(ids[:, 0])
        for piece in list(self._slices.values()):
            if any(_place(run, first)[1].any() for run in piece.runs):
                self._use(piece)
                for run in piece.runs:
                    known |= _contains(run, ids, first)
        return known

    def _remember(self, ids: Ids, time_ms: Int64s, oldest: int) -> None:
        starts = time_ms - time_ms % self._width
        for start in np.unique(starts).tolist():
            end = start + self._width
            if end <= oldest:  # a replayed record, older than what is remembered
                continue
            piece = self._slices.setdefault((start, end), _Slice(start, end))
            self._use(piece)
            new = ids[starts == start]
            self._add(piece, np.ascontiguousarray(new[:, 0]), np.ascontiguousarray(new[:, 1]))

    def _add(self, piece: _Slice, first: Words, second: Words) -> None:
        """A new run of sorted ids; it takes in the last ones where there are several not much larger."""
        number = 1 + max((run.number for run in piece.runs), default=-1)
        size, taken = len(first), 0
        while True:
            like = 0
            for run in reversed(piece.runs[: len(piece.runs) - taken]):
                if len(run) > _MERGED_RUNS * size:
                    break
                like += 1
            if like < _MERGED_RUNS - 1:
                break
            size += sum(len(run) for run in piece.runs[len(piece.runs) - taken - like : len(piece.runs) - taken])
            taken += like
        self._replace(piece, len(piece.runs) - taken, _Run(number, first, second))

    def _replace(self, piece: _Slice, keep: int, new: _Run) -> None:
        """Merge ``new`` with all runs from number ``keep`` on, in memory and in the store."""
        old = piece.runs[keep:]
        if old:
            runs = [*old, new]
            first = np.concatenate([run.first for run in runs])
            second = np.concatenate([run.second for run in runs if run.second is not None])
            order = np.argsort(first, kind="stable")
            new = _Run(new.number, first[order], second[order])
        assert new.second is not None
        self._store.write_segment(piece.segment(new.number), np.stack([new.first, new.second], axis=1).tobytes())
        for run in old:
            self._store.remove_segment(piece.segment(run.number))
        piece.runs[keep:] = [new]

    def _use(self, piece: _Slice) -> None:
        """Have the second words of a slice in memory; let go of those that were not used for longest."""
        if piece.key in self._in_use:
            self._in_use.remove(piece.key)
        else:
            for run in piece.runs:
                words = _words(self._store.read_segment(piece.segment(run.number)))
                run.second = np.ascontiguousarray(words[:, 1])
        self._in_use.append(piece.key)
        if len(self._in_use) > _WHOLE_SLICES:
            self._settle(self._slices[self._in_use.pop(0)])

    def _settle(self, piece: _Slice) -> None:
        """One run, of which the first words stay in memory."""
        if len(piece.runs) > 1:
            last = piece.runs.pop()
            self._store.remove_segment(piece.segment(last.number))
            self._replace(piece, 0, _Run(last.number + 1, last.first, last.second))
        for run in piece.runs:
            run.second = None

    def _forget(self, oldest: int) -> None:
        for key, piece in list(self._slices.items()):
            if piece.end <= oldest:
                self._forgotten = max(self._forgotten, piece.end)
                for run in piece.runs:
                    self._store.remove_segment(piece.segment(run.number))
                del self._slices[key]
                if key in self._in_use:
                    self._in_use.remove(key)

    def _read_ledger(self) -> Iterator[_Slice]:
        data = self._store.read_ledger()
        if data is None:
            return
        content = orjson.loads(data)
        if content["v"] != VERSION:
            raise UnknownVersionError(f"an id log of version {content['v']}; this code reads version {VERSION}")
        self._forgotten = content["forgotten"]
        for start, end, runs in content["slices"]:
            piece = _Slice(start, end)
            for number, _ in runs:
                words = _words(self._store.read_segment(piece.segment(number)))
                piece.runs.append(_Run(number, np.ascontiguousarray(words[:, 0]), None))
            yield piece

    def _encode(self) -> bytes:
        slices = [
            [piece.start, piece.end, [[run.number, len(run)] for run in piece.runs]] for piece in self._slices.values()
        ]
        return orjson.dumps({"v": VERSION, "forgotten": self._forgotten, "slices": slices})


def _words(data: bytes) -> Ids:
    return np.frombuffer(data, "<u8").reshape(-1, 2)


def _place(run: _Run, first: Words) -> tuple[Int64s, Bools]:
    """Where each first word would stand in the run, and whether it stands there."""
    at = np.searchsorted(run.first, first)
    at[at == len(run.first)] = 0
    return at, run.first[at] == first


def _contains(run: _Run, ids: Ids, first: Words) -> Bools:
    """Which ids the run has, both words looked at."""
    assert run.second is not None
    at, alike = _place(run, first)
    found: Bools = alike & (run.second[at] == ids[:, 1])
    # Equal first words of different ids stand side by side, in no order.
    for row in np.flatnonzero(alike & ~found):
        end = np.searchsorted(run.first, first[row], "right")
        found[row] = (run.second[at[row] : end] == ids[row, 1]).any()
    return found
