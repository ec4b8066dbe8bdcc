"""The topics of a pipeline on its brokers: a thin edge over confluent-kafka's admin client.

What to create and what to refuse is in :mod:`surecount.topic_rules`. Raises SurecountError.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, ConfigSource, NewTopic, OffsetSpec, ResourceType  # type: ignore[attr-defined]

from surecount.config import Kafka, Pathway, Pipeline
from surecount.errors import SurecountError
from surecount.kafka.refusals import RefusedError, lacks_right, not_let_in, unauthorized
from surecount.kafka.rights import CLUSTER, Right
from surecount.kafka.security import for_librdkafka
from surecount.topic_rules import (
    Cluster,
    Topic,
    check_names,
    check_outputs,
    output_names,
    wanted_outputs,
    wanted_raw,
)
from surecount.waiting import WaitTimeoutError, wait_until

log = logging.getLogger("surecount.kafka")
"""Give this to every confluent client (``logger=log``): librdkafka would else write to stderr."""
# Without a handler Python would print warnings itself.
log.addHandler(logging.NullHandler())

# A broker that restarts is back, or its leaders have moved, within this; a wrong address never is.
TIMEOUT_S = 8.0
# Of the first try of what is tried twice.
_FIRST_TIMEOUT_S = 2.0
_LEADER_MOVES = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError._NOENT,  # the client's own: it knows of no leader yet
)
_PROPERTIES = "https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md"
T = TypeVar("T")
P = ParamSpec("P")


class NoBrokerError(SurecountError):
    """No broker of a cluster is there to work with."""


class MissingError(SurecountError):
    """There is no such topic."""


def _retried(method: Callable[Concatenate[Admin, P], T]) -> Callable[Concatenate[Admin, P], T]:
    """If no broker answers, a new client asks once more, with more patience.

    In the moment after an outage a cluster may count no brokers, and a client that hears it has none left to ask.
    """

    @wraps(method)
    def asked(admin: Admin, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(admin, *args, **kwargs)
        except NoBrokerError:
            admin.connect(TIMEOUT_S)
            return method(admin, *args, **kwargs)

    return asked


def client_config(kafka: Kafka) -> dict[str, str]:
    """The properties of every confluent client: the cluster's address, its ``properties`` and its ``security``.

    Raises SurecountError that names a property that librdkafka does not have, or a file that cannot be used.
    """
    if "bootstrap.servers" in kafka.properties:
        raise SurecountError(
            'kafka.properties: "bootstrap.servers" is set elsewhere',
            "write the address in kafka.bootstrap_servers",
        )
    config = for_librdkafka(kafka)
    _accepted(tuple(config.items()))
    return config


@lru_cache(maxsize=32)
def _accepted(items: tuple[tuple[str, str], ...]) -> None:
    """Only librdkafka knows its names and values, and it names the culprit in some errors only."""
    refused = _refusal(dict(items))
    if refused is None:
        return
    name = next((name for name, value in items[1:] if _refusal({name: value}) is not None), None)
    raise SurecountError(
        f"kafka.properties{'' if name is None else f': {name!r}'}: {refused}",
        f"these are librdkafka's names, not the Java client's: {_PROPERTIES}",
    )


def _refusal(config: dict[str, str]) -> str | None:
    try:
        AdminClient(dict(config), logger=log)
    except KafkaException as error:
        return reason(error)
    return None


def reason(error: BaseException) -> str:
    """What librdkafka says in an error, without its code."""
    cause = error.args[0] if error.args else None
    return str(cause.str()) if isinstance(cause, KafkaError) else str(error)


class Admin:
    """An admin client whose failures are SurecountErrors that name the address and the option."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._reported: list[KafkaError] = []
        self.connect(_FIRST_TIMEOUT_S)

    def connect(self, timeout_s: float) -> None:
        """Go on with a new client, which waits that long for answers."""
        config: dict[str, Any] = {**client_config(self._kafka), "error_cb": self._on_error}
        self._client, self._timeout_s = AdminClient(config, logger=log), timeout_s

    def _on_error(self, error: KafkaError) -> None:
        # That all brokers are down says less than why each of them is.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._reported.append(error)

    @_retried
    def metadata(self, names: Iterable[str] = ()) -> Any:
        """Brokers and topics of the cluster, as soon as it has a controller; before, it counts no brokers.

        To one who may not see a topic Kafka says nothing of it: for those of ``names`` that is an error.
        """

        def ask() -> Any:
            metadata = self._asked(lambda: self._client.list_topics(timeout=self._timeout_s))
            if metadata.controller_id >= 0:
                return metadata
            self.connect(self._timeout_s)
            return None

        try:
            found = wait_until(ask, self._timeout_s, "a controller")
        except WaitTimeoutError as error:
            raise NoBrokerError(
                f"Kafka answers at {self._kafka.bootstrap_servers} (kafka.bootstrap_servers), but has no controller",
                "see the logs of its controllers: most of them must be up, and in reach of the brokers",
            ) from error
        self._check_visible([name for name in names if name not in found.topics])
        return found

    @_retried
    def ids(self, names: Iterable[str]) -> dict[str, str]:
        """What tells each topic from another one of its name that was there before, or comes after it, by name; of
        those of which the brokers know it."""
        found = {name: self._described(name, future) for name, future in self._describe(names).items()}
        ids = {name: description.topic_id for name, description in found.items()}
        # Brokers before 2.8 have none, and say 0.
        return {
            name: str(i) for name, i in ids.items() if i.get_most_significant_bits() or i.get_least_significant_bits()
        }

    @_retried
    def topic_operations(self, names: Iterable[str]) -> dict[str, frozenset[str] | None]:
        """What this user may do with each topic, in Kafka's words such as ``Read``; nothing with one that is hidden,
        and None for one that is not there."""
        found: dict[str, frozenset[str] | None] = {}
        for name, future in self._describe(names, include_authorized_operations=True).items():
            try:
                found[name] = _operations(self._described(name, future))
            except MissingError:
                found[name] = None
            except RefusedError:
                found[name] = frozenset()
        return found

    def _check_visible(self, missing: list[str]) -> None:
        """Raise where one of these topics is there, or may be, and only not shown."""
        for name, future in self._describe(missing).items():
            with suppress(MissingError):
                self._described(name, future)

    def _describe(self, names: Iterable[str], **options: bool) -> dict[str, Future[Any]]:
        wanted = list(names)
        if not wanted:
            return {}
        return self._asked(
            lambda: self._client.describe_topics(TopicCollection(wanted), request_timeout=self._timeout_s, **options)
        )

    def _described(self, name: str, future: Future[T]) -> T:
        return self._result(future, f"topic {name!r} can't be read", Right("topic", name, ("Describe",)))

    @_retried
    def groups(self) -> list[str]:
        """The consumer groups of the cluster, sorted."""
        listing = self._asked(lambda: self._client.list_consumer_groups(request_timeout=self._timeout_s))
        found = self._result(listing, failure := "consumer groups can't be listed")
        if found.errors:  # of brokers, whose groups are not among the others
            raise self._error(failure, found.errors[0])
        return sorted(group.group_id for group in found.valid)

    @_retried
    def configs(self, names: Iterable[str], *, only_own: bool = False) -> dict[str, dict[str, str]]:
        """Every setting of each topic, defaults of the broker included, or only its own."""
        return self._configs(ResourceType.TOPIC, "topic", names, only_own=only_own)

    @_retried
    def broker_configs(self, brokers: Iterable[int]) -> dict[int, dict[str, str]]:
        """Every setting of each broker that is not secret, by its id."""
        # The client takes one broker a call.
        return {broker: self._configs(ResourceType.BROKER, "broker", [str(broker)])[str(broker)] for broker in brokers}

    def _configs(
        self, kind: Any, called: str, names: Iterable[str], *, only_own: bool = False
    ) -> dict[str, dict[str, str]]:
        resources = [ConfigResource(kind, name) for name in names]
        if not resources:
            return {}
        futures = self._asked(lambda: self._client.describe_configs(resources, request_timeout=self._timeout_s))

        def settings(name: str, future: Future[dict[str, Any]]) -> Iterable[Any]:
            of_topic = kind == ResourceType.TOPIC
            right = Right("topic" if of_topic else "cluster", name if of_topic else CLUSTER, ("DescribeConfigs",))
            return self._result(future, f"settings of {called} {name!r} can't be read", right).values()

        return {
            resource.name: {
                entry.name: str(entry.value)
                for entry in settings(resource.name, future)
                if entry.value is not None and (not only_own or entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value)
            }
            for resource, future in futures.items()
        }

    def create(self, topics: list[Topic]) -> list[str]:
        """Create topics and wait until each partition has a leader; the names that were new."""
        if not topics:
            return []
        new = [
            NewTopic(t.name, num_partitions=t.partitions, replication_factor=t.replicas, config=dict(t.config))
            for t in topics
        ]
        created = []
        futures = self._asked(lambda: self._client.create_topics(new, request_timeout=TIMEOUT_S))
        for name, future in futures.items():
            try:
                future.result(timeout=2 * TIMEOUT_S)
            except KafkaException as error:
                # Someone else was quicker.
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    right = Right("topic", name, ("Create",))
                    raise self._error(f"topic {name!r} can't be created", error, right) from error
            else:
                created.append(name)
        names = [t.name for t in topics]
        wait_until(lambda: self._led(names), TIMEOUT_S, f"a leader of each partition of {', '.join(names)}")
        return created

    def _led(self, names: list[str]) -> bool:
        topics = self.metadata(names).topics
        return all(
            name in topics and topics[name].partitions and all(p.leader >= 0 for p in topics[name].partitions.values())
            for name in names
        )

    @_retried
    def offsets(
        self, partitions: list[TopicPartition], spec: OffsetSpec, *, committed: bool = False
    ) -> dict[tuple[str, int], int]:
        """The offset that ``spec`` means in each partition, to a reader of all records or of ``committed`` ones."""
        if not partitions:
            return {}
        wanted = dict.fromkeys(partitions, spec)
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED

        def ask() -> dict[tuple[str, int], int] | None:
            futures = self._asked(
                lambda: self._client.list_offsets(wanted, isolation_level=level, request_timeout=self._timeout_s)
            )
            found: dict[tuple[str, int], int] = {}
            for p, future in futures.items():
                try:
                    found[p.topic, p.partition] = future.result(timeout=2 * self._timeout_s).offset
                except (KafkaException, TimeoutError) as error:
                    # A new topic's leaders, and those that move, need a moment to know that they lead.
                    if isinstance(error, KafkaException) and error.args[0].code() in _LEADER_MOVES:
                        return None
                    where = f"topic {p.topic!r}, partition {p.partition}"
                    right = Right("topic", p.topic, ("Describe",))
                    raise self._error(f"offsets of {where}, can't be read", error, right) from error
            return found

        return wait_until(ask, TIMEOUT_S, "every partition to have a leader") or {}

    def _asked(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except KafkaException as error:
            raise self._error("Kafka can't be asked", error) from error

    def _result(self, future: Future[T], failure: str, right: Right | None = None) -> T:
        try:
            return future.result(timeout=2 * self._timeout_s)
        except (KafkaException, TimeoutError) as error:
            raise self._error(failure, error, right) from error

    def _error(self, failure: str, error: Exception, right: Right | None = None) -> SurecountError:
        """What to raise; ``right`` is what it takes to be allowed what failed."""
        self._client.poll(0)
        cause = error.args[0] if isinstance(error, KafkaException) else None
        if right is not None and lacks_right(cause):
            return unauthorized(self._kafka, right, failure)
        code = KafkaError._TIMED_OUT if cause is None else cause.code()
        if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return MissingError(f"{failure}, at {self._kafka.bootstrap_servers}: {reason(error)}")
        address = f"{self._kafka.bootstrap_servers} (kafka.bootstrap_servers)"
        if code in (
            KafkaError._TRANSPORT,
            KafkaError._TIMED_OUT,
            KafkaError._ALL_BROKERS_DOWN,
            KafkaError._RESOLVE,
        ):
            if refused := not_let_in(self._kafka, self._reported):
                return refused
            why = self._reported[-1].str() if self._reported else reason(error)
            return NoBrokerError(
                f"no Kafka broker answers at {address}: {why}",
                "start it (`surecount up` starts one here), or mend the address; where its brokers want TLS or a "
                "login, kafka.security has to say so",
            )
        return SurecountError(f"{failure}, at {address}: {reason(error)}")


def _operations(described: Any) -> frozenset[str]:
    """``DESCRIBE_CONFIGS`` as ``DescribeConfigs``."""
    return frozenset(name.name.title().replace("_", "") for name in described.authorized_operations or ())


def describe(admin: Admin, names: Iterable[str], *, only_own: bool = False, if_shown: Collection[str] = ()) -> Cluster:
    """The cluster, and those topics of ``names`` that exist, with all their settings, or ``only_own`` ones; and those
    ``if_shown``, which need not be visible to this user."""
    wanted = list(names)
    metadata = admin.metadata(wanted)
    known = [name for name in (*wanted, *if_shown) if name in metadata.topics]
    configs = admin.configs(known, only_own=only_own)
    topics = {}
    for name in known:
        partitions = metadata.topics[name].partitions
        replicas = min((len(p.replicas) for p in partitions.values()), default=0)
        topics[name] = Topic(name, len(partitions), replicas, configs[name])
    return Cluster(len(metadata.brokers), frozenset(metadata.topics), topics)


def describe_raw(pipeline: Pipeline, pathway: Pathway) -> Mapping[str, Topic]:
    """The raw topics of a pathway that exist, by name."""
    return describe(Admin(pipeline.kafka_of(pathway)), pathway.topics).topics


def check_sources(pipeline: Pipeline) -> list[str]:
    """Raise SurecountError where a raw topic does not exist, or the pipeline's own brokers do not answer.

    Returns what is wrong with pathways on other clusters: they may come later.
    """
    notes = []
    for pathway in pipeline.pathways:
        kafka = pipeline.kafka_of(pathway)
        try:
            check_names(kafka, pathway.topics, frozenset(Admin(kafka).metadata(pathway.topics).topics))
        except SurecountError as error:
            if not pipeline.is_relayed(pathway):
                raise
            notes.append(f"pathway {pathway.name!r}: {error.message}")
    return notes


def ensure_outputs(pipeline: Pipeline) -> list[str]:
    """Check the output topics that exist, create the others; the names of the new ones."""
    admin = Admin(pipeline.kafka)
    raw: list[Topic] = []
    for pathway in pipeline.pathways:
        try:
            raw += describe_raw(pipeline, pathway).values()
        except SurecountError:
            # check_sources has told of it; what this cluster's topics are like is not known, then.
            if not pipeline.is_relayed(pathway):
                raise
    cluster = describe(admin, output_names(pipeline))
    check_outputs(pipeline, cluster, raw)
    created = admin.create([t for t in wanted_outputs(pipeline, cluster, raw) if t.name not in cluster.topics])
    if created:
        # What is not said of a new topic is the broker's default.
        check_outputs(pipeline, describe(admin, output_names(pipeline)), raw)
    return created


def ensure_source(pipeline: Pipeline, partitions: int) -> list[str]:
    """Create the raw topics that are missing on all pathways; the names of the new ones."""
    return [name for pathway in pipeline.pathways for name in ensure_raw(pipeline, pathway, partitions)]


def ensure_raw(pipeline: Pipeline, pathway: Pathway, partitions: int) -> list[str]:
    """Create the raw topics of a pathway that are missing, for generated events; the names of the new ones."""
    admin = Admin(pipeline.kafka_of(pathway))
    metadata = admin.metadata(pathway.topics)
    wanted = wanted_raw(pipeline, pathway.topics, partitions, len(metadata.brokers))
    return admin.create([topic for topic in wanted if topic.name not in metadata.topics])


def offsets(kafka: Kafka, topics: Iterable[str]) -> dict[tuple[str, int], tuple[int, int]]:
    """(first offset, offset after the last record) by topic and partition; transactions not regarded."""
    admin = Admin(kafka)
    names = list(topics)
    known = admin.metadata(names).topics
    if missing := [name for name in names if name not in known]:
        raise SurecountError(f"no such topic at {kafka.bootstrap_servers}: {', '.join(missing)}")
    partitions = [TopicPartition(name, number) for name in names for number in known[name].partitions]
    if not partitions:
        return {}
    low = admin.offsets(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    high = admin.offsets(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    return {place: (low[place], high[place]) for place in low}


def ids_of(kafka: Kafka, names: Iterable[str]) -> dict[str, str]:
    """The brokers' ids of those topics that exist, by name."""
    admin, names = Admin(kafka), list(names)
    known = admin.metadata(names).topics
    return admin.ids(name for name in names if name in known)


def commit(kafka: Kafka, group: str, offsets: Mapping[tuple[str, int], int], metadata: str = "") -> None:
    """Set offsets of a group that has no members, with ``metadata`` beside them. Raises SurecountError."""
    if not offsets:
        return
    config = {**client_config(kafka), "group.id": group, "enable.auto.commit": False}
    consumer = Consumer(config, logger=log)
    try:
        wanted = [TopicPartition(*place, offset, metadata) for place, offset in offsets.items()]
        found = consumer.commit(offsets=wanted, asynchronous=False)
    except KafkaException as error:
        failure = f"the offsets of group {group!r} can't be set"
        if lacks_right(error.args[0]):
            raise unauthorized(kafka, Right("group", group, ("Read",)), failure) from error
        raise SurecountError(f"{failure}: {reason(error)}") from error
    finally:
        consumer.close()
    if refused := next((place.error for place in found or () if place.error is not None), None):
        raise SurecountError(f"the offsets of group {group!r} can't be set: {refused.str()}")


def reported(consumer: Consumer) -> KafkaError | None:
    """What a consumer without an assignment has to report. That its group is hidden comes so, and not as the failure of
    what was asked, which only times out."""
    found = None
    while (message := consumer.poll(0)) is not None and not lacks_right(found):
        found = message.error()
    return found


def committed(kafka: Kafka, group: str, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """The offsets that a group has committed, of those partitions of which it has.

    Asked by a consumer that joins no group: the admin client crashes while a group's coordinator is not ready, as it is
    where no group has committed yet (https://github.com/confluentinc/librdkafka/issues/5040).
    """
    wanted = [TopicPartition(*place) for place in places]
    config = {**client_config(kafka), "group.id": group, "enable.auto.commit": False}
    consumer = Consumer(config, logger=log)
    failure: list[str] = []

    def ask() -> list[TopicPartition]:
        try:
            return consumer.committed(wanted, timeout=_FIRST_TIMEOUT_S)
        except KafkaException as error:
            if lacks_right(error.args[0]) or lacks_right(reported(consumer)):
                right = Right("group", group, ("Describe",))
                raise unauthorized(kafka, right, f"the offsets of group {group!r} can't be read") from error
            failure[:] = [reason(error)]
            return []

    try:
        found = wait_until(ask, TIMEOUT_S, f"the offsets of group {group!r}", seen=lambda: failure[-1])
    finally:
        consumer.close()
    for told in found:
        if told.error is not None:
            what = f"the offsets of group {group!r} can't be read"
            if lacks_right(told.error):
                raise unauthorized(kafka, Right("topic", told.topic, ("Describe",)), what)
            raise SurecountError(f"{what}: {told.error.str()}")
    return {(place.topic, place.partition): place.offset for place in found if place.offset >= 0}
