"""An independent recount of a pipeline from its topics. It shares no code with the jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING

from surecount.audit.cut import Cut, find_cut
from surecount.audit.epochs import NO_PAST, Epoch, LostAtStart, Past
from surecount.audit.identity import made_anew
from surecount.audit.limits import ahead_ms
from surecount.audit.reader import DeletedError, NoAnswerError
from surecount.audit.recount import Recount
from surecount.audit.report import Amount, Books, Difference, Flow, IngestBooks, Report, joined
from surecount.audit.retention import Evidence, Moment
from surecount.audit.stages import Stage, aggregate_stage, ingest_stage, relay_stage
from surecount.audit.upstream import Upstream
from surecount.topics import NoBrokerError, ids_of

if TYPE_CHECKING:
    from surecount.config import Pathway, Pipeline

__all__ = [
    "Amount",
    "Books",
    "Difference",
    "Epoch",
    "Flow",
    "IngestBooks",
    "LostAtStart",
    "Moment",
    "Past",
    "Report",
    "audit",
]

_CUTS = 3


def audit(
    pipeline: Pipeline,
    *,
    history: Mapping[str, Past] | None = None,
    bounded: bool = False,
    timeout_s: float = 120,
    on_progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Recount the input, compare it with results, corrections and rejects, and make up the books.

    Where there are relays and ingest, they are held against the raw topics first. Each job is judged on what
    it had read and written at one checkpoint; with ``bounded`` on all of its input, and no window may be open.
    ``history`` is what the run ledger knows by job; without it all was read with ``pipeline``.
    ``timeout_s`` limits the wait for each job's state, and any wait for records. ``on_progress`` gets the
    offsets that are read and their total; a further reading begins at 0 again.
    SurecountError where it can't be done: Kafka does not answer, topics are missing, or something is pending.
    """

    def judge(stage: Stage, report_on: Callable[[Cut], Report]) -> Report:
        for left in reversed(range(_CUTS)):
            cut = find_cut(stage, bounded=bounded, timeout_s=timeout_s)
            try:
                report = report_on(cut)
            except DeletedError:
                # Retention goes on while the audit reads: what is left now begins later.
                if not left:
                    raise
                continue
            # While the job runs, a cut may fall between the two commits of a checkpoint; another then won't.
            if report.balanced or cut.quiet:
                break
        return report

    def judge_relay(pathway: Pathway) -> Report:
        try:
            return judge(relay_stage(pipeline, pathway), lambda cut: upstream.relay(pathway, cut))
        except NoAnswerError as error:
            note = f"the relay of pathway {pathway.name} is not checked: {error.message}"
            return Report(pipeline.name, (), (), 0, {}, (note,), 0.0)

    known = history or {}
    past = known.get("aggregate", NO_PAST)
    evidence = Evidence(cache(partial(ahead_ms, pipeline, past.epochs)), past.moments)
    upstream_epochs = known.get("ingest", NO_PAST).epochs
    upstream = Upstream(pipeline, upstream_epochs, evidence, timeout_s=timeout_s, on_progress=on_progress)
    recount = Recount(pipeline, past.epochs, evidence, timeout_s=timeout_s, on_progress=on_progress)
    aggregate = judge(aggregate_stage(pipeline), lambda cut: recount.report(cut, bounded=bounded))
    reports = []
    if pipeline.has_ingest:
        reports += [judge_relay(pathway) for pathway in pipeline.pathways if pipeline.is_relayed(pathway)]
        # Results tell when what is deleted of the clean topic had been there.
        reports.append(judge(ingest_stage(pipeline), lambda cut: upstream.ingest(cut, recount.read_by)))
    lost = [lost for past in known.values() for lost in past.unread]
    where = {one: f"{one.topic}-{one.partition}@{one.begin}" for one in lost}
    refused = [Difference("deleted_unread", str(one), where[one]) for one in lost if not one.accepted]
    notes = [f"{where[one]}: {one}, as was accepted" for one in lost if one.accepted]
    return joined([*reports, aggregate], [*_made_anew(pipeline, known), *refused], notes)


def _made_anew(pipeline: Pipeline, known: Mapping[str, Past]) -> list[Difference]:
    """Topics that are not those any more that the newest run of a job began with; of clusters that answer."""
    found: dict[str, Difference] = {}
    for job, past in known.items():
        with suppress(NoBrokerError):
            now = {**ids_of(pipeline.kafka, pipeline.writes(job)), **ids_of(*pipeline.reads(job))}
            for topic, told in made_anew({**past.output_ids, **past.topic_ids}, now, past.topic_ids):
                found.setdefault(topic, Difference("topic_made_anew", told, topic))
    return list(found.values())
