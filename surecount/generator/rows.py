"""What is handed to the producer: the same records for every pathway, each in that pathway's partitions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from surecount.config import Pipeline
from surecount.generator import bad
from surecount.generator.layout import Layout
from surecount.generator.options import Options
from surecount.generator.plan import Ints
from surecount.generator.stream import Records

Row = tuple[str, bytes | None, bytes, int, int]
"""Topic, value, key, partition, Kafka timestamp in ms; 0 lets the client take the present."""

# The furthest that a bad record's Kafka timestamp is before its event: a year would hide wrong units.
_FAR_MS = 180 * 86_400_000


@dataclass(frozen=True)
class Batch:
    """Records in the order of sending, as columns of the same length; ``number`` is the key's."""

    number: Ints
    values: list[bytes | None]
    keys: list[bytes]
    timestamps: list[int]


class Batches:
    """Makes what does not depend on a pathway: values, keys and timestamps."""

    def __init__(self, pipeline: Pipeline, layout: Layout, kinds: tuple[bad.Kind, ...], options: Options) -> None:
        self._layout = layout
        self._kinds = kinds
        self._seed = options.seed
        self._skew_ms = options.skew_ms
        self._time_is_kafkas = pipeline.source.event_time == "kafka"
        self._before_ms = min(pipeline.source.max_ahead, _FAR_MS)

    def kind_of(self, number: Any) -> Any:
        """The place in the table of kinds of each bad record, by its number."""
        return (number + self._seed % len(self._kinds)) % len(self._kinds)

    def of(self, records: Records) -> Batch:
        """The batch of some records."""
        values: list[bytes | None] = [*self._layout.values(records.event)]
        for place in np.flatnonzero(records.kind >= 0).tolist():
            kind = self._kinds[self.kind_of(int(records.kind[place]))]
            values[place] = kind.sample(self._layout, int(records.event[place]))
        return Batch(
            number=records.event % self._layout.plan.keys,
            values=values,
            keys=self._layout.keys(records.event),
            timestamps=self._timestamps(records).tolist(),
        )

    def _timestamps(self, records: Records) -> Any:
        times = self._layout.plan.times(records.event)
        if self._time_is_kafkas:
            return times
        # A job may let a wild event time advance its watermark as far as max_ahead over the Kafka
        # timestamp. So far back, it makes no good event late, and the answers stay simple.
        return np.where(records.kind >= 0, np.maximum(times - self._before_ms, 1), self._clocks(records))

    def _clocks(self, records: Records) -> Any:
        """What the producers of these take for the present."""
        if not self._skew_ms:
            return 0
        off = (records.event % self._layout.plan.keys % 3 - 1) * self._skew_ms
        return time.time_ns() // 1_000_000 + off


class Places:
    """One pathway's topics and how many partitions each has: where a key's records go."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self._topics = list(partitions)
        self._partitions = np.array(list(partitions.values()), dtype=np.int64)

    def rows(self, batch: Batch) -> Iterator[Row]:
        """One row a record. A key always goes to the same topic and partition, and all get as many."""
        topic = batch.number % len(self._topics)
        partition = batch.number // len(self._topics) % self._partitions[topic]
        return zip(
            [self._topics[t] for t in topic.tolist()],
            batch.values,
            batch.keys,
            partition.tolist(),
            batch.timestamps,
            strict=True,
        )
