"""What a pipeline file amounts to, in words: ``surecount check``."""

from __future__ import annotations

from typing import Any

from surecount.config import EventTimeField, Pipeline, format_duration
from udfs import numbers
from udfs.spec import Check


def plan(pipeline: Pipeline) -> dict[str, Any]:
    """The plan as a JSON-able mapping: inputs, checks, aggregates, outputs, and what the settings cost."""
    source = pipeline.source
    time = source.event_time
    return {
        "pipeline": pipeline.name,
        "jobs": list(pipeline.jobs),
        "reads": {
            "pathways": {
                pathway.name: {"cluster": pipeline.kafka_of(pathway).bootstrap_servers, "topics": pathway.topics}
                for pathway in pipeline.pathways
            },
            "decode": source.decode or source.format,
            "event_time": f"{time.field} in {time.unit}" if isinstance(time, EventTimeField) else "Kafka's timestamp",
            "watermark": "Kafka's timestamp" if source.decode else "event time, per partition",
        },
        "checks": [_check(check) for check in pipeline.spec().checks],
        "deduplicates": _deduplicates(pipeline) if pipeline.has_ingest else None,
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
        "writes": _writes(pipeline),
        "costs": {
            "readable": (
                f"a window's results become readable out_of_orderness ({format_duration(source.out_of_orderness)}) "
                f"+ up to {'twice ' if pipeline.has_ingest else ''}checkpoint.interval "
                f"({format_duration(pipeline.checkpoint.interval)}) after its end"
            ),
            "state": "one row for each distinct key of each open window, at most twice, plus "
            f"256 KiB for each of {pipeline.state.buckets} buckets and open window",
            "outage": (
                "the job must be restored within sink.transaction_timeout "
                f"({format_duration(pipeline.sink.transaction_timeout)}) of its last checkpoint"
            ),
            "memory": f"up to {pipeline.performance.batch_records:,} records at a time are held in Python and the JVM",
            "fixed": f"{pipeline.state.buckets} buckets and max parallelism {pipeline.state.max_parallelism} "
            "cannot change while state is kept",
        },
    }


def _check(check: Check) -> str:
    rules = []
    if check.low is not None:
        rules.append(f"at least {_bound(check.low, check)}")
    if check.high is not None:
        rules.append(f"at most {_bound(check.high, check)}")
    if check.allowed is not None:
        rules.append(f"one of {', '.join(map(str, check.allowed))}")
    there = "" if check.required else ", where it is there"
    return f"{check.field.path} ({check.field.type}){there}: {'; '.join(rules) or 'of that type'}"


def _bound(value: int | float, check: Check) -> str:
    if check.field.type == "decimal":
        return numbers.decimal_text(int(value), check.field.scale)
    return str(value)


def _deduplicates(pipeline: Pipeline) -> dict[str, str]:
    ids = [field.path for field in pipeline.source.id_fields]
    return {
        "by": " and ".join(ids) or "origin: pathway, topic, partition and offset",
        "horizon": format_duration(pipeline.source.horizon),
        "state": "16 bytes on disk and 8 to 12 in memory for each event of the horizon and an eighth more",
    }


def _writes(pipeline: Pipeline) -> dict[str, str]:
    topics = {kind: topic for kind, topic in pipeline.topics.model_dump().items() if topic is not None}
    if not pipeline.has_ingest:
        del topics["clean"], topics["replay"]
    relays = {f"relay of {p.name}": pipeline.relay_topic(p) for p in pipeline.pathways if pipeline.is_relayed(p)}
    return {**relays, **topics}


def lines(content: dict[str, Any]) -> list[str]:
    """The plan as text."""
    reads = content["reads"]
    out = [
        f"{content['pipeline']} reads {reads['decode']}, event time: {reads['event_time']}, "
        f"watermark: {reads['watermark']}; jobs: {', '.join(content['jobs'])}"
    ]
    for name, pathway in reads["pathways"].items():
        out.append(f"  pathway {name}: {', '.join(pathway['topics'])} at {pathway['cluster']}")
    out += [f"  checks {check}" for check in content["checks"]]
    if unique := content["deduplicates"]:
        out.append(f"  deduplicates by {unique['by']} within {unique['horizon']}: {unique['state']}")
    for aggregate in content["aggregates"]:
        what = ", ".join(["count", *(f"sum of {s}" for s in aggregate["sum"])])
        out.append(f"  {aggregate['name']}: {what} per {', '.join(aggregate['key'])} and {aggregate['window']}")
    out += [f"  writes {kind} to {topic}" for kind, topic in content["writes"].items()]
    out += [f"  {name}: {text}" for name, text in content["costs"].items()]
    out += [f"  warning: {warning}" for warning in content.get("warnings", [])]
    return out
