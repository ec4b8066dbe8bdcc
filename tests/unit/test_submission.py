"""What the jobs share: planning one in a client."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from surecount.local.flink import flink_home, jars

_PROGRAM = """
import sys

from jobs import aggregate, ingest, internals, relay

internals.plan_without_beam()
from pyflink.fn_execution import flink_fn_execution_pb2

assert flink_fn_execution_pb2.UserDefinedDataStreamFunction.KEYED_PROCESS
print(*(name for name in sys.modules if name.partition(".")[0] in ("apache_beam", "pandas")))
"""


def test_planning_imports_no_beam() -> None:
    """In a process of its own, as in this one other tests may have imported it."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "\n"


_STEPS = """
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway

from jobs.submission import Bundle, execute
from surecount.errors import SurecountError

def refused(uid, bundles):
    environment = StreamExecutionEnvironment.get_execution_environment()
    step = environment.from_collection([1]).map(str).name("decode")
    if uid:
        step.uid(uid)
    discard = get_gateway().jvm.org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink()
    step._j_data_stream.sinkTo(discard).uid("sink")
    try:
        execute(environment, "job", bundles)
    except SurecountError as error:
        print(error.message)

refused(None, {})
refused("decode", {"windows": Bundle(1, 1)})
"""


def test_a_step_without_uid_and_a_bundle_of_no_step_are_refused(tmp_path: Path) -> None:
    # PyFlink leaves a folder behind for each collection.
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", _STEPS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    without, of_none = done.stdout.splitlines()
    assert "has no uid, so no snapshot could be restored to it" in without
    assert of_none == "no step of the job is called windows"


_OPERATORS = """
import sys
from argparse import Namespace
from pathlib import Path

from pyflink.datastream import StreamExecutionEnvironment

from jobs import aggregate
from jobs.submission import configuration, transformations
from surecount.config import parse

settings = {"replace_internals": sys.argv[1] == "true"}
aggregates = [{"name": "n", "key": ["k"], "window": "1 min"}]
pipeline = parse(
    {
        "name": "p",
        "kafka": {"bootstrap_servers": "127.0.0.1:1"},
        "source": {"topics": ["in"], "event_time": "kafka"},
        "aggregate": aggregates,
        "performance": settings,
    },
    "p.toml",
)
environment = StreamExecutionEnvironment.get_execution_environment(configuration(pipeline, {}))
aggregate.build(environment, pipeline, Namespace(bounded=False, generation=0, moved=[]))
for step in transformations(environment):
    if step.getName() == "decode":
        operator = step.getOperatorFactory().getOperator()
        print(operator.getClass().getSimpleName(), aggregate.bundles(pipeline)["decode"].elements)
        same = operator.copy(operator.getPythonFunctionInfo(), operator.getProducedType())
        print(same.getClass().getSimpleName(), same.getInputTypeInfo().toString())
"""


@pytest.mark.parametrize(
    ("replaced", "kind", "batches"), [("true", "BundledBatches", 8), ("false", "ExternalPythonProcessOperator", 1)]
)
def test_decoding_is_by_an_operator_whose_bundles_end_with_marked_batches(
    tmp_path: Path, replaced: str, kind: str, batches: int
) -> None:
    """Flink's own copy has to be of that class, too: it makes one of each operator."""
    for jar in jars():
        (tmp_path / jar.name).symlink_to(jar)
    command = [sys.executable, "-c", _OPERATORS, replaced]
    environment = os.environ | {"FLINK_HOME": str(flink_home()), "FLINK_LIB_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{kind} {batches}", f"{kind} byte[]"]
