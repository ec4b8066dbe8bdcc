"""What of PyFlink and Beam is replaced, so that a submission starts sooner and batches cross more quickly.

Nothing else here depends on what PyFlink and Beam do not publish: with ``performance.replace_internals = false`` a job
runs without any of this.

What runs in workers only is imported where it is used: it loads Beam, and a client that plans a job would take a second
longer.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.util import find_spec, module_from_spec
from typing import Any

from pyflink.common import TypeInformation
from pyflink.datastream import DataStream, ProcessFunction, data_stream
from pyflink.java_gateway import get_gateway

SWITCH = "surecount.replace-internals"
"""The job's parameter that says "false" where nothing is to be replaced."""

_WORKERS = "pyflink.fn_execution"
"""What of PyFlink runs in workers."""


def plan_without_beam() -> None:
    """Spare the client an import of Beam, 0.7 s, for one enumeration in a package that is otherwise for workers.

    The package is put where imports look for it, and its own code, which does the rest, is not run.
    """
    spec = find_spec(_WORKERS)
    assert spec is not None, "PyFlink is installed"
    sys.modules.setdefault(_WORKERS, module_from_spec(spec))


def bundled(batches: DataStream, function: ProcessFunction, output: TypeInformation) -> DataStream:
    """``batches.process(function, output)`` by an operator whose bundles end with a batch that says so.

    PyFlink has no public way to give a stream an operator of another class.
    """
    arguments = batches._j_data_stream.getExecutionEnvironment().getConfig().getGlobalJobParameters().toMap()
    if arguments.get(SWITCH) == "false":
        return batches.process(function, output)
    from pyflink.fn_execution.flink_fn_execution_pb2 import UserDefinedDataStreamFunction

    kind = UserDefinedDataStreamFunction.PROCESS
    theirs, j_output = data_stream._get_one_input_stream_operator(batches, function, kind, output)
    ours = get_gateway().jvm.surecount.BundledBatches(
        theirs.getConfiguration(), theirs.getPythonFunctionInfo(), theirs.getInputTypeInfo(), j_output
    )
    return DataStream(batches._j_data_stream.transform("decode", j_output, ours))


def prepare_worker(context: Any) -> None:
    """Change PyFlink and Beam in this process, which is a worker, unless the job's parameters say not to.

    AttributeError where they are others.
    """
    if context.get_job_parameter(SWITCH, "true") == "true":
        _replace_all()


@cache
def _replace_all() -> None:
    _sample_no_states()
    _wait_once_for_state()
    _keep_memory()


def _replace(in_: Any, attributes: Mapping[str, Any]) -> None:
    for name, ours in attributes.items():
        getattr(in_, name)  # one that is not there is another version's
        setattr(in_, name, ours)


def _keep_memory() -> None:
    """Have glibc keep what a batch has freed for the next one.

    It gives larger pieces back, and to have them again page by page took a third of the time of a batch.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for parameter, megabytes in {_M_MMAP_THRESHOLD: 32, _M_TRIM_THRESHOLD: 256, _M_TOP_PAD: 16}.items():
            libc.mallopt(parameter, megabytes << 20)


# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def _wait_once_for_state() -> None:
    """Have the end of a bundle send all that it writes to keyed state, and then wait.

    PyFlink sends the writes of one state of one key, and waits for the JVM's answer before it sends the next. With 16
    buckets that took longer than the work of a small bundle. Requests are answered in their order either way.
    """
    from apache_beam.runners.worker.sdk_worker import _DeferredCall, _Future
    from pyflink.fn_execution.state_impl import RemoteKeyedStateBackend

    of_thread = threading.local()
    commit: Callable[[Any], None] = RemoteKeyedStateBackend.commit

    def commit_at_once(self: Any) -> None:
        of_thread.waits = waits = list[Callable[[], Any]]()
        try:
            commit(self)
        finally:
            del of_thread.waits
        for wait in waits:
            # PyFlink does not look at it.
            if error := getattr(wait(), "error", ""):
                raise RuntimeError(f"the JVM did not take a bundle's state: {error}")

    def later(get: Callable[[Any, Any], Any]) -> Callable[..., Any]:
        def get_later(self: Any, timeout: float | None = None) -> Any:
            waits = getattr(of_thread, "waits", None)
            # While a bundle is committed, nothing uses what a request returns.
            return get(self, timeout) if waits is None else waits.append(partial(get, self, timeout))

        return get_later

    _replace(RemoteKeyedStateBackend, {"commit": commit_at_once})
    for kind in (_Future, _DeferredCall):
        _replace(kind, {"get": later(kind.get)})


def _sample_no_states() -> None:
    """Have no thread look at what Beam's operations do, for figures that Flink does not show.

    It sleeps up to 200 ms between two looks, and the end of a bundle, on which the whole job waits, waits until it
    wakes.
    """
    from apache_beam.runners.worker import statesampler

    track: Callable[[Any], None] = statesampler.set_current_tracker

    def start(self: Any) -> None:
        self.tracked_thread = threading.current_thread()
        track(self)
        self.started = True

    def stop(self: Any) -> None:
        track(None)
        self.finished = True

    _replace(statesampler.StateSampler, {"start": start, "stop": stop})
