"""Counts and sums by Bytewax, at least once: Kafka's connectors, and a fold over tumbling windows.

https://docs.bytewax.io/stable/guide/concepts/windowing.html and recovery.html beside it.
``python -m bytewax.run 'benchmarks.peers.bytewax.program:totals("…")'`` with the work as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower, fold_window

from benchmarks.peers.work import from_json, key_fields, result

# ms since 1970, amount
Event = tuple[int, int]
Total = tuple[int, int]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def totals(text: str) -> Dataflow:
    """The dataflow for the work of that JSON."""
    work = from_json(text)
    fields = [(f"{number}|", field) for number, field in enumerate(key_fields(work))]
    from_field = work.event_time == "field"
    wait = timedelta(milliseconds=work.out_of_orderness_ms)

    def events(message: KafkaSourceMessage) -> Iterator[tuple[str, Event]]:
        event = orjson.loads(message.value)
        timed = event["ts"] if from_field else message.timestamp[1], event["amount"]
        return ((prefix + event[field], timed) for prefix, field in fields)

    def wake(_close: datetime) -> datetime:
        # A window of the past would be looked at without end by the default, its own end.
        return datetime.now(UTC) + wait

    def written(keyed: tuple[str, tuple[int, Total]]) -> KafkaSinkMessage:
        key, (window, (count, total)) = keyed
        number, name = key.split("|", 1)
        value = result(work, int(number), name, window * work.window_ms, count, total)
        return KafkaSinkMessage(name.encode(), orjson.dumps(value))

    flow = Dataflow("totals")
    brokers = work.bootstrap_servers.split(",")
    source = kop.input("source", flow, brokers=brokers, topics=[work.source])
    op.raises("unreadable", source.errs)
    keyed = op.flat_map("keyed", source.oks, events)
    windows = fold_window(
        "windows",
        keyed,
        EventClock(_time, wait, to_system_utc=wake),
        TumblingWindower(timedelta(milliseconds=work.window_ms), _EPOCH),
        builder=lambda: (0, 0),
        folder=lambda total, event: (total[0] + 1, total[1] + event[1]),
        merger=lambda one, other: (one[0] + other[0], one[1] + other[1]),
        ordered=False,
    )
    op.inspect("late", windows.late)
    kop.output("results", op.map("written", windows.down, written), brokers=brokers, topic=work.results)
    return flow


def _time(event: Event) -> datetime:
    return datetime.fromtimestamp(event[0] / 1_000, UTC)
