"""The same work on surecount and on what one would pick instead, in turns, each answer held against the truth."""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from statistics import median

import psutil

from benchmarks.driver import Case, Driver, Run
from benchmarks.events import Events
from benchmarks.peers.catalog import PEERS
from benchmarks.peers.peer import About, Peer
from benchmarks.stage import Stage, stage
from surecount.console import err, out
from surecount.errors import SurecountError

_FEW = Events(0, keys=1_000, per_window=1_000)
_SIZES = (20_000, 200_000, 2_000_000, 10_000_000)
_FEWER = (*_SIZES[:3], 5_000_000)

CASES = {
    case.name: case
    for case in (
        Case("few", _FEW, _SIZES),
        Case("many", Events(0, keys=1_000_000, per_window=1), (*_SIZES[:2], 1_000_000, 5_000_000)),
        Case("large", replace(_FEW, size=1_000), _FEWER),
        Case("aggregates", replace(_FEW, aggregates=3), _FEWER),
        Case("slots", _FEW, _SIZES, slots=2),
        Case("kafka-time", _FEW, _SIZES, event_time="kafka"),
    )
}


def run(
    cases: Sequence[str],
    only: Sequence[str],
    rounds: int,
    limit_s: float,
    quick: bool,
    to: Path,
    given: Sequence[int] = (),
) -> None:
    """Print each run as it ends, and then a table, which is kept in the folder ``to`` with all runs as JSON.

    ``given`` sizes take the place of each case's own; ``quick`` takes the two smallest only. Raises SurecountError that
    names a case or program there is not.
    """
    check_names(only, PEERS)
    check_names(cases, CASES)
    runs: list[Run] = []
    abouts: dict[str, About] = {}
    try:
        for case in (CASES[name] for name in cases):
            with stage(slots=case.slots) as on:
                peers = prepared(on, only or list(PEERS))
                abouts |= {name: peer.about for name, peer in peers.items()}
                able = {name: peer for name, peer in peers.items() if case.needs <= peer.about.supports}
                sizes = sorted(given) or (case.sizes[:2] if quick else case.sizes)
                runs.extend(_compared(Driver(on, case, limit_s), able, sizes, rounds))
    finally:
        keep(to, "compared", runs, table(runs, abouts))


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise SurecountError for a name that is not known."""
    if unknown := sorted({*given} - {*known}):
        raise SurecountError(f"{unknown[0]}: there is none", f"there are {', '.join(known)}")


def prepared(on: Stage, names: Iterable[str]) -> dict[str, Peer]:
    """Peers on a stage, ready to be started."""
    peers = {name: PEERS[name](on) for name in names}
    for name, peer in peers.items():
        with err.status(f"preparing {name}"):
            peer.prepare()
    return peers


def keep(to: Path, name: str, runs: Sequence[Run], text: str, picture: str = "") -> None:
    """Print a table, and keep it in the folder ``to``, with all runs as JSON, and with a picture where there is one."""
    if not runs:
        return
    page = f"{machine()}\n\n{text}"
    to.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    to.joinpath(f"{stem}.json").write_text(json.dumps([asdict(one) for one in runs], indent=1) + "\n")
    to.joinpath(f"{stem}.md").write_text(page)
    if picture:
        to.joinpath(f"{stem}.svg").write_text(picture)
    out.print(page, highlight=False, soft_wrap=True, markup=False)
    out.print(f"kept in {to / stem}.*", highlight=False, soft_wrap=True)


def machine() -> str:
    """What it was measured on, and when; a line."""
    memory = psutil.virtual_memory().total / 2**30
    where = f"{psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
    return f"{datetime.now(UTC):%Y-%m-%d}, {where}"


def _compared(driver: Driver, peers: Mapping[str, Peer], sizes: Sequence[int], rounds: int) -> Iterator[Run]:
    """All rounds of these peers, in turns, and what failed on the way."""
    chosen: dict[str, Sequence[int]] = {}
    for name, peer in peers.items():
        done: list[int] = []
        for size, larger in zip_longest(sizes, sizes[1:]):
            ran = told("to begin with", driver.run(name, peer, size))
            if ran.elapsed_s is None:
                yield ran
                break
            done.append(size)
            # Most of the time of a small run is its start.
            if larger and ran.elapsed_s * larger / size / 3 > driver.limit_s:
                break
        chosen[name] = done[-2:]
    for number in range(rounds):
        for name, peer in peers.items():
            for size in chosen[name]:
                yield told(f"round {number + 1}", driver.run(name, peer, size))


def told(when: str, ran: Run) -> Run:
    """The run, printed."""
    out.print(f"{when}: {ran.line()}", highlight=False, soft_wrap=True, markup=False)
    return ran


def table(runs: Sequence[Run], abouts: Mapping[str, About]) -> str:
    """By case and program, in Markdown: medians at its largest size; slopes between its two sizes, which leave start-up
    out; and ratios to surecount of the same size. Events a second are those of the time until all results are written:
    the time until they are readable comes in steps, of a checkpoint each."""
    rows: dict[tuple[str, str], dict[int, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for one in runs:
        rows[one.case, one.peer][one.count].append(one)
    head = (
        "case", "program", "guarantee", "events", "elapsed s", "× surecount", "written s", "events/s",
        "CPU s per 1,000,000", "peak MB", "answers",
    )  # fmt: skip
    lines = [row(head), row(["---"] * len(head))]
    for (case, peer), by_size in rows.items():
        right = sorted(size for size, found in by_size.items() if not any(one.wrong for one in found))
        answers = "; ".join(
            [
                *(["exact"] if right else []),
                *(f"{size:,} events: {one.wrong}" for size in sorted(by_size) for one in by_size[size] if one.wrong),
            ]
        )
        if not right:
            lines.append(row([case, peer, abouts[peer].guarantee, *["–"] * 7, answers]))
            continue
        first, last = right[0], right[-1]
        elapsed = {size: median(one.elapsed_s or 0.0 for one in by_size[size]) for size in right}
        written = {size: median(one.written_s or 0.0 for one in by_size[size]) for size in right}
        cpu = {size: median(one.cpu_s for one in by_size[size]) for size in right}
        ours = [one.elapsed_s or 0.0 for one in rows.get((case, "surecount"), {}).get(last, [])]
        figures = [
            f"{last:,}",
            f"{elapsed[last]:.1f}",
            f"{elapsed[last] / median(ours):.2f}" if ours else "–",
            f"{written[last]:.1f}",
            # Sizes so small that the smaller one took longer say nothing of a rate.
            f"{(last - first) / (written[last] - written[first]):,.0f}" if written[last] > written[first] else "–",
            f"{(cpu[last] - cpu[first]) / (last - first) * 1e6:.1f}" if last > first else "–",
            f"{max(one.peak_bytes for one in by_size[last]) / 1e6:,.0f}",
        ]
        lines.append(row([case, peer, abouts[peer].guarantee, *figures, answers]))
    return "\n".join(lines) + "\n"


def row(cells: Sequence[object]) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(str(cell) for cell in cells)} |"
