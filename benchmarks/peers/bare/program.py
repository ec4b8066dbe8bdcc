"""Counts and sums in a dict: what plain Python does at most, with nothing kept and nothing promised.

A window is over when every partition has had an event so much later than its end. Run with the work as JSON.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from benchmarks.peers.work import Work, from_json, key_fields, result

# For one aggregate: by key, the count and the sum.
Totals = dict[str, list[int]]

_BATCH = 10_000
_WAIT_S = 0.1


def main(work: Work) -> None:
    """Work for ever. Raises KafkaException for what Kafka says of a partition or of a result."""
    consumer, latest = _reader(work)
    producer = Producer(
        {"bootstrap.servers": work.bootstrap_servers, "linger.ms": 20, "on_delivery": _raise_where_lost},
    )
    fields = key_fields(work)
    from_field = work.event_time == "field"
    window_ms = work.window_ms
    windows: defaultdict[int, list[Totals]] = defaultdict(lambda: [{} for _ in fields])
    over = 0
    while True:
        messages: list[Any] = consumer.consume(_BATCH, _WAIT_S)
        for message in messages:
            if message.error() is not None:
                raise KafkaException(message.error())
            event = orjson.loads(message.value())
            ts = event["ts"] if from_field else message.timestamp()[1]
            partition = message.partition()
            if ts > latest[partition]:
                latest[partition] = ts
            start = ts - ts % window_ms
            if start < over:
                continue  # late
            amount = event["amount"]
            for field, totals in zip(fields, windows[start], strict=True):
                total = totals.get(event[field])
                if total is None:
                    totals[event[field]] = [1, amount]
                else:
                    total[0] += 1
                    total[1] += amount
        watermark = min(latest.values()) - work.out_of_orderness_ms
        over = max(over, watermark - watermark % window_ms)
        for start in sorted(start for start in windows if start < over):
            _write(work, producer, start, windows.pop(start))
        producer.poll(0)


def _reader(work: Work) -> tuple[Consumer, dict[int, int]]:
    """A consumer at the beginning of all partitions, and the highest event time that each has had: none yet."""
    consumer = Consumer(
        {
            "bootstrap.servers": work.bootstrap_servers,
            "group.id": work.results,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
        }
    )
    partitions = consumer.list_topics(work.source, timeout=10).topics[work.source].partitions
    consumer.assign([TopicPartition(work.source, partition, OFFSET_BEGINNING) for partition in partitions])
    return consumer, dict.fromkeys(partitions, 0)


def _write(work: Work, producer: Producer, start: int, window: list[Totals]) -> None:
    for aggregate, totals in enumerate(window):
        for key, (count, total) in totals.items():
            value = orjson.dumps(result(work, aggregate, key, start, count, total))
            while True:
                try:
                    producer.produce(work.results, value, key)
                except BufferError:
                    producer.poll(_WAIT_S)
                else:
                    break


def _raise_where_lost(error: KafkaError | None, _message: Message) -> None:
    if error is not None:
        raise KafkaException(error)


if __name__ == "__main__":
    main(from_json(sys.argv[1]))
