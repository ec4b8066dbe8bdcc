"""The run ledger: which run of a job began from which snapshot, with what configuration and code.

It is kept beside the snapshots, in ``LEDGER`` under Flink's savepoint folder, one small JSON file an event, so
that any machine that sees the snapshots can go on. Files are only added:

- ``000001-run-JOBID.json``, written before Flink is asked to start a job: a :class:`Run`.
- ``000001-stopped-JOBID.json``, when a job has stopped with a savepoint, and all that it wrote is committed.
- ``000001-moved-JOBID.json``, when its savepoint was brought here from a backup: a :class:`Moved`.
- ``code-HASH.zip``, the code of a run, so that an upgrade can go back to it.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

from surecount.config import Kafka, Pathway, Pipeline, parse
from surecount.errors import SurecountError
from surecount.ops.storage import Folder

VERSION = 1
LEDGER = "surecount-ledger"

_FILE = re.compile(r"(\d{6})-(run|stopped|moved)-([0-9a-f]{32})\.json")


@dataclass(frozen=True)
class Moved:
    """A savepoint, by the name of its folder, was brought here from a backup; ``offsets`` are those of the topics here
    that are to be read next from it, as topic, partition, offset."""

    savepoint: str
    offsets: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Run:
    """One run of a job.

    ``snapshot`` is the path that it began from, ``offsets`` are what that reads next, as topic, partition, offset, and
    ``accepted`` are the codes of refusals gone against for it. ``topic_ids`` are the brokers' ids of the topics that it
    reads, by name, where they could be told. ``generation`` counts how often the topics were brought back from a backup
    before it. ``stopped_with`` is the path of the savepoint that it was stopped with, once it has ended; ``moved`` is
    there where that was brought here from a backup.
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
    generation: int = 0
    stopped_with: str | None = None
    moved: Moved | None = None
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
        self._folder = savepoints.folder(LEDGER).folder(f"{pipeline.name}.{job}")

    def runs(self) -> list[Run]:
        """All runs, the oldest first. Raises SurecountError where a file cannot be understood."""
        found: dict[str, dict[str, dict[str, Any]]] = {"run": {}, "stopped": {}, "moved": {}}
        for name in self._folder.files():
            if match := _FILE.fullmatch(name):
                found[match[2]][match[3]] = self._read(name)
        try:
            runs = [
                _run(content, found["stopped"].get(job_id), found["moved"].get(job_id))
                for job_id, content in found["run"].items()
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise SurecountError(f"{self._folder.uri}: not a ledger that this version knows: {error}") from error
        return sorted(runs, key=lambda run: (run.number, run.started_ms))

    def add(self, run: Run) -> None:
        """Write a run down, before it begins."""
        self._write(f"{run.number:06}-run-{run.job_id}.json", asdict(run))

    def stopped(self, run: Run, snapshot: str) -> None:
        """Write down that a run has stopped with a savepoint, and has nothing left to commit."""
        content = {"version": VERSION, "at_ms": now_ms(), "snapshot": snapshot}
        self._write(f"{run.number:06}-stopped-{run.job_id}.json", content)

    def moved(self, run: Run, moved: Moved) -> None:
        """Write down that the savepoint that a run was stopped with was brought here from a backup."""
        content = {"version": VERSION, "at_ms": now_ms(), **asdict(moved)}
        self._write(f"{run.number:06}-moved-{run.job_id}.json", content)

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

    def _write(self, name: str, content: dict[str, Any]) -> None:
        self._folder.write(name, json.dumps(content, indent=2, sort_keys=True).encode() + b"\n")


def _clients(clients: Kafka | Pathway) -> dict[str, Any]:
    security = clients.security
    return {"properties": clients.properties, "security": None if security is None else security.model_dump()}


def _run(content: dict[str, Any], stopped: dict[str, Any] | None, moved: dict[str, Any] | None) -> Run:
    return Run(
        **{
            **content,
            "offsets": _offsets(content),
            "accepted": tuple(content["accepted"]),
            "stopped_with": stopped["snapshot"] if stopped else None,
            "moved": Moved(moved["savepoint"], _offsets(moved)) if moved else None,
        }
    )


def _offsets(content: dict[str, Any]) -> tuple[tuple[str, int, int], ...]:
    return tuple((topic, partition, offset) for topic, partition, offset in content["offsets"])


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
