"""Waiting for a submitted job: until it runs, or, where its input is bounded, until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable

from surecount.errors import SurecountError
from surecount.kafka.refusals import mend_of
from surecount.ops.flink import Flink
from surecount.ops.ledger import TakenError
from surecount.waiting import wait_until

_START_TIMEOUT_S = 120.0


def wait_until_running(flink: Flink, job_id: str) -> float:
    """Seconds until every operator of the job runs; raises SurecountError with the JVM's cause."""
    began = time.monotonic()

    def running() -> bool:
        state = flink.state(job_id)
        if state in ("FAILED", "RESTARTING", "FAILING"):
            cause = flink.cause(job_id)
            raise SurecountError(f"the job fails: {cause}", mend_of(cause), exit_code=1)
        if state in ("CANCELED", "CANCELLING"):
            raise TakenError(f"job {job_id} is {state}: another command has cancelled it")
        vertices = flink.vertices(job_id)
        return bool(vertices) and all(vertex["status"] in ("RUNNING", "FINISHED") for vertex in vertices)

    wait_until(running, _START_TIMEOUT_S, "every operator of the job to run", poll_s=0.3)
    return time.monotonic() - began


def wait_for_end(flink: Flink, job_id: str, on_progress: Callable[[int], None]) -> float:
    """Seconds until the job has finished, however long it takes; ``on_progress`` gets records read.

    Raises SurecountError with the JVM's cause where it fails or is cancelled.
    """
    began = time.monotonic()
    while True:
        state = flink.state(job_id)
        if state == "FINISHED":
            return time.monotonic() - began
        if state in ("FAILED", "CANCELED"):
            cause = flink.cause(job_id)
            raise SurecountError(f"the job is {state}: {cause}", mend_of(cause), exit_code=1)
        # There are none while another JobManager takes the job over.
        on_progress(flink.records_read(job_id))
        time.sleep(0.5)
