"""The ingest job: each event of the raw topics once into the clean topic, what cannot be used into rejects.

Submitted by ``surecount submit``, or by hand:

    flink run -py jobs/ingest.py -pyfs FOLDER --pipeline shop.toml
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping

from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway

from jobs.connectors import by_bucket, decoded, sink, source, unpacked, watermarks
from jobs.operators import ADMITTED, DecodeAndIdentify, DecodeReplayed, Deduplicate
from jobs.submission import Bundle, run
from surecount.config import Pipeline
from udfs.event_times import OfRecords
from udfs.records import sources

JOB = "ingest"
_SOURCE, _REPLAYED = "1_kafka", "replayed"

_BATCH_TIMES = 4
"""What ingest writes can be read at a checkpoint, so it can wait for larger batches; and at the end of each bundle,
every bucket that had records writes its state."""

_SETTINGS = {
    # The id logs know what they need; PyFlink would else keep the last 1,000 segments of each bucket in Python as well.
    "python.map-state.read-cache-size": "1",
}


def main() -> None:
    """Build the job of a pipeline file and hand it to Flink."""
    run(JOB, __doc__, build, bundles, _SETTINGS)


def build(environment: StreamExecutionEnvironment, pipeline: Pipeline, arguments: Namespace) -> None:
    """Sources → decode and identify → rejects, and by bucket → deduplicate → clean and duplicates.

    The replay topic is a source of its own, for which no watermark waits.
    """
    job, topics, spec = f"{pipeline.name}.{JOB}", pipeline.topics, pipeline.spec()
    read, replay = sources(pipeline.inlets), [topics.replay]
    times = event_times(pipeline, bounded=arguments.bounded)
    # By the clock, what producers send after a long silence would be beyond the horizon. No window waits for it here.
    timed = watermarks(pipeline, JOB, _SOURCE, pipeline.source.out_of_orderness, bounded=arguments.bounded)
    wait_ms = _BATCH_TIMES * pipeline.performance.batch_time

    batches = source(environment, pipeline, JOB, read, arguments, uid=_SOURCE, batch_time_ms=wait_ms)
    found = decoded(batches, DecodeAndIdentify(job, spec, pipeline.inlets, times), read, "decode", timed)
    batches = source(environment, pipeline, JOB, replay, arguments, uid=_REPLAYED, batch_time_ms=wait_ms)
    replayed = decoded(batches, DecodeReplayed(job, spec, topics.replay), replay, "decode_replayed")

    deduplicate = Deduplicate(job, pipeline.source.horizon, list_duplicates=topics.duplicates is not None)
    admitted = (
        by_bucket(found.pieces, replayed.pieces)
        .process(deduplicate, ADMITTED)
        .name("deduplicate")
        .uid("deduplicate")
        .set_max_parallelism(pipeline.state.max_parallelism)
    )
    java = get_gateway().jvm.surecount
    clean = unpacked(admitted, java.Copies(), "copies")
    too_old = clean.getSideOutput(java.Outgoing.REJECTS)
    rejects = DataStream(found.rejects).union(DataStream(replayed.rejects), DataStream(too_old))._j_data_stream

    sink(rejects, pipeline, JOB, "rejects", topics.rejects, "16_sink", arguments)
    sink(clean, pipeline, JOB, "clean", topics.clean, "20_sink", arguments)
    if topics.duplicates is not None:
        duplicates = clean.getSideOutput(java.Outgoing.DUPLICATES)
        sink(duplicates, pipeline, JOB, "duplicate", topics.duplicates, "24_sink", arguments)


def event_times(pipeline: Pipeline, *, bounded: bool) -> OfRecords:
    """What moves the watermark.

    A relay that catches up would hold it back until it has. So its copies count as younger than they are, but only
    beside a pathway without relay, whose records tell how far time has come.
    """
    relayed = [pipeline.is_relayed(pathway) for pathway in pipeline.pathways]
    if bounded or all(relayed) or not any(relayed):
        return OfRecords()
    return OfRecords(pipeline.source.idle_after // 2, pipeline.source.horizon // 2)


def bundles(pipeline: Pipeline) -> Mapping[str, Bundle]:
    """Decoding answers batch by batch, since whole records come back, and wait on the heap; what it answers for all
    buckets is judged two batches at a time."""
    time_ms = _BATCH_TIMES * pipeline.performance.batch_time
    one = Bundle(1, time_ms)
    return {"decode": one, "decode_replayed": one, "deduplicate": Bundle(2 * pipeline.state.buckets, time_ms)}


if __name__ == "__main__":
    main()
