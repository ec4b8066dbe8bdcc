"""What is replaced of PyFlink and Beam is there, by these names and signatures, and what replaces it does the same."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from apache_beam.runners.worker import statesampler
from apache_beam.runners.worker.sdk_worker import _DeferredCall, _Future
from apache_beam.runners.worker.statesampler import StateSampler
from apache_beam.utils.counters import CounterFactory
from pyflink.fn_execution.state_impl import RemoteKeyedStateBackend

from jobs import internals
from jobs.internals import SWITCH, prepare_worker

REPLACED = ((StateSampler, "start"), (StateSampler, "stop"), (RemoteKeyedStateBackend, "commit"), (_Future, "get"))
REPLACED += ((_DeferredCall, "get"),)


@pytest.fixture(autouse=True)
def nothing_stays_replaced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for kind, name in REPLACED:
        monkeypatch.setattr(kind, name, getattr(kind, name))
    internals._replace_all.cache_clear()
    yield
    internals._replace_all.cache_clear()


def preparing(said: str) -> None:
    prepare_worker(SimpleNamespace(get_job_parameter=lambda name, _: {SWITCH: said}[name]))


def test_names_and_signatures() -> None:
    assert [*inspect.signature(statesampler.set_current_tracker).parameters] == ["tracker"]
    signatures = [[*inspect.signature(getattr(kind, name)).parameters] for kind, name in REPLACED]
    assert signatures == [["self"], ["self"], ["self"], ["self", "timeout"], ["self", "timeout"]]
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
def test_a_worker_has_one_thread_less_unless_the_job_says_otherwise(said: str) -> None:
    preparing(said)
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


class Backend(RemoteKeyedStateBackend):  # type: ignore[misc]
    """Keyed state of three keys, that writes down what is sent and waited for."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._internal_state_cache = [self.state(key) for key in "abc"]
        self._all_states: dict[str, Any] = {}

    def state(self, key: str) -> SimpleNamespace:
        def commit() -> None:
            self.seen.append(f"send {key}")
            answer = _Future().set(key)
            # As Beam's own: the call is made when somebody asks for its value.
            _DeferredCall(lambda got: self.seen.append(f"wait {got}"), answer).get()

        return SimpleNamespace(commit=commit)


@pytest.mark.parametrize(
    ("said", "seen"),
    [("true", "send a send b send c wait a wait b wait c"), ("false", "send a wait a send b wait b send c wait c")],
)
def test_a_bundle_sends_all_its_state_and_then_waits(said: str, seen: str) -> None:
    preparing(said)
    preparing(said)  # each operator of a worker does
    backend = Backend()
    backend.commit()
    assert " ".join(backend.seen) == seen
    # Outside of it, who asks for a value waits for it.
    assert _Future().set(7).get() == 7
    backend.commit()
    assert " ".join(backend.seen) == f"{seen} {seen}"


def test_state_that_cannot_be_sent_fails_the_bundle_and_no_later_one() -> None:
    preparing("true")
    backend = Backend()

    def fail() -> None:
        raise OSError("gone")

    whole = backend._internal_state_cache
    backend._internal_state_cache = [whole[0], SimpleNamespace(commit=fail)]
    with pytest.raises(OSError, match="gone"):
        backend.commit()
    assert _Future().set(7).get() == 7
    backend._internal_state_cache = whole
    backend.seen.clear()
    backend.commit()
    assert backend.seen[3:] == ["wait a", "wait b", "wait c"]


def test_state_that_the_jvm_does_not_take_fails_the_bundle() -> None:
    preparing("true")
    backend = Backend()
    refused = _Future().set(SimpleNamespace(error="no space left"))
    backend._internal_state_cache.append(SimpleNamespace(commit=lambda: refused.get()))
    with pytest.raises(RuntimeError, match="did not take a bundle's state: no space left"):
        backend.commit()


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
