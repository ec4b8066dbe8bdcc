"""deploy/entrypoint.sh, run as it is, with servers that are shell scripts: signals, exit codes, what is left."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from surecount.container import health
from surecount.container.roles import parse_nodes, parse_properties, prepare
from surecount.errors import SurecountError
from surecount.local.layout import PROJECT, flink_home
from surecount.local.processes import is_alive
from surecount.waiting import wait_until

ENTRYPOINT = PROJECT / "deploy" / "entrypoint.sh"

# Each prints its own pid and that of a child, which would outlive it.
STUBBORN = 'sleep 300 & echo $$ $!; trap "" TERM; wait; sleep 300'
ORDERLY = 'trap "echo stopped; exit 3" TERM; sleep 300 & echo $$ $!; wait'
SHORT = "sleep 300 & echo $$ $!; read; exit 4"


class Started:
    """An entrypoint with a server, and the pids of the server and its child."""

    def __init__(self, script: str, folder: Path) -> None:
        self.process = subprocess.Popen(
            [ENTRYPOINT, "bash", "-c", script],
            env={**os.environ, "SURECOUNT_ROLE_DIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # A shell that runs the tests in its background has SIGINT ignored, which no script could trap.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout
        self.server, self.child = (psutil.Process(int(pid)) for pid in self.output.readline().split())

    def exit_code(self) -> int:
        return self.process.wait(timeout=20)

    def left(self) -> list[int]:
        return [process.pid for process in (self.server, self.child) if is_alive(process)]


@pytest.fixture
def started(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Started]:
    running = Started(request.param, tmp_path)
    yield running
    running.process.kill()
    for process in (running.server, running.child):
        if is_alive(process):
            process.kill()
    running.process.wait()
    running.input.close()
    running.output.close()


@pytest.mark.parametrize("started", [STUBBORN], indirect=True)
def test_nothing_is_left_of_a_server_that_was_killed(started: Started) -> None:
    started.server.kill()
    assert started.exit_code() == 128 + signal.SIGKILL
    wait_until(lambda: not started.left(), 10, "the server's child to be killed", seen=started.left)


@pytest.mark.parametrize("started", [ORDERLY], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_server_which_ends_in_its_own_way(started: Started, number: signal.Signals) -> None:
    started.process.send_signal(number)
    assert started.exit_code() == 3
    assert started.output.read() == "stopped\n"
    wait_until(lambda: not started.left(), 10, "the server's child to be killed", seen=started.left)


@pytest.mark.parametrize("started", [SHORT], indirect=True)
def test_nothing_is_left_of_a_server_that_ends_by_itself(started: Started) -> None:
    started.input.write("\n")
    started.input.flush()
    assert started.exit_code() == 4
    wait_until(lambda: not started.left(), 10, "the server's child to be killed", seen=started.left)


@pytest.mark.parametrize("words", [[], ["broker"], ["broker", "1"], ["zookeeper", "2181"]])
def test_a_wrong_role_is_refused(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(SurecountError, match=words[0] if words else "no role"):
        prepare(words, {"SURECOUNT_ROLE_DIR": str(tmp_path)})


@pytest.mark.parametrize("words", [["jobmanager", "jm"], ["taskmanager", "tm"], ["surecount", "--help"], ["true"]])
def test_settings_are_not_in_the_environment_which_flink_logs(words: list[str], tmp_path: Path) -> None:
    environ = {"SURECOUNT_ROLE_DIR": str(tmp_path), "FLINK_PROPERTIES": "security.ssl.rest.key-password: marked"}
    command = prepare(words, {**os.environ, **environ})
    assert not [text for text in (*command.argv, *command.env.values()) if "marked" in text]


def test_what_cannot_be_run_says_why(tmp_path: Path) -> None:
    environ = {**os.environ, "SURECOUNT_ROLE_DIR": str(tmp_path)}
    done = subprocess.run([ENTRYPOINT, "no-such-command"], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "no-such-command" in done.stderr


@pytest.mark.parametrize("check", ["broker 1 H", "zookeeper H", "jobmanager http://H", "taskmanager t http://H"])
def test_a_server_that_is_not_there_is_not_in_service(check: str) -> None:
    arguments = health.parser().parse_args(check.replace("H", "127.0.0.1:1").split())
    assert arguments.check(arguments) is False


def test_a_health_check_fails_with_1_and_says_why() -> None:
    command = [ENTRYPOINT, "health", "zookeeper", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "zookeeper is not in service\n")


def test_the_command_line_is_run_with_flinks_folders(tmp_path: Path) -> None:
    environ = {**os.environ, "SURECOUNT_ROLE_DIR": str(tmp_path)}
    command = [ENTRYPOINT, "surecount", "check", PROJECT / "examples" / "shop.toml"]
    # A folder of the caller's own hides nothing.
    (tmp_path / "udfs").mkdir()
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    env = prepare(["surecount"], environ).env
    assert env["FLINK_HOME"] == str(flink_home())
    assert (Path(env["FLINK_CONF_DIR"]) / "config.yaml").is_file()
    assert list(Path(env["FLINK_LIB_DIR"]).glob("flink-sql-connector-kafka-*.jar"))


def test_on_kubernetes_flinks_own_scripts_are_found_and_its_configuration_stays(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "SURECOUNT_ROLE_DIR": str(tmp_path)}
    command = prepare(["bash", "-c", "kubernetes-taskmanager.sh -Da=b"], environ)
    assert command.argv == ("bash", "-c", "kubernetes-taskmanager.sh -Da=b")
    assert command.env["FLINK_CONF_DIR"] == "/opt/flink/conf"
    found = [Path(folder) / "kubernetes-taskmanager.sh" for folder in command.env["PATH"].split(os.pathsep)]
    assert any(os.access(path, os.X_OK) for path in found)
    assert os.access(Path(command.env["FLINK_BIN_DIR"]) / "flink-console.sh", os.X_OK)


@pytest.mark.parametrize("text", ["a", "a:", ": b", "a: 1\nb"])
def test_a_wrong_line_of_flink_properties_is_named(text: str) -> None:
    with pytest.raises(SurecountError, match="FLINK_PROPERTIES"):
        parse_properties(text)


def test_flink_properties_are_lines_of_key_and_value() -> None:
    text = "\n# why\na.b: 1\n  c: file:///state/x:y  \n"
    assert parse_properties(text) == {"a.b": "1", "c": "file:///state/x:y"}


@pytest.mark.parametrize("text", ["a", "a:1", "a:1:x", "a:1:2:3:4"])
def test_a_wrong_broker_is_named(text: str) -> None:
    with pytest.raises(SurecountError, match=text):
        parse_nodes(text)
