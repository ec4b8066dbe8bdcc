"""Where the records come from that ingest reads, as SQL over the columns of its source table.

What a relay has written into its header is read here, by the JVM, so that a copy without other headers sends none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from jobs.tables import header_text, quote
from udfs.records import RELAYED_HEADER
from udfs.spec import Inlet


def arrived_with(inlets: Sequence[Inlet]) -> list[str]:
    """Whether a record's headers say more than the other three, the number of its inlet, and its partition and
    offset there.
    """
    direct = {inlet.topic: str(number) for number, inlet in enumerate(inlets) if inlet.relay is None and inlet.topic}
    by_relay = {
        relay: {inlet.topic: number for number, inlet in enumerate(inlets) if inlet.relay == relay}
        for relay in dict.fromkeys(inlet.relay for inlet in inlets)
        if relay is not None
    }
    if not by_relay:
        return ["CARDINALITY(headers) > 0", _number("topic", direct), "`partition`", "`offset`"]
    partition, offset, topic = (f"SPLIT_INDEX({header_text(RELAYED_HEADER)}, ' ', {at})" for at in (0, 1, 3))
    is_relayed = f"topic IN ({_list(by_relay)})"
    numbers = dict(direct)
    unknown = []
    for relay, by_topic in by_relay.items():
        topics = {topic: str(number) for topic, number in by_topic.items() if topic is not None}
        numbers[relay] = f"CASE {topic} {_whens(topics)} ELSE {by_topic[None]} END"
        unknown.append(f"topic = {quote(relay)} AND {topic} NOT IN ({_list(topics)})")
    says_more = f"""CASE WHEN {is_relayed}
        THEN CARDINALITY(headers) > 1 OR {" OR ".join(unknown)}
        ELSE CARDINALITY(headers) > 0 END"""
    return [
        says_more,
        _number("topic", numbers),
        f"CASE WHEN {is_relayed} THEN CAST({partition} AS INT) ELSE `partition` END",
        f"CASE WHEN {is_relayed} THEN CAST({offset} AS BIGINT) ELSE `offset` END",
    ]


def _number(column: str, numbers: Mapping[str, str]) -> str:
    return f"CASE {column} {_whens(numbers)} END" if len(numbers) > 1 else next(iter(numbers.values()))


def _whens(values: Mapping[str, str]) -> str:
    return " ".join(f"WHEN {quote(key)} THEN {value}" for key, value in values.items())


def _list(texts: Iterable[str]) -> str:
    return ", ".join(quote(text) for text in sorted(texts))
