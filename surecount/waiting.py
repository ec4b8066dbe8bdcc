"""Waiting on a condition with a deadline, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from surecount.errors import SurecountError

T = TypeVar("T")


class WaitTimeoutError(SurecountError, TimeoutError):
    """The deadline passed; the message says what was waited for and what was last seen."""


def wait_until(
    condition: Callable[[], T],
    timeout_s: float,
    what: str,
    poll_s: float = 0.1,
    *,
    seen: Callable[[], object] | None = None,
) -> T:
    """Call ``condition`` every ``poll_s`` seconds until it is true, and return its (truthy) value.

    It is called at least once, and once more after the deadline, so a slow machine does not turn
    a condition that holds into a failure. After ``timeout_s`` seconds raises
    :class:`WaitTimeoutError` naming ``what``, with the result of ``seen()``, or else the last
    value of the condition. What ``condition`` raises is not caught.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        late = time.monotonic() >= deadline
        value = condition()
        if value:
            return value
        if late:
            last = seen() if seen is not None else value
            raise WaitTimeoutError(f"waited {timeout_s:g} s for {what}; last seen: {last!r}")
        time.sleep(poll_s)
