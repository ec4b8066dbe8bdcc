"""Which line of a stack trace tells why a job failed."""

from __future__ import annotations

import pytest

from surecount.ops.flink import innermost

JAVA = """org.apache.flink.runtime.JobException: Recovery is suppressed
\tat org.apache.flink.A.b(A.java:1)
Caused by: java.lang.IllegalStateException: closed
\t... 3 more
Caused by: java.io.IOException: No space left on device
\tat java.base/java.io.X.y(X.java:2)
\t... 9 more
"""
PYTHON = """java.lang.RuntimeException: Failed to close remote bundle
\tat org.apache.flink.A.b(A.java:1)
Caused by: java.util.concurrent.ExecutionException: java.lang.RuntimeException: Error received from SDK harness for \
instruction 4: Traceback (most recent call last):
  File "sdk_worker.py", line 1, in _execute
    response = task()
ValueError: the first
\tat java.base/java.util.X.y(X.java:2)
Caused by: java.lang.RuntimeException: Error received from SDK harness for instruction 4: Traceback (most recent \
call last):
  File "sdk_worker.py", line 1, in _execute
    response = task()
KeyError: 'inner'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "sdk_worker.py", line 2, in _execute
    raise shop.OddError(...)
    ^^^^^^^^^^^^^^^^^^^^^^^^
shop.OddError: what happened
  and more of it

\tat org.apache.beam.X.y(X.java:3)
\t... 1 more
"""


@pytest.mark.parametrize(
    ("trace", "cause"),
    [
        (JAVA, "java.io.IOException: No space left on device"),
        (JAVA.partition("Caused")[0], "org.apache.flink.runtime.JobException: Recovery is suppressed"),
        (PYTHON, "shop.OddError: what happened"),
        ("java.lang.X: Traceback (most recent call last):", "java.lang.X: Traceback (most recent call last):"),
        ("", ""),
    ],
)
def test_the_innermost_cause(trace: str, cause: str) -> None:
    assert innermost(trace) == cause
