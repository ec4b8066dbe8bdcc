"""The life of a pipeline's jobs after their first start: savepoint, stop, start again, rescale."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops.bounded import wait_until_running
from surecount.ops.flink import Flink, Job
from surecount.ops.ledger import Ledger, Run, newest
from surecount.ops.metrics import note_failed_commits
from surecount.ops.restore import LATEST
from surecount.ops.snapshots import Folders, Snapshot, latest, read
from surecount.ops.steps import OnStep, Step, unheard
from surecount.ops.submit import confirm, job_name, submit
from surecount.waiting import wait_until

_END_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Listed:
    """The snapshots of a job, the oldest first; the one to go on from; its runs."""

    job: str
    runs: list[Run]
    snapshots: list[Snapshot]
    newest: Snapshot | None


class Life:
    """A pipeline's jobs on a cluster. ``on_step`` hears what is being done; ``code`` is that of an earlier run, to be
    started in place of that of now.

    Raises SurecountError that says which jobs are stopped, where it ends half way.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        file: Path,
        flink: Flink,
        environment: dict[str, str],
        on_step: OnStep = unheard,
        code: bytes | None = None,
    ) -> None:
        self._pipeline, self._file, self._flink, self._environment = pipeline, file, flink, environment
        self._on_step = on_step
        self._code = code

    def running(self, jobs: Sequence[str]) -> dict[str, Job]:
        """Those of the ``jobs`` that run. Raises SurecountError where one runs twice."""
        found = {}
        for job in jobs:
            name = job_name(self._pipeline, job)
            running = self._flink.all_running(name)
            if len(running) > 1:
                ids = ", ".join(one.id for one in running)
                raise SurecountError(
                    f"{name} runs {len(running)} times, as jobs {ids}: they write everything twice",
                    "cancel all but the newest run of `surecount snapshots PIPELINE` (Flink's UI, or "
                    "`flink cancel ID`); `surecount audit` names what is there twice",
                    exit_code=1,
                )
            if running:
                found[job] = running[0]
        return found

    def savepoint(self, jobs: Sequence[str]) -> dict[str, str]:
        """Take a savepoint of each job, which runs on; the paths by job."""
        return {job: self._savepoint(job, running, stop=False) for job, running in self._all_running(jobs).items()}

    def stop(self, jobs: Sequence[str]) -> dict[str, str]:
        """Stop each of the jobs that run with a savepoint, never drained; the paths by job, also of those that were
        stopped with one before.

        When this returns, all that the jobs have written is committed.
        """
        running = self.running(jobs)
        stopped = {job: self._stop(job, running[job]) if job in running else self._stopped(job) for job in jobs}
        found = {job: path for job, path in stopped.items() if path is not None}
        if not found:
            self._all_running(jobs)
        return found

    def start(
        self,
        jobs: Sequence[str],
        *,
        snapshot: str = LATEST,
        parallelism: int | None = None,
        accepted: Collection[str] = (),
    ) -> dict[str, str]:
        """Start those of the jobs that don't run, each from its newest snapshot, or from ``snapshot``; ids by job.

        ``parallelism`` is that of a job's last run where it is not given. A relay that cannot be started is its own
        trouble: what is wrong with it is raised when the other jobs have been started.
        """
        running = self.running(jobs)
        for job, one in running.items():
            self._check_newest(job, one)
        ids = {}
        troubles = Troubles(self._pipeline)
        for job in jobs:
            if job not in running:
                with troubles.of(job):
                    ids[job] = self._start(job, snapshot, parallelism, accepted)
        troubles.check(ids)
        return ids

    def rescale(self, jobs: Sequence[str], parallelism: int, accepted: Collection[str] = ()) -> dict[str, str]:
        """Stop each job that has another parallelism with a savepoint, and start it from there; ids by job."""
        running = self._all_running(jobs, f"`surecount start --parallelism {parallelism}` starts what is stopped")
        running = {job: found for job, found in running.items() if self._parallelism(job) != parallelism}
        most = self._pipeline.state.max_parallelism
        if parallelism > most:
            raise SurecountError(f"--parallelism {parallelism} is more than state.max_parallelism, {most}")
        needed = sum(parallelism - self._parallelism(job) for job in running)
        if needed > (free := self._flink.free_slots()):
            raise SurecountError(
                f"{needed} more slots are needed, and {free} are free", "add TaskManagers or slots first", exit_code=1
            )
        ids = {}
        for job, old in running.items():
            path = self._stop(job, old)
            stopped = f"{job_name(self._pipeline, job)} is stopped, with savepoint {path}"
            with told(f"{stopped}; `surecount start --parallelism {parallelism}` starts it, where nothing else has"):
                # Whether a pathway's topics still hold what is next is as well known as it was to the relay that ran.
                known = ["unchecked"] if self._pipeline.pathway_of(job) else []
                ids[job] = self._start(job, path, parallelism, [*accepted, *known])
        return ids

    def snapshots(self, job: str) -> Listed:
        """The snapshots of a job."""
        runs = self.ledger(job).runs()
        folders = self._folders()
        snapshots = read(lambda: folders.paths(runs), self._environment)
        return Listed(job, runs, snapshots, latest(folders.begun(runs), snapshots))

    def _all_running(self, jobs: Sequence[str], hint: str = "see `surecount jobs`") -> dict[str, Job]:
        running = self.running(jobs)
        if missing := [job_name(self._pipeline, job) for job in jobs if job not in running]:
            raise SurecountError(f"{', '.join(missing)} does not run", hint, exit_code=1)
        return running

    def _check_newest(self, job: str, running: Job) -> None:
        last, name = newest(self.ledger(job).runs()), job_name(self._pipeline, job)
        if last is None or last.job_id != running.id:
            known = (
                f"the ledger's newest run is {last.number}, job {last.job_id}" if last else "the ledger knows no run"
            )
            raise SurecountError(
                f"{name} runs as job {running.id}, and {known}",
                "cancel that job (Flink's UI, or `flink cancel ID`), then `surecount start` again",
                exit_code=1,
            )

    def _savepoint(self, job: str, running: Job, *, stop: bool) -> str:
        name = job_name(self._pipeline, job)
        self._on_step((Step.STOPPING if stop else Step.SAVEPOINT).of(name))
        wait_until_running(self._flink, running.id)  # while another JobManager takes it over, Flink refuses
        timeout_s = self._pipeline.checkpoint.timeout / 1000 + 10
        note_failed_commits(self._flink, self.ledger(job), running.id)
        with told(f"{name} goes on as before" if not stop else f"{name} may have stopped, see `surecount jobs`"):
            return self._flink.savepoint(running.id, timeout_s, stop=stop)

    def _stop(self, job: str, running: Job) -> str:
        run = self._run(job, running.id)
        path = self._savepoint(job, running, stop=True)
        # It ends when its sinks have committed what the savepoint holds.
        ended = ("FINISHED", "FAILED", "CANCELED")
        wait_until(lambda: self._flink.state(running.id) in ended, _END_TIMEOUT_S, f"{running.name} to end")
        if (state := self._flink.state(running.id)) != "FINISHED":
            raise SurecountError(f"{running.name} is {state}: {self._flink.cause(running.id)}", exit_code=1)
        self._on_step(Step.STOPPED.of(running.name))
        self.ledger(job).stopped(run, path)
        return path

    def _stopped(self, job: str) -> str | None:
        """The savepoint with which a job that does not run was stopped, also where the command that did so was killed
        before it could write that down; None where it ended otherwise."""
        last = newest(self._folders().begun(self.ledger(job).runs()))
        if last is None or last.stopped_with or last.bounded or self._flink.remembered(last.job_id) != "FINISHED":
            return last.stopped_with if last else None
        found = self.snapshots(job).newest
        if found is None or found.run.job_id != last.job_id or not found.savepoint:
            return None
        self._on_step(Step.STOPPED.of(job_name(self._pipeline, job)))
        self.ledger(job).stopped(last, found.path)
        return found.path

    def _start(self, job: str, snapshot: str, parallelism: int | None, accepted: Collection[str]) -> str:
        name = job_name(self._pipeline, job)
        if parallelism is None:
            parallelism = self._parallelism(job)
        job_id = submit(
            self._pipeline, self._file, self._flink, self._environment,
            job=job, parallelism=parallelism, snapshot=snapshot, accepted=accepted, code=self._code,
            on_step=self._on_step,
        )  # fmt: skip
        self._on_step(Step.AWAITING.of(name))
        wait_until_running(self._flink, job_id)
        confirm(self._pipeline, job, self._flink, job_id, self._on_step)
        return job_id

    def _parallelism(self, job: str) -> int:
        last = newest(self.ledger(job).runs())
        return last.parallelism if last else 1

    def _run(self, job: str, job_id: str) -> Run:
        found = next((run for run in self.ledger(job).runs() if run.job_id == job_id), None)
        if found is None:
            raise SurecountError(
                f"the ledger does not know job {job_id}, which runs as {job_name(self._pipeline, job)}",
                "it was not started by surecount; stop it with Flink's own means",
            )
        return found

    def ledger(self, job: str) -> Ledger:
        """The run ledger of a job."""
        return Ledger(self._folders().savepoints, self._pipeline, job)

    def _folders(self) -> Folders:
        return Folders.of(self._flink)


class Troubles:
    """What keeps relays from starting, kept until a pipeline's other jobs have been started."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._found: list[SurecountError] = []

    @contextmanager
    def of(self, job: str) -> Iterator[None]:
        """Keep what is raised of a relay; of another job it is raised at once."""
        try:
            yield
        except SurecountError as error:
            if self._pipeline.pathway_of(job) is None:
                raise
            self._found.append(error)

    def check(self, started: Collection[str]) -> None:
        """Raise what was kept, and say which jobs were ``started`` all the same."""
        if not self._found:
            return
        names = ", ".join(job_name(self._pipeline, job) for job in started) or "nothing"
        messages = "\n".join(error.message for error in self._found)
        first = self._found[0]
        first.exit_code = 1
        raise first.saying(f"{messages}\n{names} was started") from first


@contextmanager
def told(state: str) -> Iterator[None]:
    """What is raised says as well how things stand."""
    try:
        yield
    except SurecountError as error:
        raise error.saying(f"{error.message}\n{state}") from error
