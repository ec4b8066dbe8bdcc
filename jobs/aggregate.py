"""The aggregate job: count and sum the records of Kafka topics, exactly, per key and tumbling window.

Submitted by ``surecount submit``, or by hand:

    flink run -py jobs/aggregate.py -pyfs FOLDER --pipeline shop.toml
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping

from pyflink.datastream import StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway

from jobs.connectors import Clock, by_bucket, decoded, sink, source, unpacked, watermarks
from jobs.operators import MERGED, DecodeAndCombine, Windows
from jobs.submission import Bundle, run
from surecount.config import Pipeline
from udfs.event_times import EventTimes, OfRecords, of_ingest
from udfs.spec import Inlet

JOB = "aggregate"
_SOURCE = "1_kafka"


def main() -> None:
    """Build the job of a pipeline file and hand it to Flink."""
    run(JOB, __doc__, build, bundles)


def build(environment: StreamExecutionEnvironment, pipeline: Pipeline, arguments: Namespace) -> None:
    """Source → decode and combine → rejects, and by bucket → windows → results and corrections."""
    topics, read = pipeline.topics, pipeline.aggregated_topics
    event_times: EventTimes = of_ingest if pipeline.has_ingest else OfRecords()
    behind = 0 if pipeline.has_ingest else pipeline.source.out_of_orderness
    inlets = tuple(Inlet("", topic) for topic in read)
    decode = DecodeAndCombine(f"{pipeline.name}.{JOB}", pipeline.aggregate_spec(), inlets, event_times)

    batches = source(
        environment, pipeline, JOB, read, arguments,
        uid=_SOURCE, projected=pipeline.source.decode is None, batch_time_ms=pipeline.performance.batch_time,
    )  # fmt: skip
    timed = watermarks(pipeline, JOB, _SOURCE, behind, bounded=arguments.bounded, clock=clock(pipeline))
    found = decoded(batches, decode, read, "decode", timed)
    merged = (
        by_bucket(found.pieces)
        .process(Windows(pipeline.aggregate_spec(), pipeline.watermark_patience), MERGED)
        .name("windows")
        .uid("windows")
        .set_max_parallelism(pipeline.state.max_parallelism)
    )
    java = get_gateway().jvm.surecount
    results = unpacked(merged, java.Results(), "unpack")
    corrections = results.getSideOutput(java.Outgoing.CORRECTIONS)

    sink(found.rejects, pipeline, JOB, "rejects", topics.rejects, "10_sink", arguments)
    sink(results, pipeline, JOB, "results", topics.results, "15_sink", arguments)
    sink(corrections, pipeline, JOB, "corrections", topics.corrections, "19_sink", arguments)


def clock(pipeline: Pipeline) -> Clock:
    """When the last windows close while nothing comes. What ingest writes can be read at its checkpoints, so two of
    them may pass before a record is missing."""
    source = pipeline.source
    commits = 2 * pipeline.checkpoint.interval if pipeline.has_ingest else 0
    return Clock(source.idle_after + commits, source.out_of_orderness + commits)


def bundles(pipeline: Pipeline) -> Mapping[str, Bundle]:
    """Several batches go to decoding before the job waits for it; what they make for all buckets is merged at once.

    The bundle ends with a batch that says so, but where PyFlink's own operator decodes, which cannot tell.
    """
    performance = pipeline.performance
    batches = Bundle(8 if performance.replace_internals else 1, performance.bundle_time)
    return {"decode": batches, "windows": Bundle(8 * pipeline.state.buckets, 20)}


if __name__ == "__main__":
    main()
