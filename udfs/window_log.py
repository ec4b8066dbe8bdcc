"""The window log of one bucket: partials appended as they come, merged once when their window closes.

State of a bucket, as bytes in the caller's store:

- the *ledger*: through which time each aggregate is closed here, and which windows are open with which
  segments. JSON ``{"v":1,"closed":{aggregate:ms},"open":[[aggregate,start,end,first,next,base,appended]]}``:
  segments ``first`` … ``next - 1`` exist, ``base`` and ``appended`` are bytes.
- *segments*, each one encoded partial (:mod:`udfs.partials`), named ``aggregate|start|end|number``.

Appending writes one segment and reads none. When what was appended outweighs what was compacted before,
the segments become one, so that state stays proportional to the distinct keys of open windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from udfs import partials
from udfs.combine import Piece
from udfs.spec import Aggregate, Spec
from udfs.store import Store, UnknownVersionError

LEDGER_VERSION = 1
NO_WATERMARK = -(1 << 63)

_COMPACT_BYTES = 256 * 1024
_COMPACT_SEGMENTS = 64


@dataclass(frozen=True)
class Merged:
    """Counts and sums that leave the log: a closed window, or late deltas where ``late_by_ms`` is set."""

    aggregate: Aggregate
    start: int
    end: int
    partial: pa.RecordBatch
    late_by_ms: int | None = None

    @property
    def records(self) -> int:
        """How many records it counts."""
        return int(pc.sum(self.partial.column("count")).as_py() or 0)


@dataclass
class _Window:
    aggregate: str
    start: int
    end: int
    first: int = 0
    next: int = 0
    base: int = 0
    appended: int = 0

    def segment(self, number: int) -> str:
        return f"{self.aggregate}|{self.start}|{self.end}|{number}"

    def segments(self) -> list[str]:
        return [self.segment(number) for number in range(self.first, self.next)]


@dataclass
class _Ledger:
    closed: dict[str, int] = field(default_factory=dict)
    windows: dict[tuple[str, int, int], _Window] = field(default_factory=dict)

    @classmethod
    def decode(cls, data: bytes | None) -> _Ledger:
        if data is None:
            return cls()
        content = orjson.loads(data)
        if content["v"] != LEDGER_VERSION:
            raise UnknownVersionError(f"a ledger of version {content['v']}; this code reads version {LEDGER_VERSION}")
        windows = [_Window(*row) for row in content["open"]]
        return cls(content["closed"], {(w.aggregate, w.start, w.end): w for w in windows})

    def encode(self) -> bytes:
        rows = [[w.aggregate, w.start, w.end, w.first, w.next, w.base, w.appended] for w in self.windows.values()]
        return orjson.dumps({"v": LEDGER_VERSION, "closed": self.closed, "open": rows})


@dataclass(frozen=True)
class Appended:
    """What an append asks for: timers for windows that it opened, and late deltas to send on. ``newest`` is the latest
    start of a window that something went to."""

    timers: list[int]
    late: list[Merged]
    newest: int


class WindowLog:
    """The log of one bucket over a :class:`Store`; holds no state of its own."""

    def __init__(self, spec: Spec, store: Store) -> None:
        self._spec = spec
        self._store = store

    def append(self, pieces: Iterator[Piece], watermark: int) -> Appended:
        """Keep each partial, or return it as late deltas where its window is closed."""
        ledger = _Ledger.decode(self._store.read_ledger())
        timers: list[int] = []
        late: list[Merged] = []
        newest = NO_WATERMARK
        for piece in pieces:
            newest = max(newest, piece.start)
            aggregate = self._spec.by_name[piece.aggregate]
            end = piece.start + aggregate.window_ms
            closed_through = max(ledger.closed.get(aggregate.name, NO_WATERMARK), watermark + 1)
            if end <= closed_through:
                partial = partials.decode(piece.partial, aggregate)
                late.append(Merged(aggregate, piece.start, end, partial, closed_through - end))
                continue
            key = (aggregate.name, piece.start, end)
            window = ledger.windows.get(key)
            if window is None:
                window = ledger.windows[key] = _Window(*key)
                timers.append(end - 1)
            self._write(window, piece.partial)
            if window.appended > max(window.base, _COMPACT_BYTES) or window.next - window.first >= _COMPACT_SEGMENTS:
                self._compact(window, aggregate)
        self._store.write_ledger(ledger.encode())
        return Appended(timers, late, newest)

    def open_timers(self) -> list[int]:
        """The timers of all windows that are open."""
        return sorted({window.end - 1 for window in _Ledger.decode(self._store.read_ledger()).windows.values()})

    def close(self, time: int) -> list[Merged]:
        """Merge and forget every window whose last millisecond is ``time`` or earlier.

        Windows of an aggregate that was taken out of the pipeline are only forgotten.
        """
        ledger = _Ledger.decode(self._store.read_ledger())
        due = [window for window in ledger.windows.values() if window.end - 1 <= time]
        closed: list[Merged] = []
        for window in sorted(due, key=lambda w: (w.end, w.aggregate)):
            aggregate = self._spec.by_name.get(window.aggregate)
            if aggregate is None:  # the pipeline has it no longer
                self._remove(window)
            else:
                closed.append(Merged(aggregate, window.start, window.end, self._take(window, aggregate)))
            del ledger.windows[window.aggregate, window.start, window.end]
            ledger.closed[window.aggregate] = max(window.end, ledger.closed.get(window.aggregate, NO_WATERMARK))
        self._store.write_ledger(ledger.encode())
        return closed

    def _write(self, window: _Window, data: bytes) -> None:
        self._store.write_segment(window.segment(window.next), data)
        window.next += 1
        window.appended += len(data)

    def _take(self, window: _Window, aggregate: Aggregate) -> pa.RecordBatch:
        """All of a window as one partial; its segments are removed."""
        read = [partials.decode(self._store.read_segment(name), aggregate) for name in window.segments()]
        self._remove(window)
        return partials.merge(read, aggregate)

    def _remove(self, window: _Window) -> None:
        for name in window.segments():
            self._store.remove_segment(name)
        window.first = window.next

    def _compact(self, window: _Window, aggregate: Aggregate) -> None:
        data = partials.encode(self._take(window, aggregate), aggregate)
        self._write(window, data)
        window.base, window.appended = len(data), 0
