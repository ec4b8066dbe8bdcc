"""Text that someone else wrote (keys, names, messages of other programs), made safe to show."""

from __future__ import annotations


def visible(text: str) -> str:
    """The text with an escape in place of each character that a terminal or a page would act on, not show.

    Those are control characters (such as ESC, which begins a terminal's commands), format characters (such as those
    that turn the direction of writing), line separators and lone surrogates. Plain spaces and all that has a shape
    stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
