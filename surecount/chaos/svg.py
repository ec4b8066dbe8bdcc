"""The few shapes that a timeline is drawn with, each the text of an SVG element, and text whose width is known.

Text is monospaced, so that its width follows from its characters. ``size`` is in px.
"""

from __future__ import annotations

import re
from html import escape

from rich.cells import cell_len, set_cell_size

INK, GREY, GRID, WHITE = "#1f2328", "#57606a", "#d0d7de", "#ffffff"
RED, ROSE, PINK, ORANGE, AMBER = "#cf222e", "#e5565e", "#f5b7bb", "#bc4c00", "#f2cc60"
GREEN, TEAL, BLUE = "#1a7f37", "#7cc7b5", "#80bfff"
FONT = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

_CELL = 0.61
"""The width of a character, or of half a wide one, in sizes."""
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    """On one line, escaped, with nothing that XML cannot hold."""
    return escape(_line(text))


def _line(text: str) -> str:
    return _NOT_XML.sub("\ufffd", " ".join(text.split()))


def cut(text: str, cells: int) -> str:
    """On one line of so many characters at most, wide ones being two."""
    text = _line(text)
    return text if cell_len(text) <= cells else set_cell_size(text, cells - 1).rstrip() + "…"


def text_width(text: str, size: int = 11) -> float:
    """In px."""
    return cell_len(_line(text)) * _CELL * size


def text(x: float, y: float, content: str, *, anchor: str = "start", size: int = 11, colour: str = INK) -> str:
    """Text on the base line ``y``."""
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}">{clean(content)}</text>'


def line(x: float, y: float, x2: float, y2: float, colour: str) -> str:
    """A line of 1 px."""
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    """A filled rectangle."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def dot(x: float, y: float) -> str:
    """A recovery."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{GREEN}"/>'


def triangle(x: float, y: float) -> str:
    """A restart."""
    return f'<path d="M{x:.1f},{y - 4:.1f}l4,8h-8z" fill="{ORANGE}"/>'


def titled(kind: str, title: str, mark: str) -> str:
    """A mark that says what it is where the pointer rests on it."""
    return f'<g class="{kind}"><title>{clean(title)}</title>{mark}</g>'
