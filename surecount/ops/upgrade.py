"""Upgrading a pipeline's jobs to its file and the code of now, and back where the new version does not come up."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops.code import check_decode, hash_of_code, package
from surecount.ops.flink import RUNNING_STATES, Flink, Job
from surecount.ops.launch import UnsettledError
from surecount.ops.ledger import Run, TakenError
from surecount.ops.life import Life, told
from surecount.ops.steps import OnStep, Step, unheard
from surecount.ops.submit import job_name, versions
from surecount.ops.upgrade_plan import Downtime, Plan, plan
from surecount.waiting import wait_until

_CHECKPOINTS = 2
_CANCEL_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Upgrade:
    """An upgrade of a pipeline's jobs on a cluster. ``on_step`` hears what is being done."""

    pipeline: Pipeline
    file: Path
    flink: Flink
    environment: dict[str, str]
    on_step: OnStep = unheard

    def plans(self, jobs: Sequence[str], parallelism: int | None = None) -> list[Plan]:
        """What would change in each job. Raises SurecountError where a job that has runs does not run."""
        life = self._life()
        running = life.running(jobs)
        with TemporaryDirectory(prefix="surecount-upgrade-") as folder:
            check_decode(self.file, self.pipeline)
            package(Path(folder), self.file, self.pipeline.source.decode)
            code_hash = hash_of_code(Path(folder))
        found = []
        for job in jobs:
            runs = life.ledger(job).runs()
            if runs and job not in running:
                raise SurecountError(
                    f"{job_name(self.pipeline, job)} does not run",
                    "`surecount start` starts it with the pipeline file and the code of now",
                    exit_code=1,
                )
            run = next((run for run in runs if run.job_id == running[job].id), None) if job in running else None
            if run is None and job in running:
                raise SurecountError(f"the ledger does not know job {running[job].id}", "it was not started here")
            downtime = self._downtime(running[job], run) if run else None
            now = versions(self.environment)
            found.append(plan(self.pipeline, job, run, code_hash, now, parallelism, downtime, runs))
        return found

    def run(
        self,
        plans: Sequence[Plan],
        *,
        within_s: float,
        parallelism: int | None = None,
        accepted: Collection[str] = (),
    ) -> dict[str, str]:
        """Upgrade each job that changes; ids by job.

        A new version has ``within_s`` seconds, once it runs, to complete two checkpoints without a restart: the first
        may be taken before it has met a record. One that does not is cancelled, and the old one goes on from the newest
        snapshot; then, as where something is refused, SurecountError says what runs.
        """
        ids: dict[str, str] = {}
        for one in plans:
            if one.run is None:
                ids |= self._life().start([one.job], parallelism=parallelism)
            elif one.changes:
                ids[one.job] = self._upgrade(one.job, one.run, within_s, parallelism, accepted)
        return ids

    def _upgrade(self, job: str, old: Run, within_s: float, parallelism: int | None, accepted: Collection[str]) -> str:
        life, name = self._life(), job_name(self.pipeline, job)
        path = life.stop([job])[job]
        try:
            with told(f"{name} was stopped with savepoint {path}"):
                ids = life.start([job], snapshot=path, parallelism=parallelism, accepted=accepted)
            if job not in ids:
                raise TakenError(f"another command has started {name}")
            new = ids[job]
            self._await_checkpoints(job, new, within_s)
        except (TakenError, UnsettledError):
            raise  # what runs now, or may, is another command's, or the new version
        except (SurecountError, KeyboardInterrupt) as error:
            why = error.message if isinstance(error, SurecountError) else "interrupted"
            raise SurecountError(f"{why}\n{self._go_back(job, old)}", exit_code=1) from error
        return new

    def _await_checkpoints(self, job: str, job_id: str, within_s: float) -> None:
        name = job_name(self.pipeline, job)
        self.on_step(Step.WATCHING.of(name))

        def completed() -> bool:
            counts = self.flink.checkpoints(job_id)["counts"]
            if (state := self.flink.state(job_id)) in ("CANCELED", "FINISHED"):
                raise TakenError(f"another command has stopped the new version of {name}, which is {state}")
            if state not in RUNNING_STATES or counts["restored"] > 1:
                raise SurecountError(f"the new version of {name} fails: {self.flink.cause(job_id)}")
            return int(counts["completed"]) >= _CHECKPOINTS

        wait_until(completed, within_s, f"{_CHECKPOINTS} checkpoints of the new {name}", poll_s=0.3)

    def _go_back(self, job: str, old: Run) -> str:
        """Start the old version again; says what runs now."""
        name = job_name(self.pipeline, job)
        self.on_step(Step.GOING_BACK.of(name))
        life = self._life()
        running = life.running([job]).get(job)
        # Never what another command has started since.
        if running is not None and running.id == life.ledger(job).job_id(old.number + 1):
            self.flink.cancel(running.id)
            ended = ("FINISHED", "FAILED", "CANCELED")
            wait_until(lambda: self.flink.state(running.id) in ended, _CANCEL_TIMEOUT_S, f"{name} to be cancelled")
        before = Life(
            old.pipeline(self.pipeline), self.file, self.flink, self.environment, self.on_step,
            code=life.ledger(job).code(old.code_hash),
        )  # fmt: skip
        # From the new version's own checkpoint, if it came to one: what it wrote up to there is committed.
        try:
            again = before.start([job], parallelism=old.parallelism)
        except SurecountError as error:
            return f"{name} does not run, since it cannot go back either: {error.message}"
        if job not in again:
            return f"another command has started {name} meanwhile"
        return f"{name} runs again as it did in run {old.number}, as job {again[job]}"

    def _downtime(self, running: Job, run: Run) -> Downtime:
        latest = self.flink.checkpoints(running.id)["latest"]["completed"]
        began = max(vertex["start-time"] for vertex in self.flink.vertices(running.id))
        checkpoint_ms = latest["end_to_end_duration"] if latest else 0
        return Downtime(checkpoint_ms / 1000, max(0, began - run.started_ms) / 1000)

    def _life(self) -> Life:
        return Life(self.pipeline, self.file, self.flink, self.environment, self.on_step)


def refused(plans: Sequence[Plan], pipeline: Pipeline) -> None:
    """Raise SurecountError with every change that a job's state does not allow."""
    lines = [f"{job_name(pipeline, one.job)}: {refusal}" for one in plans for refusal in one.refusals]
    if lines:
        raise SurecountError("\n".join(lines), exit_code=1)


def as_json(plans: Sequence[Plan], ids: Mapping[str, str]) -> list[dict[str, object]]:
    """Plans, with the ids of the jobs that were started."""
    return [{**one.to_dict(), "started": ids.get(one.job)} for one in plans]
