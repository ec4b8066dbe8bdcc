"""How cost grows with whatever can grow: a picture for each, and the table behind it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.compare import check_names, keep, prepared, row, told
from benchmarks.driver import Case, Driver, Run
from benchmarks.events import Events
from benchmarks.peers.catalog import PEERS
from benchmarks.peers.peer import Peer
from benchmarks.stage import stage

_COUNT = 2_000_000
_FEW = Events(0, keys=1_000, per_window=1_000)

# The same measurement makes the same file; text stays text.
mpl.rcParams.update({"svg.hashsalt": "surecount", "svg.fonttype": "none"})


@dataclass(frozen=True)
class Axis:
    """What grows, ``title`` in words, and a case of one size for each value."""

    title: str
    cases: Mapping[int, Case]


def _axis(title: str, cases: Mapping[int, tuple[Events, int, int, int]]) -> Axis:
    """Of each value: the events, their number, partitions and slots."""
    made = {
        value: Case(f"{title} {value:,}", events, (count,), partitions=partitions, slots=slots)
        for value, (events, count, partitions, slots) in cases.items()
    }
    return Axis(title, made)


AXES = {
    "records": _axis("records", {n: (_FEW, n, 2, 1) for n in (500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000)}),
    "keys": _axis(
        "keys", {n: (Events(0, n, 1_000_000 // n), _COUNT, 2, 1) for n in (100, 1_000, 10_000, 100_000, 1_000_000)}
    ),
    "windows": _axis(
        "windows of each key", {n: (Events(0, 1_000, 2_000 // n), _COUNT, 2, 1) for n in (2, 10, 50, 200)}
    ),
    "aggregates": _axis("aggregates", {n: (Events(0, 1_000, 1_000, aggregates=n), _COUNT, 2, 1) for n in (1, 2, 3, 5)}),
    "partitions": _axis("partitions of the input", {n: (_FEW, _COUNT, n, 1) for n in (1, 2, 5, 10, 20)}),
    "slots": _axis("slots", {n: (_FEW, 5_000_000, 4, n) for n in (1, 2, 4)}),
}


def run(axes: Sequence[str], only: Sequence[str], rounds: int, limit_s: float, to: Path) -> None:
    """Print each run as it ends, and then a table for each axis; it is kept in the folder ``to`` with its picture.

    Raises SurecountError that names an axis or program there is not.
    """
    check_names(axes, AXES)
    check_names(only, PEERS)
    for name in axes:
        axis, runs = AXES[name], dict[int, list[Run]]()
        with stage(slots=max(case.slots for case in axis.cases.values())) as on:
            peers = prepared(on, only)
            drivers = {value: Driver(on, case, limit_s) for value, case in axis.cases.items()}
            # Warms JVMs up, which all later runs share.
            _turn("to begin with", axis.cases[max(drivers)], drivers[max(drivers)], peers)
            for number in range(rounds):
                for value, driver in drivers.items():
                    runs.setdefault(value, []).extend(_turn(f"round {number + 1}", axis.cases[value], driver, peers))
        every = [one for found in runs.values() for one in found]
        keep(to, f"growth-{name}", every, table(axis.title, runs), picture(axis.title, runs))


def _turn(when: str, case: Case, driver: Driver, peers: Mapping[str, Peer]) -> list[Run]:
    """One run of each program, told."""
    (count,) = case.sizes
    return [told(when, driver.run(name, peer, count)) for name, peer in peers.items()]


def table(title: str, runs: Mapping[int, Sequence[Run]]) -> str:
    """By value and program, in Markdown: medians of the seconds until results were readable, until they were written,
    and of CPU, and what is wrong."""
    head = (title, "program", "elapsed s", "written s", "CPU s", "peak MB", "answers")
    lines = [row(head), row(["---"] * len(head))]
    for value, found in runs.items():
        for peer, of_peer in _by_peer(found).items():
            wrong = "; ".join(one.wrong for one in of_peer if one.wrong)
            right = [one for one in of_peer if one.elapsed_s is not None]
            figures = (
                f"{median(one.elapsed_s or 0 for one in right):.1f}",
                f"{median(one.written_s or 0 for one in right):.1f}",
                f"{median(one.cpu_s for one in right):.1f}",
                f"{max(one.peak_bytes for one in right) / 1e6:,.0f}",
            ) if right else ("–",) * 4  # fmt: skip
            lines.append(row([f"{value:,}", peer, *figures, wrong or "exact"]))
    return "\n".join(lines) + "\n"


def picture(title: str, runs: Mapping[int, Sequence[Run]]) -> str:
    """Medians as an SVG: seconds until the results were written, and CPU seconds beside them, of each program; wrong
    answers have no place. Seconds until they were readable would show little but checkpoints."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, label in zip(figure.subplots(1, 2), ("written s", "CPU s"), strict=True):
        points: dict[str, dict[int, float]] = defaultdict(dict)
        for value, found in runs.items():
            for peer, of_peer in _by_peer(found).items():
                times = [one.written_s if label == "written s" else one.cpu_s for one in of_peer if one.elapsed_s]
                if times:
                    points[peer][value] = median(time or 0 for time in times)
        for peer, of_peer_points in points.items():
            axes.plot(list(of_peer_points), list(of_peer_points.values()), marker="o", label=peer)
        if max(runs) / min(runs) > 50:
            axes.set_xscale("log")
        axes.set(xlabel=title, ylabel=label, ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend()
    return _svg(figure)


def _by_peer(found: Sequence[Run]) -> dict[str, list[Run]]:
    return {peer: [one for one in found if one.peer == peer] for peer in dict.fromkeys(one.peer for one in found)}


def _svg(figure: Figure) -> str:
    file = StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
