"""The run ledger: which run of a job began from which snapshot, with what configuration and code.

It is kept beside the snapshots, in ``LEDGER`` under Flink's savepoint folder, one small JSON file an event, so
that any machine that sees the snapshots can go on. Files are only added, and each is created exclusively:

- ``ledger.json``, before the first run: what this ledger is called. A job's id follows from that and the run's number.
- ``000001-run-JOBID.json``, written before Flink is asked to start a job: a :class:`Run`.
- ``000001-refused-JOBID.json``, when Flink has refused it.
- ``000001-stopped-JOBID.json``, when a job has stopped with a savepoint, and all that it wrote is committed.
- ``000001-lost-JOBID-RESTARTS-COMMITS.json``, when a command sees that commits of the run have failed: a :class:`Lost`.
- ``settled-MS.json``, when it is accepted that those commits have been lost.
- ``000001-moved-JOBID.json``, when its savepoint was brought here from a backup: a :class:`Moved`.
- ``recovery.json`` and ``recovered.json``, when a recovery from a backup begins and has brought all files.
- ``code-HASH.zip``, the code of a run, so that an upgrade can go back to it.

Two who start the same run write the same file name and ask Flink for the same job id: one of them is refused here, and
where a file system lets both pass, by Flink.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields
from typing import Any
from uuid import uuid4

from surecount.config import Kafka, Pathway, Pipeline, parse
from surecount.errors import SurecountError
from surecount.ops.storage import Folder

VERSION = 1
LEDGER = "surecount-ledger"

_FILE = re.compile(r"(\d{6})-(run|refused|stopped|moved)-([0-9a-f]{32})\.json")
_LOST = re.compile(r"\d{6}-lost-[0-9a-f]{32}-\d+-\d+\.json")
_SETTLED = re.compile(r"settled-\d+\.json")
_IDENTITY, _RECOVERY, _RECOVERED = "ledger.json", "recovery.json", "recovered.json"
_SEE_JOBS = "see `surecount jobs`, then run the command again"


class TakenError(SurecountError):
    """Another command was first. Nothing of this one's doing is left to be taken back."""

    def __init__(self, message: str, hint: str = _SEE_JOBS) -> None:
        super().__init__(message, hint, exit_code=1)


@dataclass(frozen=True)
class Moved:
    """A savepoint, by the name of its folder, was brought here from a backup; ``offsets`` are those of the topics here
    that are to be read next from it, as topic, partition, offset."""

    savepoint: str
    offsets: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Lost:
    """Commits of a run that failed, by sink, as they were counted after its job had restarted so many times."""

    number: int
    job_id: str
    restarts: int
    commits: dict[str, int]
    at_ms: int


@dataclass(frozen=True)
class Run:
    """One run of a job.

    ``snapshot`` is the path that it began from, ``offsets`` are what that reads next, as topic, partition, offset, and
    ``accepted`` are the codes of refusals gone against for it. ``topic_ids`` are the brokers' ids of the topics that it
    reads, by name, where they could be told, and ``output_ids`` those of the topics that it writes. ``begins`` are the
    first offsets of the former then, as topic, partition, offset: what is between ``offsets`` and these it could not
    read. ``generation`` counts how often the topics were brought back from a backup before it. ``stopped_with`` is the
    path of the savepoint that it was stopped with, once it has ended, and ``stopped_ms`` when that was; ``moved`` is
    there where that was brought here from a backup; ``refused`` is why Flink did not take it.
    """

    number: int
    job_id: str
    started_ms: int
    snapshot: str | None
    parallelism: int
    bounded: bool
    config: dict[str, Any]
    config_hash: str
    code_hash: str
    versions: dict[str, str]
    transactional_id_prefix: str
    offsets: tuple[tuple[str, int, int], ...] = ()
    accepted: tuple[str, ...] = ()
    topic_ids: dict[str, str] = field(default_factory=dict)
    output_ids: dict[str, str] = field(default_factory=dict)
    begins: tuple[tuple[str, int, int], ...] = ()
    generation: int = 0
    stopped_with: str | None = None
    stopped_ms: int | None = None
    moved: Moved | None = None
    refused: str | None = None
    version: int = field(default=VERSION, repr=False)

    def pipeline(self, present: Pipeline | None = None) -> Pipeline:
        """The pipeline that it ran, with the ``properties`` and ``security`` of ``present``: the ledger keeps none of
        the former, which may be secret, and files of the latter may have moved.

        Raises SurecountError where this version knows such settings no more.
        """
        config = deepcopy(self.config)
        if present is not None:
            config["kafka"] |= _clients(present.kafka)
            found = {pathway.name: _clients(pathway) for pathway in present.source.pathway}
            for pathway in config["source"]["pathway"]:
                pathway |= found.get(pathway["name"], {})
        return parse(config, f"the ledger's run {self.number}")


class Ledger:
    """The ledger of one job of a pipeline, below a savepoint folder."""

    def __init__(self, savepoints: Folder, pipeline: Pipeline, job: str) -> None:
        self._open(savepoints, f"{pipeline.name}.{job}")

    def _open(self, savepoints: Folder, name: str) -> None:
        self._name = name
        self._folder = savepoints.folder(LEDGER).folder(name)

    @classmethod
    def named(cls, savepoints: Folder, name: str) -> Ledger:
        """That of a job by its name in Flink, where its pipeline is not at hand."""
        found = cls.__new__(cls)
        found._open(savepoints, name)
        return found

    def runs(self) -> list[Run]:
        """All runs, the oldest first. Raises SurecountError where a file cannot be understood, and in the middle of a
        recovery."""
        names = self._folder.files()
        if _RECOVERY in names and _RECOVERED not in names:
            backup = self._read(_RECOVERY)["backup"]
            raise SurecountError(
                f"{self._folder.uri}: a recovery from {backup} has not brought all files yet",
                f"wait for it, or where it was killed run `surecount recover {backup} PIPELINE` again",
                exit_code=1,
            )
        return self._runs(names)

    def _runs(self, names: Sequence[str]) -> list[Run]:
        found: dict[str, dict[str, dict[str, Any]]] = {"run": {}, "refused": {}, "stopped": {}, "moved": {}}
        for name in names:
            if match := _FILE.fullmatch(name):
                found[match[2]][match[3]] = self._read(name)
        events = {kind: by_job for kind, by_job in found.items() if kind != "run"}
        try:
            runs = [
                _run(content, {kind: by_job.get(job_id) for kind, by_job in events.items()})
                for job_id, content in found["run"].items()
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise SurecountError(f"{self._folder.uri}: not a ledger that this version knows: {error}") from error
        return sorted(runs, key=lambda run: (run.number, run.started_ms))

    def job_id(self, number: int) -> str:
        """The id of the job that a run of that number is, as 32 hexadecimal digits: the same for all who ask."""
        if not self._folder.has(_IDENTITY):
            self._create(_IDENTITY, {"version": VERSION, "id": uuid4().hex})
        identity = self._read(_IDENTITY)["id"]
        return hashlib.sha256(f"{identity} {self._name} {number}".encode()).hexdigest()[:32]

    def add(self, run: Run) -> None:
        """Write a run down, before it begins. Raises TakenError where another command has written one of that number
        down."""
        # Names of runs by earlier versions do not follow from their numbers.
        taken = any(name.startswith(f"{run.number:06}-run-") for name in self._folder.files())
        if taken or not self._create(_file(run, "run"), asdict(run)):
            raise TakenError(f"another command is starting run {run.number} of {self._name}")

    def refused(self, run: Run, why: str) -> None:
        """Write down that Flink has refused a run: it has not begun, and never will."""
        self._create(_file(run, "refused"), {"version": VERSION, "at_ms": now_ms(), "why": why})

    def stopped(self, run: Run, snapshot: str) -> None:
        """Write down that a run has stopped with a savepoint, and has nothing left to commit. Raises TakenError where
        another command has stopped it with another one."""
        content = {"version": VERSION, "at_ms": now_ms(), "snapshot": snapshot}
        self._agree(_file(run, "stopped"), content, f"{self._name} was stopped by another command")

    def moved(self, run: Run, moved: Moved) -> None:
        """Write down that the savepoint that a run was stopped with was brought here from a backup. Raises TakenError
        where another recovery found other offsets."""
        content = {"version": VERSION, "at_ms": now_ms(), **asdict(moved)}
        self._agree(_file(run, "moved"), content, f"another recovery has brought {self._name} here")

    def note_lost(self, run: Run, restarts: int, commits: Mapping[str, int]) -> None:
        """Write down that commits of a run have failed. Flink forgets it when the job restarts."""
        if not any(commits.values()):
            return
        name = f"{run.number:06}-lost-{run.job_id}-{restarts}-{sum(commits.values())}.json"
        if not self._folder.has(name):
            lost = Lost(run.number, run.job_id, restarts, dict(commits), now_ms())
            self._create(name, {"version": VERSION, **asdict(lost)})

    def lost(self) -> list[Lost]:
        """Commits that have failed, of each run and between each two of its restarts, and were not settled."""
        names = self._folder.files()
        settled = {name for file in names if _SETTLED.fullmatch(file) for name in self._read(file)["lost"]}
        found: dict[tuple[str, int], Lost] = {}
        for name in names:
            if not _LOST.fullmatch(name) or name in settled:
                continue
            content = self._read(name)
            lost = Lost(**{of.name: content[of.name] for of in fields(Lost)})
            # Of a count that grew, the last.
            found[lost.job_id, lost.restarts] = max(
                lost, found.get((lost.job_id, lost.restarts), lost), key=lambda one: sum(one.commits.values())
            )
        return sorted(found.values(), key=lambda one: (one.number, one.restarts))

    def settle(self) -> None:
        """Write down that it is accepted that what was lost up to now is lost."""
        lost = [name for name in self._folder.files() if _LOST.fullmatch(name)]
        self._create(f"settled-{now_ms()}.json", {"version": VERSION, "at_ms": now_ms(), "lost": lost})

    @contextmanager
    def recovering(self, backup: str) -> Iterator[None]:
        """Bring files of a ``backup``, which is told by its URI: nobody can read runs before all are here. May be done
        again. Raises TakenError where the files of another backup have been brought here, or are being brought."""
        content = {"version": VERSION, "at_ms": now_ms(), "backup": backup}
        other = f"{self._name} is brought back from another backup"
        hint = f"where no job was started since, remove {self._folder.uri} and recover again"
        self._agree(_RECOVERY, content, other, hint)
        yield
        self._agree(_RECOVERED, content, other, hint)

    def known(self) -> set[str]:
        """The job ids of all runs, also in the middle of a recovery."""
        return {run.job_id for run in self._runs(self._folder.files())}

    def copy_events(self, to: Ledger) -> None:
        """Copy all files but those that make this ledger one of its own: runs of the other one have other job ids."""
        for name in self._folder.files():
            if name not in (_IDENTITY, _RECOVERY, _RECOVERED):
                to._folder.write(name, self._folder.read(name))

    def keep_code(self, code_hash: str, archive: bytes) -> None:
        """Keep the code of a run."""
        name = f"code-{code_hash}.zip"
        if name not in self._folder.files():
            self._folder.write(name, archive)

    def code(self, code_hash: str) -> bytes:
        """The code of a run. Raises SurecountError where it is not there."""
        return self._folder.read(f"code-{code_hash}.zip")

    def _read(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(self._folder.read(name))
        except ValueError as error:
            raise SurecountError(f"{self._folder.uri}/{name}: {error}") from error
        if content.get("version") != VERSION:
            raise SurecountError(f"{self._folder.uri}/{name}: written by another version of surecount")
        return content

    def _create(self, name: str, content: dict[str, Any]) -> bool:
        return self._folder.create(name, json.dumps(content, indent=2, sort_keys=True).encode() + b"\n")

    def _agree(self, name: str, content: dict[str, Any], other: str, hint: str = _SEE_JOBS) -> None:
        """Create a file, or find that it says the same but for the time."""
        if self._create(name, content):
            return
        wanted = {**json.loads(json.dumps(content)), "at_ms": None}
        if {**self._read(name), "at_ms": None} != wanted:
            raise TakenError(f"{other}: {self._folder.uri}/{name}", hint)


def job_ids_of_others(savepoints: Folder, ledger: Ledger) -> set[str]:
    """The job ids of all runs that other ledgers below a savepoint folder know."""
    others = (folder for folder in savepoints.folder(LEDGER).folders() if folder != ledger._folder)
    return {match[3] for folder in others for name in folder.files() if (match := _FILE.fullmatch(name))}


def _clients(clients: Kafka | Pathway) -> dict[str, Any]:
    security = clients.security
    return {"properties": clients.properties, "security": None if security is None else security.model_dump()}


def _file(run: Run, kind: str) -> str:
    return f"{run.number:06}-{kind}-{run.job_id}.json"


def _run(content: dict[str, Any], events: Mapping[str, dict[str, Any] | None]) -> Run:
    refused, stopped, moved = events["refused"], events["stopped"], events["moved"]
    return Run(
        **{
            **content,
            "offsets": _offsets(content["offsets"]),
            "begins": _offsets(content.get("begins", ())),
            "accepted": tuple(content["accepted"]),
            "stopped_with": stopped["snapshot"] if stopped else None,
            "stopped_ms": stopped["at_ms"] if stopped else None,
            "moved": Moved(moved["savepoint"], _offsets(moved["offsets"])) if moved else None,
            "refused": refused["why"] if refused else None,
        }
    )


def begun(runs: Sequence[Run]) -> list[Run]:
    """The runs that Flink has not refused."""
    return [run for run in runs if run.refused is None]


def newest(runs: Sequence[Run]) -> Run | None:
    """The run of the highest number; None where there is none. Raises SurecountError where there are two, which
    commands of versions before this one, or on a file system that creates nothing exclusively, can have made."""
    last = [run for run in runs if run.number == runs[-1].number]
    if len(last) < 2:
        return last[0] if last else None
    ids = " and ".join(run.job_id for run in last)
    raise SurecountError(
        f"the ledger has two runs of number {last[0].number}, jobs {ids}: which one to go on from is not known",
        "cancel those that run (Flink's UI, or `flink cancel ID`), choose one (`surecount snapshots PIPELINE`), and "
        f"take the other one's {last[0].number:06}-run-ID.json out of the ledger's folder; what both have written is "
        "there twice, `surecount audit` names it",
        exit_code=1,
    )


def _offsets(content: Iterable[Any]) -> tuple[tuple[str, int, int], ...]:
    return tuple((topic, partition, offset) for topic, partition, offset in content)


def config_of(pipeline: Pipeline) -> dict[str, Any]:
    """A pipeline's whole configuration, defaults included, but for what may be secret."""
    content = pipeline.model_dump(mode="json")
    content["kafka"].pop("properties", None)
    for pathway in content["source"]["pathway"]:
        pathway.pop("properties", None)
    return content


def hash_of(content: Any) -> str:
    """A short stable hash of something that can be JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def now_ms() -> int:
    """ms since 1970."""
    return time.time_ns() // 1_000_000
