"""What a batch sends on to several buckets, as one value, so that it needs only one row."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

_FRAME = struct.Struct("<IQ")  # bucket, length


def join(parts: Iterable[tuple[int, bytes]]) -> bytes:
    """Pairs of bucket and content as one value."""
    pieces: list[bytes] = []
    for bucket, content in parts:
        pieces += [_FRAME.pack(bucket, len(content)), content]
    return b"".join(pieces)


def split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The inverse of :func:`join`."""
    at = 0
    while at < len(data):
        bucket, length = _FRAME.unpack_from(data, at)
        at += _FRAME.size
        yield bucket, data[at : at + length]
        at += length
