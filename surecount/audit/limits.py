"""How far an event time may be ahead of its record's append: what raw topics and pipeline files allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from surecount.errors import SurecountError
from surecount.topics import Admin

if TYPE_CHECKING:
    from surecount.audit.epochs import Epoch
    from surecount.config import Pipeline

_TYPE = "message.timestamp.type"
# The second one is that of brokers before Kafka 3.6.
_LIMITS = ("message.timestamp.after.max.ms", "message.timestamp.difference.max.ms")
# What is further ahead is no limit: no window of these years is closed by then.
_MOST_MS = 10 * 365 * 86_400_000


def ahead_ms(pipeline: Pipeline, epochs: Sequence[Epoch]) -> int | None:
    """The most, of all that the pipeline has been, in ms; None where a topic has no limit, or cannot be asked.

    The limit that a topic has now is taken for that of the records that are deleted.
    """
    try:
        settings = [
            config
            for pathway in pipeline.pathways
            for config in Admin(pipeline.kafka_of(pathway)).configs(pathway.topics).values()
        ]
    except SurecountError:
        return None
    limit = timestamps_ahead_ms(settings)
    most_ahead = max([pipeline.source.max_ahead, *(epoch.pipeline.source.max_ahead for epoch in epochs)])
    return None if limit is None else limit + most_ahead


def timestamps_ahead_ms(settings: Iterable[Mapping[str, str]]) -> int | None:
    """How far Kafka's timestamps may be ahead of the append, by topics' settings; None where one has no limit."""
    most = 0
    for config in settings:
        if config.get(_TYPE) == "LogAppendTime":
            continue
        limit = min((int(config[name]) for name in _LIMITS if name in config), default=_MOST_MS)
        if limit >= _MOST_MS:
            return None
        most = max(most, limit)
    return most
