"""The same work on surecount and on what one would pick instead, in turns, each answer held against the truth."""

from __future__ import annotations

import json
import platform
import shutil
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from statistics import median

import psutil
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from benchmarks.events import RESULTS_TOPIC, Events, Results, fill
from benchmarks.peers.catalog import PEERS
from benchmarks.peers.peer import About, Peer, Running
from benchmarks.peers.work import Work
from benchmarks.sampling import Usage
from benchmarks.stage import PARTITIONS, Stage, stage
from surecount import topics
from surecount.audit.pacing import Place
from surecount.audit.reader import TopicReader
from surecount.config import Kafka
from surecount.console import err, out
from surecount.errors import SurecountError

_POLL_S = 0.1
_CHECK_S = 1.0


@dataclass(frozen=True)
class Case:
    """What is varied. ``sizes`` are numbers of events, from the smallest: a program goes on to the next as long as that
    can be expected within the limit, and its figures come from the last two."""

    name: str
    events: Events
    sizes: tuple[int, ...]
    slots: int = 1
    event_time: str = "field"

    @property
    def needs(self) -> set[str]:
        """What a program has to support, as :class:`About` names it."""
        varied = {"slots": self.slots > 1, "event_time": self.event_time != "field"}
        return {name for name, is_so in {**varied, "aggregates": self.events.aggregates > 1}.items() if is_so}


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


@dataclass(frozen=True)
class Run:
    """One run: whole elapsed seconds from the start to the last result readable, CPU seconds and peak memory of all its
    processes. ``wrong`` says what is wrong with its results, and it has no times then."""

    case: str
    peer: str
    count: int
    elapsed_s: float | None
    cpu_s: float
    peak_bytes: int
    wrong: str


def run(cases: Sequence[str], only: Sequence[str], rounds: int, limit_s: float, quick: bool, to: Path) -> None:
    """Print each run as it ends, and then a table, which is kept in the folder ``to`` with all runs as JSON.

    ``quick`` takes the two smallest sizes only. Raises SurecountError that names a case or program there is not.
    """
    for given, known in ((only, list(PEERS)), (cases, list(CASES))):
        if unknown := [name for name in given if name not in known]:
            raise SurecountError(f"{unknown[0]}: there is none", f"there are {', '.join(known)}")
    names = list(only or PEERS)
    runs: list[Run] = []
    abouts: dict[str, About] = {}
    for case in (CASES[name] for name in cases):
        with stage(slots=case.slots) as on:
            peers = {name: PEERS[name](on) for name in names}
            for name, peer in peers.items():
                with err.status(f"preparing {name}"):
                    peer.prepare()
                abouts[name] = peer.about
            able = {name: peer for name, peer in peers.items() if case.needs <= peer.about.supports}
            runs += _Driver(on, case, limit_s).compare(able, case.sizes[:2] if quick else case.sizes, rounds)
    page = f"{machine()}\n\n{table(runs, abouts)}"
    to.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    to.joinpath(f"{stamp}.json").write_text(json.dumps([asdict(one) for one in runs], indent=1) + "\n")
    to.joinpath(f"{stamp}.md").write_text(page)
    out.print(page, highlight=False, soft_wrap=True, markup=False)
    out.print(f"kept in {to / stamp}.md and .json", highlight=False, soft_wrap=True)


def machine() -> str:
    """What it was measured on, a line."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


class _Driver:
    """Runs peers of one case on a stage; topics of events are filled once each."""

    def __init__(self, on: Stage, case: Case, limit_s: float) -> None:
        self._on, self._case, self._limit_s = on, case, limit_s
        self._kafka = Kafka(bootstrap_servers=on.stack.bootstrap_servers)
        self._admin = AdminClient({"bootstrap.servers": on.stack.bootstrap_servers})
        self._filled: dict[tuple[int, bool], tuple[str, int]] = {}

    def compare(self, peers: Mapping[str, Peer], sizes: Sequence[int], rounds: int) -> list[Run]:
        """All rounds of these peers, in turns, and what failed on the way."""
        found: list[Run] = []
        chosen: dict[str, Sequence[int]] = {}
        for name, peer in peers.items():
            done: list[int] = []
            for size, larger in zip_longest(sizes, sizes[1:]):
                ran = self._run(name, peer, size)
                out.print(f"to begin with: {_line(ran)}", highlight=False, soft_wrap=True)
                if ran.elapsed_s is None:
                    found.append(ran)
                    break
                done.append(size)
                # Most of the time of a small run is its start.
                if larger and ran.elapsed_s * larger / size / 3 > self._limit_s:
                    break
            chosen[name] = done[-2:]
        for number in range(rounds):
            for name, peer in peers.items():
                for size in chosen[name]:
                    found.append(self._run(name, peer, size))
                    out.print(f"round {number + 1}: {_line(found[-1])}", highlight=False, soft_wrap=True)
        return found

    def _run(self, name: str, peer: Peer, count: int) -> Run:
        """One run; what it leaves is removed."""
        events = replace(self._case.events, count=count)
        source, start_ms = self._source(events, sentinel_per_key=peer.sentinel_per_key)
        results = f"results-{uuid.uuid4().hex[:8]}"
        self._admin.create_topics([NewTopic(results, PARTITIONS, config=RESULTS_TOPIC)])[results].result(timeout=10)
        folder = self._on.folder / results
        folder.mkdir()
        work = Work(
            self._kafka.bootstrap_servers, source, results, folder, slots=self._case.slots, window_ms=events.window_ms,
            event_time=self._case.event_time, aggregates=events.aggregates,
        )  # fmt: skip
        try:
            with err.status(f"{self._case.name}: {name}, {count:,} events"):
                return self._measured(name, peer, work, Results(events, start_ms), count)
        except SurecountError as error:
            return Run(self._case.name, name, count, None, 0.0, 0, error.message.splitlines()[0])
        finally:
            there = topics.Admin(self._kafka).metadata().topics
            self._on.delete([results, *(topic for topic in peer.leftovers(work) if topic in there)])
            shutil.rmtree(folder)

    def _source(self, events: Events, *, sentinel_per_key: bool) -> tuple[str, int]:
        wanted = events.count, sentinel_per_key
        if wanted not in self._filled:
            topic = f"events-{self._case.name}-{events.count}{'-each' if sentinel_per_key else ''}"
            with err.status(f"generating {events.count:,} events"):
                servers = self._kafka.bootstrap_servers
                start_ms = fill(servers, topic, PARTITIONS, events, sentinel_per_key=sentinel_per_key)
            self._filled[wanted] = topic, start_ms
        return self._filled[wanted]

    def _measured(self, name: str, peer: Peer, work: Work, results: Results, count: int) -> Run:
        began = time.monotonic()
        with _started(peer, work) as running, Usage(running.processes) as usage:
            elapsed_s, wrong = self._watch(peer, running, work, results, began)
        seconds = None if wrong else elapsed_s
        return Run(self._case.name, name, count, seconds, usage.cpu_s, usage.peak_bytes, wrong)

    def _watch(self, peer: Peer, running: Running, work: Work, results: Results, began: float) -> tuple[float, str]:
        """Wait until all results are there; the seconds until the last of them was readable, and what is wrong.

        While it runs only offsets are asked for: reading results would take the cores that it runs on.
        """
        places = [TopicPartition(work.results, partition) for partition in range(PARTITIONS)]
        admin = topics.Admin(self._kafka)
        seen: list[tuple[float, dict[Place, int]]] = []
        needed: dict[Place, int] = {}
        read: dict[Place, int] = dict.fromkeys(((work.results, p) for p in range(PARTITIONS)), 0)
        checked = changed = began
        quiet_s = work.checkpoint_ms / 1000 + 1
        while True:
            now = time.monotonic()
            stable = admin.offsets(places, OffsetSpec.latest(), committed=True)  # type: ignore[no-untyped-call]
            if not seen or seen[-1][1] != stable:
                seen.append((now, stable))
                changed = now
            late = now - began > self._limit_s
            enough = sum(stable.values()) - sum(read.values()) >= results.missing and now - changed > quiet_s
            if late or enough:
                self._read(peer, read, stable, results, needed)
                if not results.missing or late:
                    break
            if now - checked > _CHECK_S:
                running.check()
                checked = now
            time.sleep(_POLL_S)
        wrong = results.wrong()
        if results.missing:
            return 0.0, f"{wrong} after {self._limit_s:g} s"
        at = next(at for at, stable in seen if all(stable[place] > offset for place, offset in needed.items()))
        return at - began, wrong

    def _read(
        self,
        peer: Peer,
        read: dict[Place, int],
        stable: Mapping[Place, int],
        results: Results,
        needed: dict[Place, int],
    ) -> None:
        """Read results from where the last time ended; ``needed`` are the offsets of the last that were missing."""
        ranges = {place: (first, stable[place]) for place, first in read.items() if stable[place] > first}
        with TopicReader(self._kafka, ranges, spread_ms=1 << 60, timeout_s=60) as reader:
            while not reader.done:
                for found in reader.poll():
                    for message in found.messages:
                        missing = results.missing
                        results.add(*peer.parse(message.value() or b""))
                        if results.missing < missing:
                            needed[found.place] = message.offset() or 0
        read.update(stable)


@contextmanager
def _started(peer: Peer, work: Work) -> Iterator[Running]:
    running = peer.start(work)
    try:
        yield running
    finally:
        running.stop()


def table(runs: Sequence[Run], abouts: Mapping[str, About]) -> str:
    """By case and program, in Markdown: medians at its largest size; slopes between its two sizes, which leave start-up
    out; and ratios to surecount of the same size."""
    rows: dict[tuple[str, str], dict[int, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for one in runs:
        rows[one.case, one.peer][one.count].append(one)
    head = (
        "case", "program", "guarantee", "events", "elapsed s", "× surecount", "events/s", "CPU s per 1,000,000",
        "peak MB", "answers",
    )  # fmt: skip
    lines = [_row(head), _row(["---"] * len(head))]
    for (case, peer), by_size in rows.items():
        right = sorted(size for size, found in by_size.items() if not any(one.wrong for one in found))
        answers = "; ".join(
            [
                *(["exact"] if right else []),
                *(f"{size:,} events: {one.wrong}" for size in sorted(by_size) for one in by_size[size] if one.wrong),
            ]
        )
        if not right:
            lines.append(_row([case, peer, abouts[peer].guarantee, *["–"] * 6, answers]))
            continue
        first, last = right[0], right[-1]
        elapsed = {size: median(one.elapsed_s or 0.0 for one in by_size[size]) for size in right}
        cpu = {size: median(one.cpu_s for one in by_size[size]) for size in right}
        ours = [one.elapsed_s or 0.0 for one in rows[case, "surecount"].get(last, [])]
        figures = [
            f"{last:,}",
            f"{elapsed[last]:.1f}",
            f"{elapsed[last] / median(ours):.2f}" if ours else "–",
            f"{(last - first) / (elapsed[last] - elapsed[first]):,.0f}" if last > first else "–",
            f"{(cpu[last] - cpu[first]) / (last - first) * 1e6:.1f}" if last > first else "–",
            f"{max(one.peak_bytes for one in by_size[last]) / 1e6:,.0f}",
        ]
        lines.append(_row([case, peer, abouts[peer].guarantee, *figures, answers]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _line(one: Run) -> str:
    took = one.wrong if one.elapsed_s is None else f"{one.elapsed_s:.1f} s"
    return f"{one.case} {one.peer} {one.count:,}: {took}; {one.cpu_s:.1f} CPU s, {one.peak_bytes / 1e6:,.0f} MB"
