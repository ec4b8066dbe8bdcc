"""What the jobs share: planning one in a client."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys
from jobs import aggregate, ingest, relay, submission

submission.plan_without_beam()
from pyflink.fn_execution import flink_fn_execution_pb2

assert flink_fn_execution_pb2.UserDefinedDataStreamFunction.KEYED_PROCESS
print(*(name for name in sys.modules if name.partition(".")[0] in ("apache_beam", "pandas")))
"""


def test_planning_imports_no_beam() -> None:
    """In a process of its own, as in this one other tests may have imported it."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "\n"
