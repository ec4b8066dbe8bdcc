"""The Python operators of the jobs: thin shells that give :mod:`udfs` its batches and Flink's state.

Rows between Python and Java are bytes behind a number; ``java/src/main/java/surecount`` has the other half.
"""

from __future__ import annotations

import gc
import platform
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Any

import numpy as np
from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction, ProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from jobs.internals import prepare_worker
from jobs.telling import Flows, now_ms, tell_waiting
from udfs import combine, copies, event_times, flows, reasons, records, rejected, results
from udfs.batches import Taker
from udfs.decode import Columns
from udfs.event_times import EventTimes
from udfs.id_log import IdLog
from udfs.packs import Unpacked, read_batch
from udfs.records import REPLAY, Arrived, Places, Records, arrive, arrive_again, places
from udfs.spec import Inlet, Spec
from udfs.window_log import Merged, WindowLog

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
DECODED = Types.ROW([Types.INT(), BYTES])
"""A bucket and its piece; or one of these numbers and what it stands for."""
REJECTS, END = -1, -2
"""A block of rejected records; the end of a batch, with its event times."""

MERGED = Types.ROW([Types.INT(), *[BYTES] * 5])
"""A block of results: kind, and the parts of :class:`udfs.results.Pack`."""
RESULT, CORRECTION = 0, 1

ADMITTED = Types.ROW([Types.INT(), BYTES])
"""A block of records, and what becomes of them."""
CLEAN, DUPLICATE, TOO_OLD = 0, 1, 2


class _Decode(ProcessFunction):
    """A batch of packs in; pieces by bucket out, then rejected records, then what the batch says of event time."""

    wakes = False
    """Whether every bucket gets an empty piece, before the first one of a start."""
    said: tuple[str, ...] = ("topic", "partition", "offset", "reason", "timestamp", "detail")
    """What headers say of a rejected record."""

    def __init__(self, job: str, spec: Spec, inlets: tuple[Inlet, ...], times: EventTimes) -> None:
        """``job`` is the job's name for rejects, ``inlets`` the topics that are read."""
        self._job = job
        self._spec = spec
        self._inlets = inlets
        self._times = times

    def open(self, context: RuntimeContext) -> None:
        prepare_worker(context)
        self._flows = Flows(context.get_metrics_group())
        self._taker = Taker(self._spec, self._places(), self._arrive, self._pieces, self._times)
        self._sleeping = range(self._spec.buckets if self.wakes else 0)
        _spare_collector()

    def process_element(self, value: bytes, _context: Any) -> Iterator[Row]:
        batch = read_batch(value)
        taken = self._taker.take(batch)
        self._flows.count(flows.RECORDS, taken.records)
        for reason, number in taken.reasons.items():
            self._flows.count(flows.REJECTED + reason, number)
        for bucket, piece in (dict.fromkeys(self._sleeping, b"") | taken.pieces).items():
            yield Row(bucket, piece)
        self._sleeping = range(0)
        if taken.rejected:
            yield Row(REJECTS, rejected.block(taken.rejected, self._job, self.said))
        yield Row(END, taken.times.encode(batch))

    def _places(self) -> Places:
        """The pathways and topics that are read."""
        return places(self._inlets)

    def _arrive(self, found: Unpacked, source: records.Int64s, partition: records.Int64s) -> Arrived:
        """The records with their origins."""
        return arrive(found, source, partition, self._inlets)

    def _pieces(self, columns: Columns, arrived: Arrived) -> Iterable[tuple[int, bytes]]:
        """What is sent on, each bucket once; nothing of no rows. Pieces of one bucket can be joined."""
        raise NotImplementedError


class DecodeAndCombine(_Decode):
    """Sends on the partials of a batch, by bucket of their keys."""

    wakes = True

    def _pieces(self, columns: Columns, _arrived: Arrived) -> Iterable[tuple[int, bytes]]:
        return combine.by_bucket(combine.combine(columns, self._spec)).items()


class DecodeAndIdentify(_Decode):
    """Sends on the accepted records of a batch, by bucket of their ids."""

    said = ("pathway", *_Decode.said)

    def _pieces(self, columns: Columns, arrived: Arrived) -> Iterable[tuple[int, bytes]]:
        found = records.by_bucket(arrived, columns, self._spec.event_id, self._spec.buckets)
        return ((bucket, of_bucket.encode()) for bucket, of_bucket in found)


class DecodeReplayed(DecodeAndIdentify):
    """The same of the replay topic, whose records move no watermark."""

    def __init__(self, job: str, spec: Spec, topic: str) -> None:
        super().__init__(job, spec, (), event_times.no_times)
        self._topic = topic

    def _places(self) -> Places:
        return ((REPLAY, self._topic),)

    def _arrive(self, found: Unpacked, _source: records.Int64s, partition: records.Int64s) -> Arrived:
        return arrive_again(found, partition, self._topic)


def _spare_collector() -> None:
    """Have the garbage collector pass over what is loaded.

    Libraries have more than 100,000 objects that stay. To go through them again and again cost five times
    what it costs to make a row.
    """
    gc.collect()
    gc.freeze()


class _BucketState(KeyedProcessFunction):
    """The store of a log (:mod:`udfs.store`) for the current key, a bucket."""

    def open(self, context: RuntimeContext) -> None:
        prepare_worker(context)
        _tell_versions(context.get_metrics_group())
        self._ledger = context.get_state(ValueStateDescriptor("ledger", BYTES))
        self._segments = context.get_map_state(MapStateDescriptor("segments", Types.STRING(), BYTES))
        _spare_collector()

    def read_ledger(self) -> bytes | None:
        data = self._ledger.value()
        return None if data is None else bytes(data)

    def write_ledger(self, data: bytes) -> None:
        self._ledger.update(data)

    def read_segment(self, name: str) -> bytes:
        return bytes(self._segments.get(name))

    def write_segment(self, name: str, data: bytes) -> None:
        self._segments.put(name, data)

    def remove_segment(self, name: str) -> None:
        self._segments.remove(name)


def _tell_versions(metrics: Any) -> None:
    """What this worker runs on, in the name of a metric, for `surecount doctor`; set once a bundle, not a record."""
    if metrics is None:
        return  # python.metric.enabled is false
    group = metrics.add_group("surecount_worker")
    for name in ("apache-flink", "numpy", "pyarrow"):
        group = group.add_group(name, metadata.version(name))
    group.add_group("python", platform.python_version()).gauge("runs", lambda: 1)


_END = (1 << 63) - 1
"""Flink's last watermark."""


class Windows(_BucketState):
    """The window logs of the buckets that fall to this subtask, over keyed state and event-time timers.

    A checkpoint may hold a window without its timer: PyFlink sets the timers of the bundle that a checkpoint ends
    after the checkpoint. So the first that a bucket hears after a start sets the timers of all its open windows
    again; :class:`DecodeAndCombine` sees to it that each bucket hears something. Where no record comes any more,
    there is a timer for the end of the input.
    """

    def __init__(self, spec: Spec, patience_ms: int) -> None:
        self._spec = spec
        self._patience_ms = patience_ms

    def open(self, context: RuntimeContext) -> None:
        super().open(context)
        self._log = WindowLog(self._spec, self)
        self._awake: set[int] = set()
        self._flows = Flows(context.get_metrics_group())
        self._waiting = flows.Waiting(self._patience_ms)
        tell_waiting(context.get_metrics_group(), self._waiting)

    def process_element(self, value: bytes, context: Any) -> Iterator[Row]:
        bucket, timers = context.get_current_key(), context.timer_service()
        if bucket not in self._awake:
            self._awake.add(bucket)
            for time in (*self._log.open_timers(), _END):
                timers.register_event_time_timer(time)
        if not value:
            return
        pieces = combine.unpack(bucket, bytes(value))
        watermark = timers.current_watermark()
        appended = self._log.append(pieces, watermark)
        self._waiting.note(appended.newest, watermark, now_ms())
        for time in appended.timers:
            timers.register_event_time_timer(time)
        for late in appended.late:
            self._flows.count(flows.LATE + late.aggregate.name, late.records)
            yield from _rows(CORRECTION, late)

    def on_timer(self, timestamp: int, _context: Any) -> Iterator[Row]:
        for closed in self._log.close(timestamp):
            yield from _rows(RESULT, closed)


def _rows(kind: int, merged: Merged) -> Iterator[Row]:
    for pack in results.packs(merged):
        parts = (pack.head, pack.key_tail, pack.middle, pack.tail, pack.lines)
        yield Row(kind, *(part.encode() for part in parts))


class Deduplicate(_BucketState):
    """The id logs of the buckets that fall to this subtask; each event leaves once."""

    def __init__(self, job: str, horizon_ms: int, *, list_duplicates: bool) -> None:
        """``job`` is the job's name for rejects."""
        self._job = job
        self._horizon_ms = horizon_ms
        self._list_duplicates = list_duplicates

    def open(self, context: RuntimeContext) -> None:
        super().open(context)
        self._logs: dict[int, IdLog] = {}
        self._metrics = context.get_metrics_group()
        self._flows = Flows(self._metrics)
        self._counters: dict[str, Any] = {}

    def process_element(self, value: bytes, context: Any) -> Iterator[Row]:
        bucket, watermark = context.get_current_key(), context.timer_service().current_watermark()
        if bucket not in self._logs:
            self._logs[bucket] = IdLog(self, self._horizon_ms)
        for arrived in Records.decode(bytes(value)):
            yield from self._admit(bucket, arrived, watermark)

    def _admit(self, bucket: int, arrived: Records, watermark: int) -> Iterator[Row]:
        times, replayed = arrived.column("time"), arrived.column("replayed")
        admitted = self._logs[bucket].admit(arrived.ids(), times, watermark, replayed)
        clean = arrived.filter(~(admitted.duplicate | admitted.too_old))
        yield from (Row(CLEAN, block) for block in copies.blocks(clean, watermark))
        if admitted.too_old.any():
            self._flows.count(flows.REJECTED + reasons.BEYOND_HORIZON, int(admitted.too_old.sum()))
            for part in arrived.filter(admitted.too_old).cut():
                said = rejected.too_old(part, watermark)
                yield Row(TOO_OLD, rejected.block([said], self._job, rejected.SAID))
        if admitted.duplicate.any():
            duplicates = arrived.filter(admitted.duplicate)
            self._flows.count(flows.DUPLICATES, duplicates.batch.num_rows)
            self._count(duplicates)
            if self._list_duplicates:
                yield from (Row(DUPLICATE, block) for block in copies.blocks(duplicates, watermark))

    def _count(self, duplicates: Records) -> None:
        if self._metrics is None:
            return  # python.metric.enabled is false
        places, counts = np.unique(duplicates.column("place"), return_counts=True)
        for place, number in zip(places.tolist(), counts.tolist(), strict=True):
            pathway = duplicates.places[place][0]
            if pathway not in self._counters:
                group = self._metrics.add_group("pathway", pathway)
                self._counters[pathway] = group.counter("duplicates")
            self._counters[pathway].inc(number)
