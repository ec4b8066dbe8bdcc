"""What is compared of records: their headers, and digests of all that a job hands on."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from confluent_kafka import Message

from surecount.audit.outputs import MalformedError
from surecount.audit.rules import is_kafka_time

Headers = Mapping[str, str | bytes | None]
"""By name: of several with one name the last, as Flink's Kafka tables have it."""

PREFIX = "surecount."
_ASIDE = "producer."
"""Before the name of a header that a producer called as ours are called, once or more often."""
_NONE: Headers = {}


def headers_of(message: Message) -> Headers:
    """The headers of a record that was read."""
    given = message.headers()
    return dict(given) if given else _NONE


def header(headers: Headers, name: str) -> str:
    """The text of the header ``surecount.NAME``; raises MalformedError."""
    value = headers.get(PREFIX + name)
    if value is None:
        raise MalformedError(f"it has no header surecount.{name}")
    if isinstance(value, str):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(f"its header surecount.{name} is not UTF-8") from error


def header_ms(headers: Headers, name: str) -> int:
    """The header ``surecount.NAME`` as a time in ms; raises MalformedError."""
    text = header(headers, name)
    try:
        ms = int(text)
    except ValueError:
        ms = 1 << 63
    if not -(1 << 63) <= ms < 1 << 63:
        raise MalformedError(f"its header surecount.{name} is {text!r}")
    return ms


def digest(*parts: bytes | None) -> int:
    """64 bits of ``parts``; None and empty differ."""
    marked = b"".join([b"-" if part is None else b"%d:%b" % (len(part), part) for part in parts])
    return int.from_bytes(blake2b(marked, digest_size=8).digest(), "little")


def content(key: bytes | None, value: bytes | None, timestamp_ms: int, headers: Headers) -> int:
    """A digest of what ingest and relays leave as it is: all but the headers that they add, or keep under another name.

    The latter are not compared, as earlier versions did not keep them all. A header without a value does not count:
    Flink's Kafka sink writes none. A timestamp that is no time is 0.
    """
    if not is_kafka_time(timestamp_ms):
        timestamp_ms = 0
    own: list[bytes | None] = []
    for name in sorted(headers):
        given = headers[name]
        if given is not None and not _is_named_as_ours(name):
            own += (name.encode(), given.encode() if isinstance(given, str) else given)
    return digest(key, value, b"%d" % timestamp_ms, *own)


def _is_named_as_ours(name: str) -> bool:
    while name.startswith(_ASIDE):
        name = name.removeprefix(_ASIDE)
    return name.startswith(PREFIX)
