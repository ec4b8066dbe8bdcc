"""Values that are all written alike, read without parsing each: the fastest way, for what machines write.

The first value gives the shape: its keys, their order, all punctuation. Where the others have the same and differ only
in the digits of integers and the insides of strings, a field is at known places of each value, and numpy takes it out
of a whole batch. What is not plainly so is left to a real parser: escapes, control characters, integers of more
than 16 digits, a key that comes twice, batches of several shapes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from udfs import record
from udfs.spec import Field
from udfs.tables import arrow_type

Int64s = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Place = tuple[Int64s, Int64s]
"""Of each value, where something begins and ends in the text."""

_WORD = 8
_MOST_DIGITS = 2 * _WORD
# Each slot takes numpy some time, however few the values are.
_MOST_SLOTS = 1_000
_QUOTE, _BACKSLASH, _MINUS, _ZERO, _BLANK = b'"\\-0 '
# A string, with the colon that makes it a key, or an integer that is not part of another number.
_TOKEN = re.compile(rb'"([^"]*)"(\s*:)?|(?<![0-9.eE+-])(-?[0-9]{1,16})(?![0-9.eE])')


@dataclass(frozen=True)
class _Shape:
    """``literals`` stand before, between and after the slots, scalars that may differ; ``document`` has in the place
    of each its number, as text where it is a string."""

    literals: list[bytes]
    is_string: list[bool]
    document: dict[str, Any]


def read(values: pa.Array, fields: Sequence[Field]) -> pa.Table | None:
    """A row for each value of a binary array without nulls, and a column for each field by its dotted path, of nulls
    where the shape has none; None where it is for a parser to say."""
    shape = _shape_of(values[0].as_py())
    if shape is None or not fields:
        return None
    slots = [_slot(shape, field) for field in fields]
    if _FOR_A_PARSER in slots:
        return None
    text = _Text(values)
    places = text.places(shape.literals)
    if places is None:
        return None
    integers: dict[int, Int64s] = {}
    for number, is_string in enumerate(shape.is_string):
        # Also those that nobody asked for have to be integers.
        if not is_string:
            found = text.integers(*places[number])
            if found is None:
                return None
            integers[number] = found
    columns: dict[str, pa.Array] = {}
    for field, slot in zip(fields, slots, strict=True):
        if slot is None:
            columns[field.path] = pa.nulls(len(values), arrow_type(field))
        else:
            columns[field.path] = pa.array(integers[slot]) if slot in integers else text.strings(*places[slot])
    return pa.table(columns)


def _shape_of(value: bytes) -> _Shape | None:
    if _BACKSLASH in value or value.count(b"{") + value.count(b"[") > record.MAX_DEPTH:
        return None
    literals: list[bytes] = []
    numbered: list[bytes] = []
    is_string: list[bool] = []
    done = keys = 0
    for token in _TOKEN.finditer(value):
        if token[2] is not None:
            keys += 1
            continue
        if len(is_string) == _MOST_SLOTS:
            return None
        group = 1 if token[1] is not None else 3
        literals.append(value[done : token.start(group)])
        numbered += [literals[-1], b"%d" % len(is_string)]
        is_string.append(group == 1)
        done = token.end(group)
    literals.append(value[done:])
    try:
        document = orjson.loads(b"".join([*numbered, literals[-1]]))
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict) or _keys(document) != keys:
        return None
    # Quotes tell where each literal is; the last ends where the value ends.
    return (
        _Shape(literals, is_string, document) if all(b'"' in literal for literal in literals[:-1] or literals) else None
    )


def _keys(node: Any) -> int:
    """How many keys a document has; of those that come twice in an object one is gone."""
    if isinstance(node, dict):
        return len(node) + sum(map(_keys, node.values()))
    return sum(map(_keys, node)) if isinstance(node, list) else 0


_FOR_A_PARSER = -1


def _slot(shape: _Shape, field: Field) -> int | None:
    """The number of a field's slot, None where the shape lacks it, or that it is for a parser to say."""
    node: Any = shape.document
    for part in field.parts:
        if not isinstance(node, dict):
            return _FOR_A_PARSER
        if part not in node:
            return None
        node = node[part]
    if (type(node), field.type) not in ((str, "string"), (int, "int")):
        return _FOR_A_PARSER
    number = int(node)
    # An integer of more than 16 digits is no slot, and stands there itself.
    return number if 0 <= number < len(shape.is_string) else _FOR_A_PARSER


class _Text:
    """The values of an array one after the other, with room around them, since whole words are read."""

    def __init__(self, values: pa.Array) -> None:
        offsets = np.frombuffer(values.buffers()[1], np.int32)[values.offset : values.offset + len(values) + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        self._text = np.full(_MOST_DIGITS + last - first + _WORD, _BLANK, np.uint8)
        self._text[_MOST_DIGITS:-_WORD] = np.frombuffer(values.buffers()[2], np.uint8)[first:last]
        self._words: Words = np.ndarray(len(self._text) - _WORD + 1, "<u8", self._text, strides=(1,))
        edges = offsets.astype(np.int64) + (_MOST_DIGITS - first)
        self._starts, self._ends = edges[:-1], edges[1:]

    def places(self, literals: Sequence[bytes]) -> list[Place] | None:
        """What stands between these in each value; None unless each consists of them and what may be in a scalar."""
        counts = [literal.count(b'"') for literal in literals]
        quotes = np.flatnonzero(self._text == _QUOTE)
        if len(quotes) != sum(counts) * len(self._starts) or not self._has_plain_characters():
            return None
        # As each value turns out to have all quotes of all literals, there are none in between.
        of_value = quotes.reshape(-1, sum(counts))
        places: list[Place] = []
        end = self._starts
        for number, (literal, quote) in enumerate(zip(literals, accumulate(counts, initial=0), strict=False)):
            is_last = number == len(literals) - 1
            start = self._ends - len(literal) if is_last else of_value[:, quote] - literal.index(b'"')
            if (start < end).any() or (number == 0 and (start > end).any()):
                return None
            if (start + len(literal) > self._ends).any() or not self._is(literal, start):
                return None
            if number:
                places.append((end, start))
            end = start + len(literal)
        return places

    def _has_plain_characters(self) -> bool:
        if self._text.min() < _BLANK or (self._text == _BACKSLASH).any():
            return False
        if self._text.max() >= 128:
            try:
                # Values begin and end with braces, so no character is of two of them.
                self._text.tobytes().decode()
            except UnicodeDecodeError:
                return False
        return True

    def _is(self, literal: bytes, start: Int64s) -> bool:
        for at in range(0, len(literal), _WORD):
            word = literal[at : at + _WORD]
            mask = np.uint64((1 << 8 * len(word)) - 1)
            if ((self._words[start + at] & mask) != int.from_bytes(word, "little")).any():
                return False
        return True

    def integers(self, start: Int64s, end: Int64s) -> Int64s | None:
        """What stands there as integers; None unless each is one, of 1 to 16 digits."""
        is_negative = self._text[start] == _MINUS
        digits = end - start - is_negative
        if digits.min() < 1 or digits.max() > _MOST_DIGITS:
            return None
        if ((self._text[end - digits] == _ZERO) & (digits > 1)).any():
            return None
        found = self._eight_digits(end, np.minimum(digits, _WORD))
        if found is not None and digits.max() > _WORD:
            high = self._eight_digits(end - _WORD, np.maximum(digits - _WORD, 0))
            found = None if high is None else found + high * 10**_WORD
        return None if found is None else np.where(is_negative, -found, found)

    def _eight_digits(self, end: Int64s, digits: Int64s) -> Int64s | None:
        """The number that so many digits before ``end`` are, at most eight; None where one is none.

        https://johnnylee-sde.github.io/Fast-numeric-string-to-int/ has the arithmetic.
        """
        others = (_WORD - digits).astype(np.uint64) * np.uint64(8)
        # numpy gives 0 for a shift by all bits.
        mask = np.left_shift(np.uint64(0xFFFFFFFFFFFFFFFF), others)
        word = (self._words[end - _WORD] & mask) | (np.uint64(0x3030303030303030) & ~mask)
        over = word + np.uint64(0x0606060606060606)
        if (((word & over) & np.uint64(0xF0F0F0F0F0F0F0F0)) != np.uint64(0x3030303030303030)).any():
            return None
        word = (word & np.uint64(0x0F0F0F0F0F0F0F0F)) * np.uint64(2561) >> np.uint64(8)
        word = (word & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(6553601) >> np.uint64(16)
        word = (word & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(42949672960001) >> np.uint64(32)
        found: Int64s = word.astype(np.int64)
        return found

    def strings(self, start: Int64s, end: Int64s) -> pa.Array:
        """What stands there, as strings."""
        count = len(start)
        # With what is between them, which is then left out.
        offsets = np.empty(2 * count + 1, np.int32)
        offsets[:-1:2], offsets[1::2], offsets[-1] = start, end, end[-1]
        both = pa.Array.from_buffers(pa.string(), 2 * count, [None, pa.py_buffer(offsets), pa.py_buffer(self._text)])
        return both.take(pa.array(np.arange(0, 2 * count, 2)))
