"""A cluster of several JobManagers, of which some don't answer; here they are small HTTP servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from surecount.errors import SurecountError
from surecount.local import ports
from surecount.ops import flink as flink_module
from surecount.ops.flink import Flink

NO_LEADER = b'{"errors":["Service temporarily unavailable due to an ongoing leader election. Please refresh."]}'


class JobManager:
    """Answers with ``status``, and keeps the methods and paths that it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[str] = []
        jobmanager = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                jobmanager.asked.append(f"{self.command} {self.path}")
                body = b'{"state":"RUNNING"}' if jobmanager.status < 500 else NO_LEADER
                self.send_response(jobmanager.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PATCH = answer  # noqa: N815 -- the names that http.server calls

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer((ports.HOST, 0), Handler)
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{ports.HOST}:{self._server.server_address[1]}"

    def kill(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def pair() -> Iterator[tuple[JobManager, JobManager]]:
    found = JobManager(), JobManager()
    yield found
    for jobmanager in found:
        jobmanager.kill()


Pair = tuple[JobManager, JobManager]


def test_the_other_one_is_asked_when_one_is_gone(pair: Pair) -> None:
    first, second = pair
    flink = Flink(f"{first.url}/,{second.url}")
    assert (flink.state("j"), flink.url) == ("RUNNING", first.url)
    first.kill()
    assert (flink.state("j"), flink.url) == ("RUNNING", second.url)
    flink.cancel("j")
    assert second.asked[-1] == "PATCH /jobs/j?mode=cancel"


def test_the_other_one_is_asked_when_one_knows_no_leader(pair: Pair) -> None:
    first, second = pair
    first.status = 503
    flink = Flink(f"{first.url},{second.url}")
    flink.cancel("j")
    assert first.asked == ["GET /overview"]
    assert second.asked == ["GET /overview", "PATCH /jobs/j?mode=cancel"]


def test_a_new_leader_is_waited_for(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pair
    first.status = second.status = 503

    def elected(_seconds: float) -> None:
        second.status = 200

    monkeypatch.setattr(flink_module.time, "sleep", elected)
    assert Flink(f"{first.url},{second.url}").state("j") == "RUNNING"
    assert len(second.asked) == 2


def test_without_a_leader_it_ends_with_what_was_answered(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pair
    first.status = second.status = 503
    monkeypatch.setattr(flink_module, "_ELECTION_S", 0)
    with pytest.raises(SurecountError, match=r"503 .*leader election"):
        Flink(f"{first.url},{second.url}").state("j")


def no_waiting(_seconds: float) -> None:
    raise AssertionError("waited")


def one(first: JobManager, _second: JobManager) -> str:
    first.status = 503
    return first.url


def none_there(first: JobManager, second: JobManager) -> str:
    urls = f"{first.url},{second.url}"
    first.kill()
    second.kill()
    return urls


@pytest.mark.parametrize(("urls", "message"), [(one, "503"), (none_there, r"no Flink answers at .*, ")])
def test_where_no_leader_can_be_expected_nobody_waits(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, urls: Callable[[JobManager, JobManager], str], message: str
) -> None:
    monkeypatch.setattr(flink_module.time, "sleep", no_waiting)
    with pytest.raises(SurecountError, match=message):
        Flink(urls(*pair)).state("j")
