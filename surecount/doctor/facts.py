"""What the doctor saw: facts, each with the reason why not where it could not be seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from surecount.config import Pipeline
from surecount.kafka.rights import Needed, Operation
from surecount.ops.ledger import Lost, Run
from surecount.ops.snapshots import Place
from surecount.ops.transactions import Transaction
from surecount.topic_rules import Topic

T = TypeVar("T")


@dataclass(frozen=True)
class Unseen:
    """A fact that could not be seen, and why."""

    why: str


class UnseenError(Exception):
    """A rule needs a fact that was not seen; the message says why it was not."""


def seen(fact: T | Unseen) -> T:
    """The fact; raises UnseenError where it is not there."""
    if isinstance(fact, Unseen):
        raise UnseenError(fact.why)
    return fact


NOT_ASKED = Unseen("it was not asked for")


@dataclass(frozen=True)
class Copies:
    """The copies of one partition: how many brokers should have one, and how many are up to date."""

    led: bool
    replicas: int
    in_sync: int


@dataclass(frozen=True)
class KafkaFacts:
    """One Kafka cluster. ``topics`` are the pipeline's and Kafka's internal ones, those that exist, by name;
    ``settings`` are those of each broker by its id, ``features`` the cluster's finalized feature levels, and
    ``hidden_ids`` the beginnings of transactional ids that this user may not see."""

    address: str
    brokers: int
    topics: Mapping[str, Topic]
    copies: Mapping[Place, Copies]
    settings: Mapping[int, Mapping[str, str]] | Unseen = NOT_ASKED
    offsets: Mapping[Place, Offsets] | Unseen = NOT_ASKED
    transactions: tuple[Transaction, ...] | Unseen = NOT_ASKED
    features: Mapping[str, int] | Unseen = NOT_ASKED
    hidden_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Offsets:
    """Of one partition: the first offset, the one after the last record, and the last stable one.

    ``expiring`` is the first offset whose record has more than a fifth of its retention left; None where records
    are kept for ever.
    """

    low: int
    high: int
    stable: int
    expiring: int | None = None


@dataclass(frozen=True)
class Split:
    """A partition of a source: its watermark, None before its first one, and whether it counts as idle."""

    watermark_ms: int | None
    idle: bool


@dataclass(frozen=True)
class Flow:
    """What a job's metrics tell of records and event time; times in ms since 1970, None where there is none.

    ``watermark_ms`` is the lowest that reaches windows or deduplication, ``splits`` are the source's partitions by
    name, ``pending`` the records that wait to be read, and ``rate`` those read a second. ``newest_ms``, ``since_ms``
    and ``moved_ms`` are of :class:`udfs.flows.Waiting`. ``recent`` and ``before`` count events by kind, in the last
    minutes and in the hours before them: see :data:`udfs.flows.SPANS_S`.
    """

    watermark_ms: int | None = None
    splits: Mapping[str, Split] = field(default_factory=dict)
    pending: float = 0
    rate: float = 0
    newest_ms: int | None = None
    since_ms: int | None = None
    moved_ms: int | None = None
    recent: Mapping[str, int] = field(default_factory=dict)
    before: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class JobFacts:
    """One job as Flink tells of it, with times in ms since 1970.

    ``restarts`` and ``failed_commits`` (by sink) are those that Flink still counts; ``lost`` are all failed commits
    that the ledger remembers, where it could be asked. ``failed_lately`` are checkpoints of its history that failed,
    ``failed_in_a_row`` those of them after the last completed one. ``workers`` are the packages and versions that its
    Python workers tell of. ``beside`` are the ids of other running jobs of its name.
    """

    name: str
    id: str
    state: str
    started_ms: int
    interval_ms: int | None
    timeout_ms: int | None
    restarts: int = 0
    restarted_ms: int | None = None
    cause: str = ""
    completed_ms: int | None = None
    failed_lately: int = 0
    failed_in_a_row: int = 0
    failed_why: str = ""
    failed_commits: Mapping[str, int] = field(default_factory=dict)
    workers: frozenset[tuple[str, str]] = frozenset()
    flow: Flow | Unseen = NOT_ASKED
    lost: tuple[Lost, ...] | Unseen = NOT_ASKED
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slots:
    """Slots that no job has, and those that the jobs that don't run would take, by job."""

    free: int
    needed: Mapping[str, int]


@dataclass(frozen=True)
class Installed:
    """Flink somewhere: its version; of the jars on its classpath the connector's, what that needs and ours; the JVM
    that it runs on, such as 17, where that is told; and the jars of log4j."""

    flink: str
    connectors: tuple[str, ...]
    java: int | None = None
    loggers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Versions:
    """The Flink of the client, and with which packages its Python works, by name; the JobManager's and each
    TaskManager's Flink."""

    client: Installed
    packages: Mapping[str, str]
    jobmanager: Installed | Unseen
    taskmanagers: Mapping[str, Installed | Unseen]


@dataclass(frozen=True)
class Lacking:
    """Operations of a right that the user of ``kafka.security`` needs, and does not have."""

    needed: Needed
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class Facts:
    """All that rules may look at. ``kafka`` is the pipeline's own cluster, ``remote`` are those of relayed pathways, by
    pathway. ``runs`` are a job's runs in the ledger, ``jobs`` what Flink tells of it (None: it does not run),
    ``committed`` the offsets that its group has committed. ``accepted`` are codes that a start is told to accept,
    ``topic_ids`` the brokers' ids of what a job reads and writes, and ``lost`` the failed commits that the ledger
    remembers of a job.
    ``lacking`` are rights that the user of ``kafka.security`` needs and does not have, None where nobody logs in."""

    pipeline: Pipeline
    now_ms: int
    kafka: KafkaFacts | Unseen = NOT_ASKED
    remote: Mapping[str, KafkaFacts | Unseen] = field(default_factory=dict)
    settings: Mapping[str, str] | Unseen = NOT_ASKED
    slots: Slots | Unseen = NOT_ASKED
    runs: Mapping[str, tuple[Run, ...]] | Unseen = NOT_ASKED
    jobs: Mapping[str, JobFacts | None] | Unseen = NOT_ASKED
    committed: Mapping[str, Mapping[Place, int] | Unseen] = field(default_factory=dict)
    versions: Versions | Unseen = NOT_ASKED
    topic_ids: Mapping[str, Mapping[str, str] | Unseen] = field(default_factory=dict)
    lacking: tuple[Lacking, ...] | Unseen | None = NOT_ASKED
    accepted: frozenset[str] = frozenset()
    lost: Mapping[str, tuple[Lost, ...]] = field(default_factory=dict)

    def accepts(self, code: str) -> bool:
        """Whether this start, or an earlier run of the pipeline, goes against the refusals of a code."""
        runs = {} if isinstance(self.runs, Unseen) else self.runs
        return code in self.accepted or any(code in run.accepted for of_job in runs.values() for run in of_job)

    def cluster_of(self, job: str) -> KafkaFacts | Unseen:
        """The cluster that a job reads."""
        pathway = self.pipeline.pathway_of(job)
        return self.kafka if pathway is None else self.remote.get(pathway.name, NOT_ASKED)

    @property
    def clusters(self) -> dict[str, KafkaFacts | Unseen]:
        """All clusters by what to call them: the pipeline's own, and each pathway's."""
        remote = {f"pathway {name}": kafka for name, kafka in self.remote.items()}
        return {"the pipeline's cluster": self.kafka, **remote}
