"""Results of peers, as they are read from their topics."""

from __future__ import annotations

import orjson

Result = tuple[int, str, int, int, int]
"""One window of one key: the aggregate's number, the key, the start in ms since 1970, count and sum."""


def parse_result(value: bytes) -> Result:
    """A result in the format that all peers share; ValueError or KeyError where it is none."""
    found = orjson.loads(value)
    return found.get("aggregate", 0), found["key"], found["start"], found["count"], found["sum"]
