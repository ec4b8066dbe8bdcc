"""Whether a job of a pipeline's name runs, or ran, that this ledger does not know: on another Flink cluster, say."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from surecount import topics
from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops.flink import Flink
from surecount.ops.ledger import Ledger
from surecount.ops.restore_rules import NAMESAKE, Refusal
from surecount.ops.snapshots import Folders, Place
from surecount.ops.transactions import Transaction, transactions

_SHOWN = 3


def refuse_namesakes(
    pipeline: Pipeline, flink: Flink, environment: Mapping[str, str], jobs: Sequence[str], accepted: Collection[str]
) -> None:
    """Raise SurecountError where Kafka knows one of the ``jobs`` and the ledger does not.

    That is asked before a job's first run only, since a JVM has to ask; what a later start finds is a rule of
    ``restore_rules``. Two who start the same name on two clusters within the same seconds are not told apart.
    """
    savepoints = Folders.of(flink).savepoints
    new = [job for job in jobs if not Ledger(savepoints, pipeline, job).runs()]
    if not new or NAMESAKE in accepted:
        return
    prefixes = [pipeline.transactional_id_prefix(job, "") for job in new]
    known = transactions(pipeline.kafka, environment, prefixes)
    found = [refusal for job in new for refusal in unknown_to_ledger(pipeline, job, _committed(pipeline, job), known)]
    if found:
        raise SurecountError("\n".join(map(str, found)), exit_code=1)


def _committed(pipeline: Pipeline, job: str) -> dict[Place, int]:
    kafka, names = pipeline.reads(job)
    try:
        there = topics.Admin(kafka).metadata(names).topics
        # Before the first start of all, clean records have no topic yet.
        places = topics.offsets(kafka, [name for name in names if name in there])
        return topics.committed(kafka, pipeline.group_id(job), places) if places else {}
    except SurecountError:
        if pipeline.pathway_of(job) is None:
            raise
        return {}  # a relay waits for its cluster


def unknown_to_ledger(
    pipeline: Pipeline, job: str, committed: Mapping[Place, int], transactions: Sequence[Transaction]
) -> Iterator[Refusal]:
    """What a first start is refused for: offsets that its group has committed, and transactional ids of its own."""
    prefix, group = pipeline.transactional_id_prefix(job, ""), pipeline.group_id(job)
    ids = sorted(found.id for found in transactions if found.id.startswith(prefix))
    seen = [f"offset {offset} of {topic} partition {p}" for (topic, p), offset in sorted(committed.items())]
    known = []
    if seen:
        known.append(f"group {group} has committed {_some(seen)}")
    if ids:
        known.append(f"transactional ids {_some(ids)}")
    if known:
        yield Refusal(
            NAMESAKE,
            f"{pipeline.name}.{job} has no run in this cluster's ledger, and Kafka knows one of the last 7 days: "
            + "; ".join(known),
            "stop it on the Flink cluster where it runs, or give this pipeline another name; where its ledger is on "
            "another cluster, `surecount start` there goes on",
        )


def _some(found: Sequence[str]) -> str:
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more
