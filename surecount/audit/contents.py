"""What is compared of records: their headers, and digests of all that a job hands on."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b, sha256

from confluent_kafka import Message

from surecount.audit.outputs import MalformedError
from surecount.audit.rules import is_kafka_time

Headers = Mapping[str, str | bytes | None]
"""By name: of several with one name the last, which is all that earlier versions kept."""

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


def compared(value: bytes | None, written: Headers = _NONE) -> bytes | None:
    """A value as it is compared: a large one by its digest, as the jobs write a reject that is too large for Kafka
    without it. ``written`` are the headers of a job's output, which tell that digest."""
    if value is None:
        told = written.get(f"{PREFIX}sha256")
        return b"sha256 " + (told.encode() if isinstance(told, str) else told) if told else None
    return b"sha256 " + sha256(value).hexdigest().encode() if len(value) > _LARGE else value


def compared_key(key: bytes | None) -> bytes | None:
    """Give the key to compare, or None for a key over 32 MiB: the jobs may have omitted it from a reject."""
    return None if key is None or len(key) > _MAY_BE_OMITTED else key


_LARGE = 1 << 20
_MAY_BE_OMITTED = 32 << 20

OMITTED = 0
"""The digest of an output whose header ``surecount.omitted`` names parts that it lacks: it is not compared."""


def output_content(message: Message, timestamp_ms: int, headers: Headers) -> int:
    """:func:`content` of what a job wrote, or :data:`OMITTED`."""
    if f"{PREFIX}omitted" in headers:
        return OMITTED
    return content(message.key(), compared(message.value(), headers), timestamp_ms, headers)


def content(key: bytes | None, value: bytes | None, timestamp_ms: int, headers: Headers) -> int:
    """A digest of what ingest and relays leave as it is: all but the headers that they add, or keep under another name.

    The latter are not compared, and a header without a value does not count, as earlier versions did not keep them all.
    A timestamp that is no time is 0.
    """
    if not is_kafka_time(timestamp_ms):
        timestamp_ms = 0
    own: list[bytes | None] = []
    for name in sorted(headers):
        given = headers[name]
        if given is not None and not _is_named_as_ours(name):
            own += (name.encode(), given.encode() if isinstance(given, str) else given)
    return digest(key, compared(value), b"%d" % timestamp_ms, *own)


def _is_named_as_ours(name: str) -> bool:
    while name.startswith(_ASIDE):
        name = name.removeprefix(_ASIDE)
    return name.startswith(PREFIX)
