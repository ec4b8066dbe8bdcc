"""The identity of events: a 128-bit hash of their id fields, or of their origin.

It is kept in state, so it never changes: XXH3-128 of the id's bytes, as two words. The bytes are the
field as UTF-8, integers as decimal text; of several fields, each with its length and a colon before it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from xxhash import xxh3_128_digest

from udfs.id_log import Ids
from udfs.tables import to_list

assert sys.byteorder == "little", "ids are kept as little-endian words"


def of_fields(columns: Sequence[pa.Array]) -> Ids:
    """The ids of records by their id fields: string or int64, without nulls; at least one."""
    parts = [to_list(column.cast(pa.string()).cast(pa.binary())) for column in columns]
    if len(parts) == 1:
        return _hashed(parts[0])
    return _hashed(b"".join(b"%d:%b" % (len(part), part) for part in row) for row in zip(*parts, strict=True))


def of_origins(origins: Iterable[tuple[str, str, int, int]]) -> Ids:
    """The ids of records that have no other: by pathway, topic, partition and offset."""
    return _hashed(f"{pathway} {topic} {partition} {offset}".encode() for pathway, topic, partition, offset in origins)


def buckets_of(ids: Ids, number: int) -> np.ndarray:  # type: ignore[type-arg]
    """The bucket of each id. By the second word: within a bucket, ids are told apart by the first."""
    return (ids[:, 1] % np.uint64(number)).astype(np.int64)


def _hashed(values: Iterable[bytes]) -> Ids:
    digests = b"".join(map(xxh3_128_digest, values))
    return np.frombuffer(digests, "<u8").reshape(-1, 2)
