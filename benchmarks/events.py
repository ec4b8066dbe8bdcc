"""Events for a measurement, and what counts and sums of them are: both follow from a few numbers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from numpy.typing import NDArray

from surecount.errors import SurecountError

Ints = NDArray[np.int64]

_SLICE = 100_000
# Partitions get their events in turn, so each sees the same disorder.
_DISORDER_MS = 4_000
_AMOUNTS = 1_000
# Primes: every key comes in turn, in another order for each aggregate.
_STEPS = (1, 7_919, 104_729, 1_299_709, 15_485_863)
SENTINEL = "sentinel"
"""Keys of sentinels begin so."""
# So many in each partition: one may be looked at in so many, and where keys are spread, each part needs some.
_SENTINELS = 100
# How long ago the last window ended: whoever lets no event time run ahead of the clock takes the sentinels, too.
_AGO_MS = 10 * 60_000
_SENTINEL_MS = 2 * 60_000
_TOPIC = {"retention.ms": "-1", "message.timestamp.type": "CreateTime"}
RESULTS_TOPIC = {"retention.ms": "-1", "message.timestamp.type": "LogAppendTime"}


@dataclass(frozen=True)
class Events:
    """``count`` events over ``keys`` keys, each about ``per_window`` times in a window, in values of about ``size``
    bytes, up to 4 s out of order. ``aggregates`` keys, at most 5, stand in each event: ``key``, ``key_1``, …, each of
    as many values."""

    count: int
    keys: int
    per_window: int
    size: int = 60
    aggregates: int = 1
    window_ms: int = 60_000
    seed: int = 1

    @property
    def windows(self) -> int:
        """How many windows have events."""
        return -(-self.count // (self.keys * self.per_window))

    def starts(self, now_ms: int) -> int:
        """The first window's start, ms since 1970, such that all are over by now."""
        return (now_ms - _AGO_MS) // self.window_ms * self.window_ms - self.windows * self.window_ms

    def columns(self, first: int, last: int) -> tuple[Ints, list[Ints], Ints]:
        """Of events ``first`` to ``last`` (not included): ms since the first window's start, the number of the key in
        each aggregate, the amount."""
        i = np.arange(first, last, dtype=np.int64)
        mixed = _mixed(i + np.int64(self.seed) * 0x9E3779B1)
        ms = i * self.window_ms // (self.keys * self.per_window)
        # Within a window, so that the windows of events are as even as their number.
        early = ms - ms % self.window_ms
        ms = np.maximum(early, ms - (mixed >> 8) % _DISORDER_MS)
        keys = [i * step % self.keys for step in _STEPS[: self.aggregates]]
        return ms, keys, (mixed >> 24) % _AMOUNTS

    def answers(self) -> list[tuple[Ints, Ints]]:
        """Of each aggregate, counts and sums by window and key: ``windows`` × ``keys``; a count of 0 is no result."""
        shape = (self.windows, self.keys)
        found = [(np.zeros(shape, np.int64), np.zeros(shape, np.int64)) for _ in range(self.aggregates)]
        for first in range(0, self.count, _SLICE):
            ms, keys, amounts = self.columns(first, min(first + _SLICE, self.count))
            window = ms // self.window_ms
            for (counts, sums), key in zip(found, keys, strict=True):
                np.add.at(counts, (window, key), 1)
                np.add.at(sums, (window, key), amounts)
        return found


def key_name(number: int) -> str:
    """A key as it stands in events."""
    return f"k{number:07}"


def fill(servers: str, topic: str, partitions: int, events: Events, *, sentinel_per_key: bool = False) -> int:
    """Make a topic of these events, and of what lets all windows end; the first window's start, ms since 1970.

    A key stands in one partition where the keys can be divided by their number. Sentinels come some minutes
    after the last event in event time: a hundred in each partition, and one of each key for those whose windows of a
    key end by that key's own events. Raises SurecountError where one was not delivered.
    """
    start_ms = events.starts(time.time_ns() // 1_000_000)
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, partitions, config=_TOPIC)])[topic].result(timeout=10)
    failed: list[str] = []
    settings = {
        "bootstrap.servers": servers, "enable.idempotence": True, "compression.type": "lz4", "linger.ms": 20,
        "batch.size": 512 * 1024, "queue.buffering.max.messages": 1_000_000, "delivery.report.only.error": True,
        "on_delivery": lambda error, _: failed.append(error.str()),
    }  # fmt: skip
    # One that is not closed goes on looking for the broker when the stack is gone.
    with Producer(settings) as producer:

        def send(partition: int, ms: int, value: bytes) -> None:
            while True:
                try:
                    producer.produce(topic, value, None, partition, None, None, ms)
                except BufferError:
                    producer.poll(0.1)
                else:
                    return

        for i, (ms, value) in enumerate(values(events, start_ms)):
            send(i % partitions, ms, value)
            if i % 10_000 == 0:
                producer.poll(0)
        last_ms = start_ms + events.windows * events.window_ms + _SENTINEL_MS
        for partition in range(partitions):
            names = [f"{SENTINEL}-{number}" for number in range(_SENTINELS)]
            # Only where the key's events are: one that stands elsewhere could be read before them.
            names += [key_name(key) for key in range(partition, events.keys, partitions)] if sentinel_per_key else []
            for name in names:
                send(partition, last_ms, _value(last_ms, [name] * events.aggregates, 0))
        producer.flush()
    if failed:
        raise SurecountError(f"{len(failed):,} records were not delivered: {failed[0]}", exit_code=1)
    return start_ms


class Results:
    """What a program said, to be held against the answers."""

    def __init__(self, events: Events, start_ms: int) -> None:
        self._events, self._start_ms = events, start_ms
        self._answers = events.answers()
        shape = (events.windows, events.keys)
        self._found = [tuple(np.zeros(shape, np.int64) for _ in range(3)) for _ in range(events.aggregates)]
        self.missing = sum(int(np.count_nonzero(counts)) for counts, _ in self._answers)

    def add(self, aggregate: int, key: str, start_ms: int, count: int, total: int) -> None:
        """Take one result; those of sentinels are none of the answers."""
        window = (start_ms - self._start_ms) // self._events.window_ms
        if key.startswith(SENTINEL) or window >= self._events.windows:
            return
        times, counts, sums = self._found[aggregate]
        place = window, int(key[1:])
        self.missing -= not times[place]
        times[place] += 1
        counts[place], sums[place] = count, total

    def wrong(self) -> str:
        """What is wrong with them; empty where they are the answers, each once."""
        missing = doubled = differ = 0
        for (counts, sums), (times, have, have_sums) in zip(self._answers, self._found, strict=True):
            missing += int(np.count_nonzero((counts > 0) & (times == 0)))
            doubled += int(np.count_nonzero(times > 1))
            differ += int(np.count_nonzero((times > 0) & ((counts != have) | (sums != have_sums))))
        found = {"missing": missing, "more than once": doubled, "wrong": differ}
        return ", ".join(f"{number:,} {what}" for what, number in found.items() if number)


def values(events: Events, start_ms: int) -> Iterator[tuple[int, bytes]]:
    """The events in their order: event time, ms since 1970, and value."""
    for first in range(0, events.count, _SLICE):
        ms, keys, amounts = events.columns(first, min(first + _SLICE, events.count))
        pad = b""
        names = [[key_name(k) for k in column.tolist()] for column in keys]
        for row in zip((ms + start_ms).tolist(), amounts.tolist(), *names, strict=True):
            value = _value(row[0], row[2:], row[1])
            if len(value) < events.size:
                pad = pad or b'"pad":"%s",' % (b"x" * (events.size - len(value) - 9))
                value = b"{" + pad + value[1:]
            yield row[0], value


def _value(ms: int, names: Sequence[str], amount: int) -> bytes:
    more = "".join(f',"key_{n}":"{name}"' for n, name in enumerate(names[1:], 1))
    return f'{{"ts":{ms},"key":"{names[0]}","amount":{amount}{more}}}'.encode()


def _mixed(numbers: Ints) -> Ints:
    """A number for each that looks random: splitmix64's steps, without the sign."""
    z = numbers.astype(np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)
