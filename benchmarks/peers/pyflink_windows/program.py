"""Windows as PyFlink's documentation has them: functions in Python on the DataStream API.

https://nightlies.apache.org/flink/flink-docs-release-2.3/docs/dev/datastream/operators/windows/

An assigner of timestamps in Python runs after the source, where the records of all its partitions are one stream: of
partitions that are read unevenly it makes late records. So each partition has a source of its own here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from functools import reduce
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient
from pyflink.common import Configuration, Duration, SimpleStringSchema, Time, Types, WatermarkStrategy
from pyflink.common.watermark_strategy import TimestampAssigner
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.datastream.connectors import DeliveryGuarantee
from pyflink.datastream.connectors.kafka import (
    KafkaOffsetsInitializer,
    KafkaRecordSerializationSchema,
    KafkaSink,
    KafkaSource,
    KafkaTopicPartition,
)
from pyflink.datastream.functions import AggregateFunction, ProcessWindowFunction
from pyflink.datastream.window import TumblingEventTimeWindows

_PAIR = Types.TUPLE([Types.LONG(), Types.LONG()])


def main(work: dict[str, Any]) -> None:
    """Submit the job of a run; ``work`` are the fields of benchmarks.peers.peer.Work."""
    environment = StreamExecutionEnvironment.get_execution_environment(settings(work))
    environment.set_parallelism(work["slots"])
    events = events_of(environment, work)
    results = [results_of(events, work, aggregate) for aggregate in range(work["aggregates"])]
    reduce(DataStream.union, results).sink_to(sink(work))
    environment.execute(work["results"])


def settings(work: dict[str, Any]) -> Configuration:
    """Flink's settings of this job; the rest are the cluster's."""
    configuration = Configuration()
    configuration.set_string("execution.checkpointing.interval", f"{work['checkpoint_ms']} ms")
    configuration.set_string("execution.checkpointing.dir", (Path(work["folder"]) / "checkpoints").as_uri())
    return configuration


def events_of(environment: StreamExecutionEnvironment, work: dict[str, Any]) -> DataStream:
    """(event time in ms, amount, keys …) of each event, with watermarks that no partition is ahead of."""
    keys = ["key", *(f"key_{number}" for number in range(1, work["aggregates"]))]
    row = Types.TUPLE([Types.LONG(), Types.LONG(), *(Types.STRING() for _ in keys)])
    behind = WatermarkStrategy.for_bounded_out_of_orderness(Duration.of_millis(work["out_of_orderness_ms"]))

    def parse(text: str) -> tuple[Any, ...]:
        event = json.loads(text)
        return event["ts"], event["amount"], *(event[key] for key in keys)

    if work["event_time"] == "kafka":
        # Kafka's timestamps need no Python, so the source itself makes watermarks, for each partition.
        return environment.from_source(source(work), behind, "events").map(parse, row)
    none = WatermarkStrategy.no_watermarks()
    streams = [
        environment.from_source(source(work, partition), none, f"events-{partition}")
        .set_parallelism(1)
        .map(parse, row)
        .set_parallelism(1)
        .assign_timestamps_and_watermarks(behind.with_timestamp_assigner(EventTime()))
        for partition in range(partitions(work))
    ]
    return reduce(DataStream.union, streams)


def results_of(events: DataStream, work: dict[str, Any], aggregate: int) -> DataStream:
    """Results as JSON."""
    number = {"aggregate": aggregate} if work["aggregates"] > 1 else {}
    return (
        events.key_by(lambda event: event[2 + aggregate], Types.STRING())
        .window(TumblingEventTimeWindows.of(Time.milliseconds(work["window_ms"])))
        .aggregate(CountAndSum(), ToResult(number), accumulator_type=_PAIR, output_type=Types.STRING())
    )


class EventTime(TimestampAssigner):  # type: ignore[misc]
    """The first of an event's values."""

    def extract_timestamp(self, value: tuple[Any, ...], record_timestamp: int) -> int:  # noqa: ARG002
        return int(value[0])


class CountAndSum(AggregateFunction):  # type: ignore[misc]
    """Count and sum of the second of events' values."""

    def create_accumulator(self) -> tuple[int, int]:
        return 0, 0

    def add(self, value: tuple[Any, ...], accumulator: tuple[int, int]) -> tuple[int, int]:
        return accumulator[0] + 1, accumulator[1] + value[1]

    def get_result(self, accumulator: tuple[int, int]) -> tuple[int, int]:
        return accumulator

    def merge(self, acc_a: tuple[int, int], acc_b: tuple[int, int]) -> tuple[int, int]:
        return acc_a[0] + acc_b[0], acc_a[1] + acc_b[1]


class ToResult(ProcessWindowFunction):  # type: ignore[misc]
    """A result as JSON, with key and start of the window."""

    def __init__(self, number: dict[str, int]) -> None:
        self._number = number

    def process(self, key: str, context: Any, elements: Iterable[tuple[int, int]]) -> Iterable[str]:
        ((count, total),) = elements
        yield json.dumps({**self._number, "key": key, "start": context.window().start, "count": count, "sum": total})


def partitions(work: dict[str, Any]) -> int:
    """The number of partitions of the source topic."""
    admin = AdminClient({"bootstrap.servers": work["bootstrap_servers"]})
    return len(admin.list_topics(work["source"], timeout=10).topics[work["source"]].partitions)


def source(work: dict[str, Any], partition: int | None = None) -> KafkaSource:
    """Values as text, of one partition or of all."""
    builder = (
        KafkaSource.builder()
        .set_bootstrap_servers(work["bootstrap_servers"])
        .set_group_id(work["results"])
        .set_property("isolation.level", "read_committed")
        .set_starting_offsets(KafkaOffsetsInitializer.earliest())
        .set_value_only_deserializer(SimpleStringSchema())
    )
    if partition is None:
        return builder.set_topics(work["source"]).build()
    return builder.set_partitions({KafkaTopicPartition(work["source"], partition)}).build()


def sink(work: dict[str, Any]) -> KafkaSink:
    """Texts as values."""
    return (
        KafkaSink.builder()
        .set_bootstrap_servers(work["bootstrap_servers"])
        .set_record_serializer(
            KafkaRecordSerializationSchema.builder()
            .set_topic(work["results"])
            .set_value_serialization_schema(SimpleStringSchema())
            .build()
        )
        .set_delivery_guarantee(DeliveryGuarantee.EXACTLY_ONCE)
        .set_transactional_id_prefix(work["results"])
        # What a broker grants; the sink's own default is 1 h.
        .set_property("transaction.timeout.ms", "900000")
        .build()
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
