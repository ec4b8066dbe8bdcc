"""The jobs of a pipeline, as far as their offsets go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from surecount.config import Kafka, Pathway, Pipeline

_RELAY_CHECKPOINT_MS = 2_000
"""Relays have an interval of their own."""


@dataclass(frozen=True)
class Stage:
    """One job: what it reads, as which consumer group, and what it writes, each on a cluster."""

    group: str
    source_kafka: Kafka
    sources: Sequence[str]
    output_kafka: Kafka
    outputs: Sequence[str]
    checkpoint_ms: int


def relay_stage(pipeline: Pipeline, pathway: Pathway) -> Stage:
    """The relay of a pathway on another cluster."""
    return Stage(
        pipeline.group_id(f"relay.{pathway.name}"),
        pipeline.kafka_of(pathway),
        pathway.topics,
        pipeline.kafka,
        [pipeline.relay_topic(pathway)],
        _RELAY_CHECKPOINT_MS,
    )


def ingest_stage(pipeline: Pipeline) -> Stage:
    """Ingest."""
    topics = pipeline.topics
    outputs = [topics.clean, topics.rejects, *([topics.duplicates] if topics.duplicates else [])]
    return _on_one_cluster(pipeline, "ingest", [*pipeline.ingested_topics, topics.replay], outputs)


def aggregate_stage(pipeline: Pipeline) -> Stage:
    """The aggregate job."""
    return _on_one_cluster(pipeline, "aggregate", pipeline.aggregated_topics, pipeline.topics.all)


def _on_one_cluster(pipeline: Pipeline, job: str, sources: Sequence[str], outputs: Sequence[str]) -> Stage:
    kafka = pipeline.kafka
    return Stage(pipeline.group_id(job), kafka, sources, kafka, outputs, pipeline.checkpoint.interval)
