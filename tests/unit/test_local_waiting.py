"""surecount.waiting"""

from __future__ import annotations

import pytest

from surecount.errors import SurecountError
from surecount.waiting import WaitTimeoutError, wait_until


def test_returns_the_first_true_value() -> None:
    values = iter([0, None, "here", "later"])
    assert wait_until(lambda: next(values), 5, "a value", poll_s=0) == "here"


def test_a_timeout_names_what_and_the_last_value() -> None:
    with pytest.raises(WaitTimeoutError, match=r"waited 0 s for a full set; last seen: \[\]") as raised:
        wait_until(list, 0, "a full set")
    assert isinstance(raised.value, TimeoutError)
    assert isinstance(raised.value, SurecountError)


def test_a_timeout_shows_what_seen_says() -> None:
    with pytest.raises(WaitTimeoutError, match="last seen: '2 of 3'"):
        wait_until(lambda: False, 0, "all", seen=lambda: "2 of 3")


def test_the_condition_is_asked_once_even_without_time() -> None:
    assert wait_until(lambda: True, 0, "truth")


def test_what_the_condition_raises_is_not_caught() -> None:
    def broken() -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        wait_until(broken, 1, "never")
