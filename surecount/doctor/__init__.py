"""The doctor: hazards that can be seen from outside, checked before they bite.

Rules are pure: they look at facts. ``ask_kafka`` and ``ask_flink`` gather those.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from surecount import topics
from surecount.config import Pipeline
from surecount.doctor import ask_flink, ask_kafka, topic_ids
from surecount.doctor.ask_rights import lacking, transactional_ids
from surecount.doctor.checks import BEFORE_START, CHECKS
from surecount.doctor.facts import Facts, Unseen
from surecount.doctor.findings import Row, examine
from surecount.errors import SurecountError
from surecount.ops.flink import Flink

__all__ = ["CHECKS", "Row", "diagnose", "refuse_to_start"]


def diagnose(pipeline: Pipeline, flink: Flink, environment: Mapping[str, str]) -> list[Row]:
    """All checks of a pipeline. ``environment`` is that of Flink's command line; a JVM is started for transactions.

    What could not be seen is a finding of its own. Raises SurecountError where the pipeline's own Kafka or Flink does
    not answer at all.
    """
    flink.free_slots()
    topics.Admin(pipeline.kafka).metadata()
    clusters = {}
    for name, (kafka, names) in ask_kafka.clusters(pipeline).items():
        found = ask_kafka.settings_of(kafka, names)
        if not isinstance(found, Unseen):
            # In this order, what has held readers back for long is among the transactions.
            ids = transactional_ids(pipeline, kafka)
            found = ask_kafka.with_transactions(kafka, environment, ask_kafka.with_offsets(kafka, found), ids)
        clusters[name] = found
    hidden = [prefix for found in clusters.values() if not isinstance(found, Unseen) for prefix in found.hidden_ids]
    committed = {}
    for job in pipeline.jobs:
        pathway, (kafka, names) = pipeline.pathway_of(job), pipeline.reads(job)
        there = clusters[pathway.name if pathway else None]
        committed[job] = ask_kafka.committed(kafka, pipeline.group_id(job), there, names)
    runs = ask_flink.runs(pipeline, flink)
    facts = Facts(
        pipeline=pipeline,
        now_ms=_now_ms(),
        kafka=clusters.pop(None),
        remote={name: found for name, found in clusters.items() if name is not None},
        settings=ask_kafka.tried(flink.settings),
        slots=ask_flink.slots(pipeline, flink, pipeline.jobs, {} if isinstance(runs, Unseen) else runs, None),
        runs=runs,
        jobs=ask_flink.jobs(pipeline, flink),
        committed=committed,
        topic_ids={job: topic_ids.now(pipeline, job) for job in pipeline.jobs},
        versions=ask_flink.versions(flink, environment),
        lacking=lacking(pipeline, hidden),
        lost=ask_flink.lost(pipeline, flink),
    )
    return examine(CHECKS, facts)


def refuse_to_start(
    pipeline: Pipeline,
    flink: Flink,
    environment: Mapping[str, str],
    jobs: Collection[str],
    parallelism: int | None,
    accepted: Collection[str] = (),
) -> list[Row]:
    """Run the checks that need no running job, and no JVM. Returns the rows that are not ok, to be told.

    ``accepted`` are the codes of refusals to go against. Raises SurecountError with exit code 1 where a check fails.
    """
    clusters = {
        name: ask_kafka.settings_of(kafka, names) for name, (kafka, names) in ask_kafka.clusters(pipeline).items()
    }
    runs = ask_flink.runs(pipeline, flink)
    facts = Facts(
        pipeline=pipeline,
        now_ms=_now_ms(),
        kafka=clusters.pop(None),
        remote={name: found for name, found in clusters.items() if name is not None},
        settings=ask_kafka.tried(flink.settings),
        slots=ask_flink.slots(pipeline, flink, jobs, {} if isinstance(runs, Unseen) else runs, parallelism),
        runs=runs,
        versions=ask_flink.versions(flink, environment),
        lacking=lacking(pipeline),
        accepted=frozenset(accepted),
    )
    rows = [row for row in examine(BEFORE_START, facts) if row.state != "ok"]
    if failed := [row for row in rows if row.state == "fail"]:
        raise SurecountError(
            "\n".join(
                f"{row.check.id}: {found.seen}" for row in failed for found in row.findings if found.state == "fail"
            ),
            "\n  → ".join(mend for row in failed for mend in row.mends),
            exit_code=1,
        )
    return rows


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
