"""Interrupts end a command with the code that says so, whatever a library makes of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from surecount import cli


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("swallowed", [False, True])
def test_an_interrupt(monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int, *, swallowed: bool) -> None:
    def command(**_: object) -> None:
        try:
            os.kill(os.getpid(), number)
            signal.sigtimedwait([], 5)
        except KeyboardInterrupt:
            if swallowed:
                raise TypeError("expected configuration property name as type unicode string") from None
            raise

    monkeypatch.setattr(cli, "app", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code


def test_an_error_that_no_interrupt_caused_is_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def command(**_: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr(cli, "app", command)
    with pytest.raises(TypeError, match="a bug"):
        cli.main()
