"""What a pipeline file amounts to, in words: ``surecount check``."""

from __future__ import annotations

from typing import Any

from surecount.config import EventTimeField, Pipeline, format_duration


def plan(pipeline: Pipeline) -> dict[str, Any]:
    """The plan as a JSON-able mapping: inputs, aggregates, outputs, and what the settings cost."""
    source = pipeline.source
    time = source.event_time
    return {
        "pipeline": pipeline.name,
        "reads": {
            "topics": source.topics,
            "decode": source.decode or source.format,
            "event_time": f"{time.field} in {time.unit}" if isinstance(time, EventTimeField) else "Kafka's timestamp",
            "watermark": "Kafka's timestamp" if source.decode else "event time, per partition",
        },
        "aggregates": [
            {
                "name": aggregate.name,
                "key": [f"{f.path} ({f.type})" for f in aggregate.spec().key],
                "count": True,
                "sum": [f"{f.path} ({f.type}{f', scale {f.scale}' if f.scale else ''})" for f in aggregate.spec().sums],
                "window": format_duration(aggregate.window),
            }
            for aggregate in pipeline.aggregate
        ],
        "writes": pipeline.topics.model_dump(),
        "costs": {
            "readable": (
                f"a window's results become readable out_of_orderness ({format_duration(source.out_of_orderness)}) "
                f"+ up to checkpoint.interval ({format_duration(pipeline.checkpoint.interval)}) after its end"
            ),
            "state": "one row for each distinct key of each open window, at most twice, plus "
            f"256 KiB for each of {pipeline.state.buckets} buckets and open window",
            "outage": (
                "the job must be restored within sink.transaction_timeout "
                f"({format_duration(pipeline.sink.transaction_timeout)}) of its last checkpoint"
            ),
            "memory": f"{pipeline.performance.batch_records:,} records at a time are held in Python and the JVM",
            "fixed": f"{pipeline.state.buckets} buckets and max parallelism {pipeline.state.max_parallelism} "
            "cannot change while state is kept",
        },
    }


def lines(content: dict[str, Any]) -> list[str]:
    """The plan as text."""
    reads = content["reads"]
    out = [
        f"{content['pipeline']} reads {', '.join(reads['topics'])} ({reads['decode']}), "
        f"event time: {reads['event_time']}, watermark: {reads['watermark']}"
    ]
    for aggregate in content["aggregates"]:
        what = ", ".join(["count", *(f"sum of {s}" for s in aggregate["sum"])])
        out.append(f"  {aggregate['name']}: {what} per {', '.join(aggregate['key'])} and {aggregate['window']}")
    out += [f"  writes {kind} to {topic}" for kind, topic in content["writes"].items()]
    out += [f"  {name}: {text}" for name, text in content["costs"].items()]
    return out
