"""A run of chaos as a picture: an SVG that needs nothing but itself.

Lanes share one axis of seconds: records sent, results seen, recoveries, restarts, checkpoints. Faults cross them all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from surecount.chaos import svg
from surecount.chaos.seen import Account, Happened

WIDTH = 1000

_LEFT, _RIGHT = 96.0, 960.0
_LABELS_TOP, _LABEL_HEIGHT, _LABEL_SIZE = 58.0, 12.0, 9
_LANE_HEIGHT, _ROW_HEIGHT = 108.0, 24.0
_NAMED_LANES = 5
"""Faults are named in the picture where their names fit into so many lanes; else they are numbered only."""
_NAME_CELLS = 40
_SAME_PLACE = 6.0
"""Numbers of faults that are less px apart share a label, which bounds the lanes that labels need."""
_STEPS = 430
_TICKS = {"checkpoint": (4, svg.GREY), "checkpoint failed": (9, svg.RED)}
"""Half the height, and the colour."""


def recoveries(account: Account) -> tuple[tuple[Happened, float | None], ...]:
    """The faults in order of time, each with the seconds until the next recovery, None where none came."""
    found: list[tuple[Happened, float | None]] = []
    recovered_s: float | None = None
    for one in sorted(account.happened, key=lambda one: one.at_s)[::-1]:
        if one.kind == "recovered":
            recovered_s = one.at_s
        elif one.kind == "fault":
            found.append((one, None if recovered_s is None else recovered_s - one.at_s))
    return tuple(found[::-1])


def timeline(account: Account) -> str:
    """The picture, as the text of an SVG file; a mark that has more to say says it in its title."""
    end = _end(account)
    faults = [(_x(fault.at_s, end), fault, seconds) for fault, seconds in recoveries(account)]
    labels, top = _labels([(x, fault.what) for x, fault, _ in faults])
    results = top + _LANE_HEIGHT
    recovered, restarts, checkpoints = (results + _LANE_HEIGHT + _ROW_HEIGHT * (row + 0.5) for row in range(3))
    bottom = checkpoints + _ROW_HEIGHT / 2
    height = f"{bottom + 42:.0f}"

    def of(kind: str) -> list[tuple[float, str]]:
        return [(_x(one.at_s, end), _said(one)) for one in account.happened if one.kind == kind]

    head = (
        f"{account.pipeline}, seed {account.seed}: {account.faults:,} {'fault' if account.faults == 1 else 'faults'}"
        f" in {account.seconds:,.0f} s, {'passed' if account.passed else 'failed'}"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        f' role="img" font-family="{svg.FONT}">',
        f"<title>{svg.clean(head)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="{svg.WHITE}"/>',
        svg.text(12, 22, svg.cut(head, 110), size=14),
        *_legend(),
        *_axis(end, top, bottom),
        *_lane("sent/s", account.sent, end, top, svg.BLUE),
        *_lane("results/s", account.results, end, results, svg.TEAL),
        *(_bar(x, _x(fault.at_s + s, end), recovered) for x, fault, s in faults if s is not None),
        *(
            _fault(number, fault, svg.line(x, top, x, bottom, svg.ROSE))
            for number, (x, fault, _) in enumerate(faults, 1)
        ),
        _row("recovered", recovered),
        *(svg.titled("recovered", said, svg.dot(x, recovered)) for x, said in of("recovered")),
        _row("restarts", restarts),
        *(svg.titled("restart", said, svg.triangle(x, restarts)) for x, said in of("restart")),
        _row("checkpoints", checkpoints),
        *(_ticks(kind, [x for x, _ in of(kind)], checkpoints) for kind in _TICKS),
        *labels,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _end(account: Account) -> int:
    """Where the axis ends, in whole seconds."""
    seen = [account.seconds, *(one.at_s for one in account.happened)]
    seen += [second + 1 for series in (account.sent, account.results) for second, _ in series]
    return max(1, math.ceil(max(seen)))


def _x(at_s: float, end: int) -> float:
    return _LEFT + (_RIGHT - _LEFT) * min(max(at_s / end, 0.0), 1.0)


def _round_up(number: float, steps: Sequence[int] = (1, 2, 3, 4, 5, 6, 8)) -> float:
    """The next of these steps and their tenths, tenfolds and so on."""
    power = 10.0 ** math.floor(math.log10(number))
    return next((step * power for step in steps if step * power >= number), 10 * power)


def _said(one: Happened) -> str:
    return f"{one.at_s:,.1f} s: {one.what}"


def _bar(x: float, x2: float, y: float) -> str:
    return svg.box(x, y - 3, x2 - x, 6, svg.AMBER)


def _fault(number: int, fault: Happened, mark: str) -> str:
    return svg.titled("fault", f"{number}, {_said(fault)}", mark)


def _row(name: str, y: float) -> str:
    return svg.text(_LEFT - 8, y + 4, name, anchor="end")


def _ticks(kind: str, xs: Sequence[float], y: float) -> str:
    """One path for all, as a run has thousands of checkpoints."""
    half, colour = _TICKS[kind]
    path = "".join(f"M{x:.1f},{y - half:.1f}v{2 * half}" for x in xs)
    return f'<path class="{kind}" d="{path}" stroke="{colour}"/>' if xs else ""


def _labels(faults: Sequence[tuple[float, str]]) -> tuple[list[str], float]:
    """Labels of faults, which are in order, at their x; and the y below them."""
    named, below = _placed([(x, f"{n} {svg.cut(what, _NAME_CELLS)}") for n, (x, what) in enumerate(faults, 1)])
    if below <= _LABELS_TOP + (_NAMED_LANES + 1) * _LABEL_HEIGHT:
        return named, below
    groups: list[tuple[float, int, int]] = []
    for number, (x, _) in enumerate(faults, 1):
        if groups and x - groups[-1][0] < _SAME_PLACE:
            groups[-1] = (groups[-1][0], groups[-1][1], number)
        else:
            groups.append((x, number, number))
    return _placed([(x, f"{first}" if first == last else f"{first}–{last}") for x, first, last in groups])


def _placed(labels: Sequence[tuple[float, str]]) -> tuple[list[str], float]:
    """Each label in the first lane where nothing is in its way, and a line down from it that other labels hide."""
    free_from: list[float] = []
    places: list[tuple[float, float, float]] = []
    for x, label in labels:
        half = svg.text_width(label, _LABEL_SIZE) / 2 + 4
        middle = min(max(x, half), WIDTH - half)
        lane = next((lane for lane, free in enumerate(free_from) if free <= middle - half), len(free_from))
        free_from[lane : lane + 1] = [middle + half]
        places.append((middle, half, _LABELS_TOP + lane * _LABEL_HEIGHT))
    below = _LABELS_TOP + (len(free_from) + 1) * _LABEL_HEIGHT
    parts = [svg.line(x, y, x, below, svg.PINK) for (x, _), (_, _, y) in zip(labels, places, strict=True)]
    for (_, label), (middle, half, y) in zip(labels, places, strict=True):
        words = svg.text(middle, y + 9, label, anchor="middle", size=_LABEL_SIZE, colour=svg.RED)
        parts.append(f'<g class="label">{svg.box(middle - half, y, 2 * half, _LABEL_HEIGHT, svg.WHITE)}{words}</g>')
    return parts, below


def _legend() -> Iterator[str]:
    """What each kind of mark is."""
    x = _LEFT
    for name, mark in (
        ("fault", svg.line(0, -6, 0, 6, svg.ROSE)),
        ("until recovered", _bar(-6, 6, 0)),
        ("recovered", svg.dot(0, 0)),
        ("restart", svg.triangle(0, 0)),
        *((kind, svg.line(0, -half, 0, half, colour)) for kind, (half, colour) in _TICKS.items()),
    ):
        yield f'<g transform="translate({x:.1f},42)">{mark}</g>'
        yield svg.text(x + 10, 46, name)
        x += 40 + svg.text_width(name)


def _axis(end: int, top: float, bottom: float) -> Iterator[str]:
    """Seconds since the load began."""
    for tick in range(0, end + 1, math.ceil(_round_up(end / 12, (1, 2, 3, 5)))):
        yield svg.line(_x(tick, end), top, _x(tick, end), bottom + 4, svg.GRID)
        yield svg.text(_x(tick, end), bottom + 17, f"{tick:,}", anchor="middle")
    yield svg.line(_LEFT, bottom, _RIGHT, bottom, svg.GREY)
    yield svg.text((_LEFT + _RIGHT) / 2, bottom + 34, "seconds since the load began", anchor="middle")


def _lane(name: str, series: Sequence[tuple[int, int]], end: int, top: float, colour: str) -> Iterator[str]:
    """Records a second as an area of steps, on a scale of its own."""
    size = math.ceil(end / _STEPS)
    totals: Counter[int] = Counter()
    for second, records in series:
        totals[max(0, second) // size] += records
    steps = [(min(at + size, end), totals[at // size] / (min(at + size, end) - at)) for at in range(0, end, size)]
    scale = _round_up(max(rate for _, rate in steps) or 1)
    base = top + _LANE_HEIGHT - 12
    path = "".join(f"V{base - (base - top) * rate / scale:.1f}H{_x(to, end):.1f}" for to, rate in steps)
    yield f'<path d="M{_LEFT:.1f},{base:.1f}{path}V{base:.1f}z" fill="{colour}"/>'
    yield svg.line(_LEFT, base, _RIGHT, base, svg.GREY)
    yield svg.text(_LEFT - 8, top + 8, f"{scale:,.0f}" if scale >= 1 else f"{scale:g}", anchor="end")
    yield svg.text(_LEFT - 8, (top + base) / 2, name, anchor="end")
    if size > 1:
        yield svg.text(_LEFT - 8, (top + base) / 2 + 13, f"mean of {size:,} s", anchor="end", size=9)
    yield svg.text(_LEFT - 8, base + 2, "0", anchor="end")
