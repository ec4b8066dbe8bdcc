"""What an upgrade of a job changes: the run that goes on against the pipeline file and the code of now. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from surecount.config import Pipeline, format_duration
from surecount.ops.ledger import Run, config_of
from surecount.ops.restore_rules import Refusal, names_again, refused_changes


@dataclass(frozen=True)
class Downtime:
    """How long the last checkpoint and the last start of a job took, in seconds: about what its savepoint and its next
    start will take."""

    checkpoint_s: float
    start_s: float

    @property
    def total_s(self) -> float:
        """Both together."""
        return self.checkpoint_s + self.start_s


@dataclass(frozen=True)
class Plan:
    """The plan for one job. ``run`` is what runs, or None where the job is new; ``changes`` are lines for people, none
    where the job stays as it is; ``refusals`` are changes that its state does not allow."""

    job: str
    run: Run | None
    changes: tuple[str, ...]
    refusals: tuple[Refusal, ...] = ()
    downtime: Downtime | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "job": self.job,
            "run": self.run.number if self.run else None,
            "changes": list(self.changes),
            "refusals": [asdict(refusal) for refusal in self.refusals],
            "downtime_s": round(self.downtime.total_s, 1) if self.downtime else None,
        }


def plan(
    pipeline: Pipeline,
    job: str,
    run: Run | None,
    code_hash: str,
    versions: Mapping[str, str],
    parallelism: int | None = None,
    downtime: Downtime | None = None,
    runs: Sequence[Run] = (),
) -> Plan:
    """The plan for a job that goes on from ``run``, one of its ``runs``; ``parallelism`` is that of the run where it is
    not given."""
    if run is None:
        return Plan(job, None, ("the job is new",))
    was = run.pipeline()
    changes = (
        *_aggregates(was, pipeline),
        *_settings(config_of(was), config_of(pipeline)),
        *_code(run, code_hash, versions),
        *_parallelism(run, parallelism),
    )
    refusals = (*refused_changes(was, pipeline, job), *names_again(pipeline, job, run, runs))
    return Plan(job, run, changes, refusals, downtime)


def _aggregates(was: Pipeline, now: Pipeline) -> Iterator[str]:
    before, after = was.spec().by_name, now.spec().by_name
    if before == after:
        return
    for name in {**before, **after}:
        if name not in after:
            yield f"aggregate {name!r} ends: windows that are open then never close"
        elif name not in before:
            yield f"aggregate {name!r} begins, with the records after the savepoint"
        elif before[name].window_ms != after[name].window_ms:
            windows = f"{format_duration(before[name].window_ms)} → {format_duration(after[name].window_ms)}"
            yield f"aggregate {name!r}: window {windows}; windows that are open keep their bounds"
        elif before[name] == after[name]:
            yield f"aggregate {name!r} is kept"


def _settings(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    before, after = dict(_flat(was)), dict(_flat(now))
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield f"{name}: {_text(before.get(name))} → {_text(after.get(name))}"


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if name == "aggregate" and not prefix:
            continue
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _text(value: Any) -> str:
    return "not set" if value is None else str(value)


def _code(run: Run, code_hash: str, versions: Mapping[str, str]) -> Iterator[str]:
    if run.code_hash != code_hash:
        yield f"code: {run.code_hash} → {code_hash}"
    for name in sorted({*run.versions, *versions} - {"jars"}):
        if run.versions.get(name) != versions.get(name):
            yield f"{name}: {_text(run.versions.get(name))} → {_text(versions.get(name))}"
    before, after = (set(found.get("jars", "").split()) for found in (run.versions, versions))
    yield from (f"jar {name} is taken out" for name in sorted(before - after))
    yield from (f"jar {name} is added" for name in sorted(after - before))


def _parallelism(run: Run, parallelism: int | None) -> Iterator[str]:
    if parallelism is not None and parallelism != run.parallelism:
        yield f"parallelism: {run.parallelism} → {parallelism}"
