"""The Python operators: thin shells that give :mod:`udfs` its batches and Flink's state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from pyflink.common import Row, Types
from pyflink.datastream import FlatMapFunction, KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor
from pyflink.table.udf import ScalarFunction

from udfs import results
from udfs.combine import combine, pack, split_by_bucket, unpack
from udfs.decode import Batch, Decoder
from udfs.spec import Spec
from udfs.window_log import Merged, WindowLog

RESULT = "result"
CORRECTION = "correction"

DECODED = "ROW<pieces BYTES, rejected STRING>"
SPLIT = Types.ROW_NAMED(["bucket", "pieces"], [Types.INT(), Types.PRIMITIVE_ARRAY(Types.BYTE())])
MERGED = Types.ROW_NAMED(["kind", "head", "key_tail", "middle", "tail", "lines"], [Types.STRING() for _ in range(6)])


class DecodeAndCombine(ScalarFunction):
    """One Arrow batch of records in, as many rows out.

    A rejected record has reason, Kafka timestamp and detail in its own row, beside its original bytes; the
    first accepted one carries all partials of the batch; the others are null.
    """

    def __init__(self, spec: Spec) -> None:
        self._spec = spec

    def open(self, _context: Any) -> None:
        self._decode = Decoder(self._spec)

    def eval(self, values: pd.Series, kafka_time: pd.Series) -> pd.DataFrame:
        kafka_ms = kafka_time.to_numpy("datetime64[ms]").astype(np.int64)
        batch = Batch(values.tolist(), kafka_ms)
        columns, rejected = self._decode(batch)
        rows = len(values)
        pieces, reasons = np.full(rows, None, object), np.full(rows, None, object)
        if len(columns.rows):
            pieces[columns.rows[0]] = pack(combine(columns, self._spec))
        for record in rejected:
            reasons[record.row] = f"{record.reason}\t{kafka_ms[record.row]}\t{record.detail}"
        return pd.DataFrame({"pieces": pieces, "rejected": reasons})


class SplitByBucket(FlatMapFunction):
    """A batch's partials, apart by bucket."""

    def flat_map(self, value: Row) -> Iterator[Row]:
        for bucket, pieces in split_by_bucket(bytes(value[0])).items():
            yield Row(bucket, pieces)


class Windows(KeyedProcessFunction):
    """The window logs of the buckets that fall to this subtask, over keyed state and event-time timers."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec

    def open(self, context: RuntimeContext) -> None:
        data = Types.PRIMITIVE_ARRAY(Types.BYTE())
        self._ledger = context.get_state(ValueStateDescriptor("ledger", data))
        self._segments = context.get_map_state(MapStateDescriptor("segments", Types.STRING(), data))
        self._log = WindowLog(self._spec, self)

    def process_element(self, value: Row, context: Any) -> Iterator[Row]:
        timers = context.timer_service()
        appended = self._log.append(unpack(bytes(value[1])), timers.current_watermark())
        for time in appended.timers:
            timers.register_event_time_timer(time)
        for late in appended.late:
            yield from _rows(CORRECTION, late)

    def on_timer(self, timestamp: int, _context: Any) -> Iterator[Row]:
        for closed in self._log.close(timestamp):
            yield from _rows(RESULT, closed)

    # The window log's store, for the current key.

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


def _rows(kind: str, merged: Merged) -> Iterator[Row]:
    for pack_ in results.packs(merged):
        yield Row(kind, pack_.head, pack_.key_tail, pack_.middle, pack_.tail, pack_.lines)
