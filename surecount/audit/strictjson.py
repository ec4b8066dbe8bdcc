"""JSON exactly as RFC 8259 has it, read without recursion and without rounding.

The standard library's parser recurses, turns numbers into floats, and lets lone surrogates pass; this one
keeps the text of a number, notices names that stand twice, and goes to any depth.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

WHITE_SPACE = " \t\n\r"

_TOKEN = re.compile(
    r"""[ \t\n\r]*(?:
        (?P<mark>[{}\[\],:])
      | (?P<text>"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*")
      | (?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)
      | (?P<literal>true|false|null)
      | (?P<constant>NaN|-?Infinity)
      | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_LITERALS: Final = {"true": True, "false": False, "null": None}


class Number(str):
    """The text of a JSON number."""

    __slots__ = ()


class Object(dict[str, object]):
    """A JSON object: the last value of each name, and the names that stand more than once."""

    __slots__ = ("twice",)

    def __init__(self) -> None:
        super().__init__()
        self.twice: set[str] = set()


class Array:
    """A JSON array; its items are checked and not kept."""


@dataclass(frozen=True)
class Document:
    """One document. ``value`` is an Object, Array, str, Number, bool or None; ``finite`` is False where it
    holds NaN or an infinity."""

    value: object
    finite: bool


class _NotJsonError(Exception):
    pass


def parse(text: str) -> Document | None:
    """Read one document; None where ``text`` is no JSON, even with NaN and infinities let through."""
    try:
        return _parse(text)
    except _NotJsonError:
        return None


def _parse(text: str) -> Document:
    root = Object()
    stack: list[tuple[Object | Array, str]] = []
    # Values go into ``holder`` under ``name``; an array throws its items away.
    holder: Object | Array = root
    name = ""
    finite = True
    # What may come next: "value", "first" (a value or ]), "name", "first name" (a name or }), ":",
    # "after" (a comma, ] or }) or "end".
    expected = "value"
    position = 0
    while True:
        match = _TOKEN.match(text, position)
        if match is None:
            raise _NotJsonError
        position = match.end()
        kind, token = match.lastgroup, match[match.lastgroup or 0]
        if expected in ("value", "first"):
            if token == "]" and expected == "first":
                holder, name = stack.pop()
                expected = "after" if stack else "end"
                continue
            value: object
            if kind == "text":
                value = _text(token)
            elif kind == "number":
                value = Number(token)
            elif kind == "literal":
                value = _LITERALS[token]
            elif kind == "constant":
                value, finite = None, False
            elif token == "{" or token == "[":
                value = Object() if token == "{" else Array()
            else:
                raise _NotJsonError
            if isinstance(holder, Object):
                if name in holder:
                    holder.twice.add(name)
                holder[name] = value
            if isinstance(value, Object | Array):
                stack.append((holder, name))
                holder = value
                expected = "first name" if isinstance(value, Object) else "first"
            else:
                expected = "after" if stack else "end"
        elif expected == "after":
            in_object = isinstance(holder, Object)
            if token == "," and kind == "mark":
                expected = "name" if in_object else "value"
            elif token == ("}" if in_object else "]") and kind == "mark":
                holder, name = stack.pop()
                expected = "after" if stack else "end"
            else:
                raise _NotJsonError
        elif expected in ("name", "first name"):
            if kind == "text":
                name, expected = _text(token), ":"
            elif token == "}" and expected == "first name":
                holder, name = stack.pop()
                expected = "after" if stack else "end"
            else:
                raise _NotJsonError
        elif expected == ":":
            if token != ":":
                raise _NotJsonError
            expected = "value"
        elif kind == "end":
            return Document(root[""], finite)
        else:
            raise _NotJsonError


def _text(token: str) -> str:
    if "\\" not in token:
        return token[1:-1]
    text: str = json.loads(token)
    if _SURROGATE.search(text):
        raise _NotJsonError
    return text
