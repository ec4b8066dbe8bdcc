"""What is replaced of PyFlink and Beam is there, by these names and signatures, and what replaces it does the same."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from apache_beam.runners.worker import statesampler
from apache_beam.runners.worker.statesampler import StateSampler
from apache_beam.utils.counters import CounterFactory

from jobs.internals import SWITCH, prepare_worker


def test_names_and_signatures() -> None:
    assert [*inspect.signature(statesampler.set_current_tracker).parameters] == ["tracker"]
    for name in ("start", "stop"):
        assert callable(getattr(StateSampler, name))
    # What Beam's own do, beside the thread.
    sampler = StateSampler("test", CounterFactory())
    sampler.start()
    try:
        assert sampler.started
        assert sampler.tracked_thread is threading.current_thread()
        assert statesampler.get_current_tracker() is sampler
    finally:
        sampler.stop()
    assert sampler.finished
    assert statesampler.get_current_tracker() is None


@pytest.mark.parametrize("said", ["true", "false"])
def test_a_worker_has_one_thread_less_unless_the_job_says_otherwise(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("start", "stop"):
        monkeypatch.setattr(StateSampler, name, getattr(StateSampler, name))
    prepare_worker(SimpleNamespace(get_job_parameter=lambda name, _: {SWITCH: said}[name]))
    sampler = StateSampler("test", CounterFactory())
    before = threading.active_count()
    sampler.start()
    try:
        assert sampler.started
        assert sampler.tracked_thread is threading.current_thread()
        assert statesampler.get_current_tracker() is sampler
        assert threading.active_count() == before + (said == "false")
    finally:
        sampler.stop()
    assert sampler.finished
    assert statesampler.get_current_tracker() is None


_CLIENT = """
import sys
{}
from pyflink.fn_execution import flink_fn_execution_pb2

assert flink_fn_execution_pb2.UserDefinedDataStreamFunction.KEYED_PROCESS
print(*(name for name in sys.modules if name == "apache_beam"))
"""


@pytest.mark.parametrize(
    ("plans", "loaded"), [("from jobs import internals; internals.plan_without_beam()", ""), ("", "apache_beam")]
)
def test_a_client_loads_beam_where_nothing_is_replaced(plans: str, loaded: str) -> None:
    """In a process of its own, as in this one other tests may have imported it."""
    command = [sys.executable, "-c", _CLIENT.format(plans)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == loaded
