"""The texts that a local stack is configured with, and flink-conf/ itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from surecount.errors import SurecountError
from surecount.local import flink, jvm, kafka
from surecount.local import layout as layout_module
from surecount.local.layout import FLINK_CONF, Layout
from surecount.local.spec import (
    Observed,
    ObservedProcess,
    ProcessSpec,
    StackSpec,
    load_observed,
    load_stack,
    role_of,
    save_observed,
    save_stack,
)
from surecount.local.stack import Stack

CONF = (FLINK_CONF / "config.yaml").read_text(encoding="utf-8")
NODES = [kafka.Node(1, 9092, 19092), kafka.Node(2, 9093, 19093), kafka.Node(3, 9094, 19094)]


def _properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


@pytest.mark.parametrize(("brokers", "replicas", "min_isr"), [(1, "1", "1"), (3, "3", "2")])
def test_a_broker_replicates_as_far_as_there_are_brokers(brokers: int, replicas: str, min_isr: str) -> None:
    found = _properties(kafka.server_properties(NODES[0], NODES[:brokers], Path("data")))
    for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
        assert found[f"{topic}.replication.factor"] == replicas
    assert found["default.replication.factor"] == replicas
    assert found["min.insync.replicas"] == found["transaction.state.log.min.isr"] == min_isr


def test_a_broker_listens_on_the_loopback_interface_only() -> None:
    found = _properties(kafka.server_properties(NODES[1], NODES, Path("data")))
    assert found["listeners"] == "PLAINTEXT://127.0.0.1:9093,CONTROLLER://127.0.0.1:19093"
    assert found["controller.quorum.voters"] == "1@127.0.0.1:19092,2@127.0.0.1:19093,3@127.0.0.1:19094"


def test_cluster_ids_are_16_bytes_and_no_options() -> None:
    ids = {kafka.new_cluster_id() for _ in range(500)}
    assert len(ids) == 500
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", cluster_id) for cluster_id in ids)


def test_settings_of_the_place_replace_those_of_the_file() -> None:
    merged = flink.merge_conf("# why\na.b: 1\nc: x: y\n", {"a.b": "2", "d": "3"})
    assert flink.conf_value(merged, "a.b") == "2"
    assert flink.conf_value(merged, "c") == "x: y"
    assert flink.conf_value(merged, "d") == "3"
    assert merged.count("a.b") == 1
    assert "# why" in merged


def test_settings_given_by_hand() -> None:
    given = ["taskmanager.memory.process.size=2 gb", "env.java.opts.taskmanager=-Da=b"]
    expected = {"taskmanager.memory.process.size": "2 gb", "env.java.opts.taskmanager": "-Da=b"}
    assert flink.parse_settings(given) == expected


@pytest.mark.parametrize("text", ["", "a.b", "a.b=", "a.b= c", "a.b=c\nd: e", "=c", "a: b=c", "a b.c=d"])
def test_settings_given_wrongly_are_named(text: str) -> None:
    with pytest.raises(SurecountError, match=re.escape(repr(text))):
        flink.parse_settings([text])


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(SurecountError, match=r"env\.java\.opts\.all is missing"):
        flink.conf_value("a: 1", "env.java.opts.all")


def test_flinks_results_are_told_from_its_logging() -> None:
    printed = "INFO x\nBASH_JAVA_UTILS_EXEC_RESULT:-Xmx1g\nBASH_JAVA_UTILS_EXEC_RESULT:-D a=b\n"
    assert flink.parse_results(printed) == ["-Xmx1g", "-D a=b"]


def test_flink_conf_has_one_flat_setting_a_line_and_none_of_a_place(tmp_path: Path) -> None:
    lines = [line for line in CONF.splitlines() if line and not line.startswith("#")]
    keys = [line.partition(":")[0] for line in lines]
    assert all(re.fullmatch(r"[a-zA-Z0-9.-]+: \S.*", line) for line in lines)
    assert len(set(keys)) == len(keys)
    layout = Layout(tmp_path)
    own = [
        flink.stack_settings(layout, slots=1),
        flink.addresses(rest_port=1, rpc_port=2),
        flink.ha_settings(layout, zookeeper_port=3),
    ]
    assert not {key for settings in own for key in settings} & set(keys)


def test_an_outage_of_zookeeper_within_a_session_fails_no_write() -> None:
    """What a JobManager writes to ZooKeeper is tried again for at least as long as its session may last."""

    def of_client(key: str) -> str:
        return flink.conf_value(CONF, f"high-availability.zookeeper.client.{key}")

    assert of_client("session-timeout") == "10 s" == flink.conf_value(CONF, "heartbeat.timeout")
    assert of_client("tolerate-suspended-connections") == "true"
    assert of_client("retry-wait") == "400 ms"  # the shortest that an attempt waits
    assert int(of_client("max-retry-attempts")) * 0.4 >= 10


def test_a_job_gives_up_restarting_after_a_transaction_could_have_been_aborted() -> None:
    """Attempts x longest delay must outlast the broker's longest transaction, 15 min: before that a
    restart is exact."""
    strategy = "restart-strategy.exponential-delay."
    attempts = int(flink.conf_value(CONF, f"{strategy}attempts-before-reset-backoff"))
    assert flink.conf_value(CONF, f"{strategy}max-backoff") == "10 s"
    assert attempts * 10 > 15 * 60


def test_what_shall_run_is_read_back_as_written(tmp_path: Path) -> None:
    process = ProcessSpec("kafka-1", ("java", "-x"), {"A": "b"}, "out", "scratch")
    stack = StackSpec("id", 2, (9092,), (8081, 8082), 2181, (process,))
    save_stack(tmp_path / "stack.json", stack)
    assert load_stack(tmp_path / "stack.json") == stack
    assert stack.names("broker") == ("kafka-1",)


def test_one_jobmanager_needs_no_number() -> None:
    assert StackSpec("id", 2, (), (8081,)).jobmanagers == {"jobmanager": 8081}
    assert StackSpec("id", 2, (), (8081, 8082)).jobmanagers == {"jobmanager-1": 8081, "jobmanager-2": 8082}


def test_a_stack_without_flink_is_read_back_and_says_so(tmp_path: Path) -> None:
    spec = StackSpec("id", 2, (9092,), ())
    save_stack(tmp_path / "stack.json", spec)
    assert load_stack(tmp_path / "stack.json") == spec
    stack = Stack(tmp_path)
    assert stack.bootstrap_servers == "127.0.0.1:9092"
    assert stack.status().flink_url is None
    for use in (lambda: stack.flink_url, stack.flink_env):
        with pytest.raises(SurecountError, match="has no Flink"):
            use()


def test_what_was_seen_is_read_back_as_written(tmp_path: Path) -> None:
    observed = Observed(7, {"jobmanager": ObservedProcess(None, 2, 1.5, -9)})
    save_observed(tmp_path / "state.json", observed)
    assert load_observed(tmp_path / "state.json") == observed
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


def test_there_may_be_nothing_written(tmp_path: Path) -> None:
    assert load_stack(tmp_path / "stack.json") is None
    assert load_observed(tmp_path / "state.json") is None


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1}', '{"version": 2}', '{"version": 99}'])
def test_a_file_that_is_not_understood_says_so(tmp_path: Path, text: str) -> None:
    file = tmp_path / "stack.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SurecountError, match=r"stack\.json"):
        load_stack(file)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("kafka-3", "broker"),
        ("zookeeper", "zookeeper"),
        ("jobmanager", "jobmanager"),
        ("jobmanager-2", "jobmanager"),
        ("taskmanager-12", "taskmanager"),
    ],
)
def test_a_name_tells_the_role(name: str, role: str) -> None:
    assert role_of(name) == role


def test_host_and_port_of_a_taskmanager_are_read_from_its_rpc_address() -> None:
    path = "pekko.tcp://flink@taskmanager-1:43357/user/rpc/taskmanager_0"
    assert flink.rpc_address(path) == ("taskmanager-1", 43357)


@pytest.mark.parametrize("made", [True, False])
def test_the_client_uses_the_archive_of_classes_where_there_is_one(
    made: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "client.jsa"
    monkeypatch.setattr(jvm, "ARCHIVES", tmp_path)
    if made:
        archive.touch()
    env = flink.client_env(Layout(tmp_path / "stack"), Path("/jdk/bin/java"))
    assert (f"-XX:SharedArchiveFile={archive}" in env["JVM_ARGS"]) == made


@pytest.mark.parametrize("made", [True, False])
def test_jars_are_linked_for_one_stack_where_setup_made_no_folder_for_all(
    made: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (flink, layout_module):
        monkeypatch.setattr(module, "FLINK_LIB", tmp_path / "lib")
    if made:
        (tmp_path / "lib").mkdir()
    layout = Layout(tmp_path / "stack")
    flink.write_conf(layout, {})
    assert layout.lib == (tmp_path / "lib" if made else tmp_path / "stack" / "lib")
    assert bool([*layout.lib.iterdir()]) == (not made)


@pytest.mark.parametrize(
    ("jar", "name"),
    [
        ("log4j-1.2-api-2.25.3.jar", "log4j-1.2-api"),
        ("flink-sql-connector-kafka-5.0.0-2.2.jar", "flink-sql-connector-kafka"),
        ("zstd-jni-1.5.6-10.jar", "zstd-jni"),
        ("flink-scala_2.12-2.3.0.jar", "flink-scala_2.12"),
        ("surecount-packs-2.jar", "surecount-packs"),
    ],
)
def test_a_jar_has_a_name_without_its_version(jar: str, name: str) -> None:
    assert flink.artifact(jar) == name


def test_no_jar_is_on_a_class_path_in_two_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel, ours = tmp_path / "lib", tmp_path / "ours"
    for jar in (wheel / "log4j-core-2.25.3.jar", wheel / "flink-dist-2.3.0.jar", ours / "log4j-core-2.25.4.jar"):
        jar.parent.mkdir(exist_ok=True)
        jar.touch()
    monkeypatch.setattr(flink, "flink_home", lambda: tmp_path)
    monkeypatch.setattr(flink, "FLINK_JARS", ours)
    assert sorted(jar.name for jar in flink.jars()) == ["flink-dist-2.3.0.jar", "log4j-core-2.25.4.jar"]
