"""The Python operators of both jobs: thin shells that give :mod:`udfs` its batches and Flink's state."""

from __future__ import annotations

import gc
import platform
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from typing import Any

import numpy as np
import pyarrow as pa
from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor
from pyflink.table.udf import ScalarFunction

from jobs.crossing import internal_rows, prepare_worker
from jobs.telling import Flows, now_ms, of_function, tell_waiting
from udfs import combine, flows, reasons, records, results
from udfs.batches import Packs, Taker
from udfs.decode import Columns
from udfs.id_log import IdLog
from udfs.packs import Unpacked
from udfs.records import REPLAY, Arrived, Places, Records, arrive, arrive_again, places
from udfs.spec import Inlet, Spec
from udfs.window_log import Merged, WindowLog

RESULT = "result"
CORRECTION = "correction"
CLEAN = "clean"
DUPLICATE = "duplicate"
TOO_OLD = "too old"

_BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())

_DECODED = pa.struct(
    [
        ("pieces", pa.map_(pa.int32(), pa.binary())),
        ("rejected", pa.map_(pa.int32(), pa.list_(pa.binary()))),
    ]
)
DECODED = "ROW<pieces MAP<INT, BYTES>, rejected MAP<INT, ARRAY<BYTES>>>"
"""Rejected records by their number in the batch; Flink cannot convert lists of lists."""
MERGED = Types.ROW_NAMED(["kind", "head", "key_tail", "middle", "tail", "lines"], [Types.STRING() for _ in range(6)])
_RECORD = Types.ROW_NAMED(
    ["k", "v", "headers", "partition_", "offset_", "kafka_ms", "event_ms"],
    [
        _BYTES,
        _BYTES,
        Types.MAP(Types.STRING(), _BYTES),
        Types.INT(),
        Types.LONG(),
        Types.LONG(),
        Types.LONG(),
    ],
)
ADMITTED = Types.ROW_NAMED(
    ["kind", "watermark_ms", "pathway", "topic", "records"],
    [Types.STRING(), Types.LONG(), Types.STRING(), Types.STRING(), Types.OBJECT_ARRAY(_RECORD)],
)


class _Decode(ScalarFunction):
    """One Arrow batch of packs of records in, as many rows out.

    The first row carries all that the batch sends on, each row the records of its pack that are rejected: why, where
    they come from, and their original bytes. A row that has nothing to say is null.
    """

    wakes = False
    """Whether every bucket gets an empty piece, before the first one of a start."""

    def __init__(self, spec: Spec, inlets: tuple[Inlet, ...]) -> None:
        self._spec = spec
        self._inlets = inlets

    def open(self, context: Any) -> None:
        prepare_worker()
        self._flows = Flows(of_function(context))
        self._taker = Taker(self._spec, self._arrive, self._pieces)
        self._sleeping = range(self._spec.buckets if self.wakes else 0)
        _spare_collector()

    def eval(
        self,
        index: pa.Array,
        values: pa.Array,
        keys: pa.Array,
        header_lengths: pa.Array,
        header_bytes: pa.Array,
        source: pa.Array | int,
        partition: pa.Array,
    ) -> pa.Array:
        # PyFlink hands on a constant, which it is where there is one topic, as itself.
        sources = np.full(len(index), source) if isinstance(source, int) else source.to_numpy().astype(np.int64)
        columns = (index, values, keys, header_lengths, header_bytes)
        taken = self._taker.take(Packs(columns, self._places(), sources, partition.to_numpy().astype(np.int64)))
        self._flows.count(flows.RECORDS, taken.records)
        for reason, number in taken.reasons.items():
            self._flows.count(flows.REJECTED + reason, number)
        pieces = dict.fromkeys(self._sleeping, b"") | taken.pieces
        self._sleeping = range(0)
        parts: dict[str, dict[int, list[Any]]] = {
            "pieces": {0: [*pieces.items()]} if pieces else {},
            "rejected": {pack: [*said] for pack, said in taken.rejected.items()},
        }
        says_nothing = np.ones(len(index), bool)
        says_nothing[[row for part in parts.values() for row in part]] = False
        return pa.StructArray.from_arrays(
            [_sparse(len(index), parts[field.name], field.type) for field in _DECODED],
            fields=list(_DECODED),
            # Flink copies a row's every field wherever it looks into one; not where the row is null.
            mask=pa.array(says_nothing),
        )

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

    def _pieces(self, columns: Columns, arrived: Arrived) -> Iterable[tuple[int, bytes]]:
        found = records.by_bucket(arrived, columns, self._spec.event_id, self._spec.buckets)
        return ((bucket, of_bucket.encode()) for bucket, of_bucket in found)


class DecodeReplayed(DecodeAndIdentify):
    """The same of the replay topic."""

    def __init__(self, spec: Spec, topic: str) -> None:
        super().__init__(spec, ())
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


def _sparse(rows: int, values: Mapping[int, Any], type_: pa.DataType) -> pa.Array:
    """An array of so many rows, null but for these."""
    if not values:
        return pa.nulls(rows, type_)
    at = np.full(rows, -1)
    at[[*values]] = range(len(values))
    return pa.array([*values.values()], type_).take(pa.array(at, mask=at < 0))


class _BucketState(KeyedProcessFunction):
    """The store of a log (:mod:`udfs.store`) for the current key, a bucket."""

    def open(self, context: RuntimeContext) -> None:
        prepare_worker()
        _tell_versions(context.get_metrics_group())
        self._ledger = context.get_state(ValueStateDescriptor("ledger", _BYTES))
        self._segments = context.get_map_state(MapStateDescriptor("segments", Types.STRING(), _BYTES))
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


def _rows(kind: str, merged: Merged) -> Iterator[Row]:
    for pack_ in results.packs(merged):
        yield Row(kind, pack_.head, pack_.key_tail, pack_.middle, pack_.tail, pack_.lines)


class Deduplicate(_BucketState):
    """The id logs of the buckets that fall to this subtask; each event leaves once."""

    def __init__(self, horizon_ms: int, *, list_duplicates: bool) -> None:
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
        yield from _packs(CLEAN, arrived.filter(~(admitted.duplicate | admitted.too_old)), watermark)
        if admitted.too_old.any():
            self._flows.count(flows.REJECTED + reasons.BEYOND_HORIZON, int(admitted.too_old.sum()))
            yield from _packs(TOO_OLD, arrived.filter(admitted.too_old), watermark)
        if admitted.duplicate.any():
            duplicates = arrived.filter(admitted.duplicate)
            self._flows.count(flows.DUPLICATES, duplicates.batch.num_rows)
            self._count(duplicates)
            if self._list_duplicates:
                yield from _packs(DUPLICATE, duplicates, watermark)

    def _count(self, duplicates: Records) -> None:
        places, counts = np.unique(duplicates.column("place"), return_counts=True)
        for place, number in zip(places.tolist(), counts.tolist(), strict=True):
            pathway = duplicates.places[place][0]
            if pathway not in self._counters:
                group = self._metrics.add_group("pathway", pathway)
                self._counters[pathway] = group.counter("duplicates")
            self._counters[pathway].inc(number)


def _packs(kind: str, found: Records, watermark: int) -> Iterator[Row]:
    """Records of one topic to a row, as an array of rows.

    Not as several arrays: Flink copies an array whenever it takes an element, and a row of an array once.
    """
    for (pathway, topic), of_topic in found.by_place():
        for at in range(0, of_topic.batch.num_rows, results.PACK_RECORDS):
            part = of_topic.slice(at, results.PACK_RECORDS)
            columns = (part.column(name).tolist() for name in ("key", "value"))
            numbers = (part.column(name).tolist() for name in ("partition", "offset", "kafka_ms", "time"))
            rows = internal_rows(zip(*columns, part.headers(), *numbers, strict=True))
            yield Row(kind, watermark, pathway, topic, rows)
