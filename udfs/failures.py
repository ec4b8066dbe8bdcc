"""Exceptions as texts that can be kept and shown, whatever raised them."""

from __future__ import annotations

import threading

MAX_TEXT = 1_000
"""Characters."""


def printable(text: str) -> str:
    """One line without tabs, which travels in a column beside others: up to 1,000 characters, which all can be encoded
    and shown; others are written as escapes."""
    line = " ".join(text.split())[:MAX_TEXT]
    if not line.isprintable():
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    return line[:MAX_TEXT]


def text_of(error: BaseException) -> str:
    """Type and text of an exception; its type alone, where it raises when it is asked for its text."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except BaseException as another:
        if is_shutdown(another):
            raise
        return f"{name}, which has no text"


def is_shutdown(error: BaseException) -> bool:
    """Whether an exception is a signal's, and not one that a user's function raised: Python hears signals in its main
    thread only, where Flink's workers run no batches."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()
