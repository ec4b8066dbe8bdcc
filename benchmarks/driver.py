"""One run of a peer: the same work for each, timed from outside, its answer held against the truth."""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from benchmarks.events import RESULTS_TOPIC, Events, Results, fill
from benchmarks.peers.peer import Peer, Running
from benchmarks.peers.work import Work
from benchmarks.sampling import Usage
from benchmarks.stage import PARTITIONS, Stage
from surecount import topics
from surecount.audit.pacing import Place
from surecount.audit.reader import TopicReader
from surecount.config import Kafka
from surecount.console import err
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
    partitions: int = PARTITIONS

    @property
    def topic(self) -> str:
        """How topics of its events begin."""
        return f"events-{re.sub('[^A-Za-z0-9._-]', '-', self.name)}"

    @property
    def needs(self) -> set[str]:
        """What a program has to support, as :class:`About` names it."""
        varied = {"slots": self.slots > 1, "event_time": self.event_time != "field"}
        return {name for name, is_so in {**varied, "aggregates": self.events.aggregates > 1}.items() if is_so}


@dataclass(frozen=True)
class Run:
    """One run: seconds from the start to the last result readable (``elapsed_s``), and to it being written by the
    broker's timestamps (``written_s``), which a transaction may hide until a checkpoint; CPU seconds and peak memory of
    all its processes. ``wrong`` says what is wrong with its results, and it has no times then."""

    case: str
    peer: str
    count: int
    elapsed_s: float | None
    written_s: float | None
    cpu_s: float
    peak_bytes: int
    wrong: str

    def line(self) -> str:
        """It, for people."""
        took = self.wrong if self.elapsed_s is None else f"{self.elapsed_s:.1f} s, written after {self.written_s:.1f} s"
        return (
            f"{self.case} {self.peer} {self.count:,}: {took}; {self.cpu_s:.1f} CPU s, {self.peak_bytes / 1e6:,.0f} MB"
        )


class Driver:
    """Runs peers of one case on a stage; topics of events are filled once each. One that takes longer than ``limit_s``
    is given up."""

    def __init__(self, on: Stage, case: Case, limit_s: float) -> None:
        self._on, self._case, self.limit_s = on, case, limit_s
        self._kafka = Kafka(bootstrap_servers=on.stack.bootstrap_servers)
        self._admin = AdminClient({"bootstrap.servers": on.stack.bootstrap_servers})
        self._filled: dict[tuple[int, bool], tuple[str, int]] = {}

    def run(self, name: str, peer: Peer, count: int) -> Run:
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
            return Run(self._case.name, name, count, None, None, 0.0, 0, error.message.splitlines()[0])
        finally:
            there = topics.Admin(self._kafka).metadata().topics
            self._on.delete([results, *(topic for topic in peer.leftovers(work) if topic in there)])
            shutil.rmtree(folder)

    def _source(self, events: Events, *, sentinel_per_key: bool) -> tuple[str, int]:
        wanted = events.count, sentinel_per_key
        if wanted not in self._filled:
            topic = f"{self._case.topic}-{events.count}{'-each' if sentinel_per_key else ''}"
            with err.status(f"generating {events.count:,} events"):
                servers = self._kafka.bootstrap_servers
                start_ms = fill(servers, topic, self._case.partitions, events, sentinel_per_key=sentinel_per_key)
            self._filled[wanted] = topic, start_ms
        return self._filled[wanted]

    def _measured(self, name: str, peer: Peer, work: Work, results: Results, count: int) -> Run:
        began = time.monotonic()
        with _started(peer, work) as running, Usage(running.processes) as usage:
            readable_s, written_s, wrong = self._watch(peer, running, work, results, began)
        if wrong:
            return Run(self._case.name, name, count, None, None, usage.cpu_s, usage.peak_bytes, wrong)
        return Run(self._case.name, name, count, readable_s, written_s, usage.cpu_s, usage.peak_bytes, wrong)

    def _watch(
        self, peer: Peer, running: Running, work: Work, results: Results, began: float
    ) -> tuple[float, float, str]:
        """Wait until all results are there; the seconds until the last of them was readable, and until it was written,
        and what is wrong.

        While it runs only offsets are asked for: reading results would take the cores that it runs on.
        """
        places = [TopicPartition(work.results, partition) for partition in range(PARTITIONS)]
        admin = topics.Admin(self._kafka)
        seen: list[tuple[float, dict[Place, int]]] = []
        needed: dict[Place, tuple[int, int]] = {}
        read: dict[Place, int] = dict.fromkeys(((work.results, p) for p in range(PARTITIONS)), 0)
        checked = changed = began
        quiet_s = work.checkpoint_ms / 1000 + 1
        while True:
            now = time.monotonic()
            stable = admin.offsets(places, OffsetSpec.latest(), committed=True)  # type: ignore[no-untyped-call]
            if not seen or seen[-1][1] != stable:
                seen.append((now, stable))
                changed = now
            late = now - began > self.limit_s
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
            return 0.0, 0.0, f"{wrong} after {self.limit_s:g} s"
        at = next(at for at, stable in seen if all(stable[place] > offset for place, (offset, _) in needed.items()))
        written_ago_s = time.time() - max(written_ms for _, written_ms in needed.values()) / 1000
        return at - began, time.monotonic() - written_ago_s - began, wrong

    def _read(
        self,
        peer: Peer,
        read: dict[Place, int],
        stable: Mapping[Place, int],
        results: Results,
        needed: dict[Place, tuple[int, int]],
    ) -> None:
        """Read results from where the last time ended; ``needed`` are the offsets of the last that were missing, and
        when the broker wrote them, in ms since 1970."""
        ranges = {place: (first, stable[place]) for place, first in read.items() if stable[place] > first}
        with TopicReader(self._kafka, ranges, spread_ms=1 << 60, timeout_s=60) as reader:
            while not reader.done:
                for found in reader.poll():
                    for message in found.messages:
                        missing = results.missing
                        results.add(*peer.parse(message.value() or b""))
                        if results.missing < missing:
                            needed[found.place] = message.offset() or 0, message.timestamp()[1]
        read.update(stable)


@contextmanager
def _started(peer: Peer, work: Work) -> Iterator[Running]:
    running = peer.start(work)
    try:
        yield running
    finally:
        running.stop()
