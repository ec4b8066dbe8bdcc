"""Durations and sizes with their units, as pipeline files and options write them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS_MS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d+)\s*(ms|s|min|h|d)")
_SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)")


def parse_duration(value: object) -> int:
    """Milliseconds of a duration such as ``"5 s"``; raises ValueError that names the units."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a duration; write a number and ms, s, min, h or d, such as '5 s'")
    return int(match[1]) * _UNITS_MS[match[2]]


def parse_size(value: object) -> int:
    """Bytes of a size such as ``"1 MiB"``; raises ValueError that names the units."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a size; write a number and B, KiB, MiB or GiB, such as '1 MiB'")
    return int(match[1]) * _SIZES[match[2]]


def format_duration(ms: int) -> str:
    """The shortest way to write a duration, such as ``"90 s"`` for 90000."""
    unit = next(u for u in ("d", "h", "min", "s", "ms") if ms % _UNITS_MS[u] == 0 and (ms or u == "ms"))
    return f"{ms // _UNITS_MS[unit]} {unit}"


def format_size(size: int) -> str:
    """The shortest way to write a size, such as ``"1 MiB"`` for 1048576."""
    unit = next(u for u in ("GiB", "MiB", "KiB", "B") if size % _SIZES[u] == 0 and (size or u == "B"))
    return f"{size // _SIZES[unit]} {unit}"


def duration(low: str, high: str) -> Any:
    """A field's type: milliseconds, from a duration within a range, and in JSON one again."""

    def check(value: object) -> int:
        ms = parse_duration(value)
        if not parse_duration(low) <= ms <= parse_duration(high):
            raise ValueError(f"{value!r} is outside of {low} to {high}")
        return ms

    schema = {"type": "string", "pattern": r"^\d+\s*(ms|s|min|h|d)$", "description": f"{low} to {high}"}
    return Annotated[int, BeforeValidator(check), _as_text(format_duration), WithJsonSchema(schema)]


def size_between(low: str, high: str) -> Any:
    """A field's type: bytes, from a size within a range, and in JSON one again."""

    def check(value: object) -> int:
        size = parse_size(value)
        if not parse_size(low) <= size <= parse_size(high):
            raise ValueError(f"{value!r} is outside of {low} to {high}")
        return size

    schema = {"type": "string", "pattern": r"^\d+\s*(B|KiB|MiB|GiB)$", "description": f"{low} to {high}"}
    return Annotated[int, BeforeValidator(check), _as_text(format_size), WithJsonSchema(schema)]


def _as_text(text: Callable[[int], str]) -> PlainSerializer:
    return PlainSerializer(text, return_type=str, when_used="json")
