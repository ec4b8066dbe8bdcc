"""What makes a stack highly available: ZooKeeper's configuration, what it answers, and when its data are forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from surecount.errors import SurecountError
from surecount.local import flink, prepare, zookeeper
from surecount.local.layout import Layout
from surecount.local.spec import StackSpec
from surecount.local.stack import Stack

# As ZooKeeper 3.8.4 answered with two JobManagers and a TaskManager, of which the second JobManager leads.
DUMP = """SessionTracker dump:
Session Sets (2)/(3):
1 expire at Sun Nov 22 11:25:52 UTC 2026:
\t0x10002e364490000
2 expire at Sun Nov 22 11:25:55 UTC 2026:
\t0x10002e364490002
\t0x10002e364490001
ephemeral nodes dump:
Sessions with Ephemerals (2):
0x10002e364490001:
\t/flink/surecount/leader/latch/_c_b1d6acfe-629c-4c64-b2b8-6da5f7217c16-latch-0000000001
0x10002e364490002:
\t/flink/surecount/leader/latch/_c_565a7fd6-94a3-49f4-9e83-306e95998dac-latch-0000000000
\t/flink/surecount/leader/resource_manager/connection_info
\t/flink/surecount/leader/dispatcher/connection_info
\t/flink/surecount/leader/rest_server/connection_info
Connections dump:
Connections Sets (2)/(4):
0 expire at Sun Nov 22 11:25:49 UTC 2026:
4 expire at Sun Nov 22 11:25:59 UTC 2026:
\tip: /127.0.0.1:41474 sessionId: 0x10002e364490001
\tip: /127.0.0.1:50318 sessionId: 0x0
"""
CONS = """ /127.0.0.1:41474[1](queued=0,recved=37,sent=37,sid=0x10002e364490001,lop=PING,est=1795346722289,to=10000)
 /127.0.0.1:41500[1](queued=0,recved=103,sent=109,sid=0x10002e364490002,lop=PING,est=1795346722550,to=10000)
 /127.0.0.1:50334[0](queued=0,recved=1,sent=0)

"""
LEADER, STANDBY = 0x10002E364490002, 0x10002E364490001


def test_the_session_with_the_leaders_node_leads() -> None:
    assert zookeeper.leaders_session(DUMP) == LEADER
    assert zookeeper.leaders_session(DUMP.replace("/leader/dispatcher/connection_info", "/leader/other")) is None
    assert zookeeper.leaders_session("") is None


def test_a_session_has_the_port_of_its_connection() -> None:
    assert zookeeper.session_ports(CONS) == {STANDBY: 41474, LEADER: 41500}
    assert zookeeper.session_ports("") == {}


def test_a_server_that_is_away_answers_nothing() -> None:
    assert not zookeeper.in_service(1)
    assert zookeeper.leaders_port(1) is None


def test_zookeeper_listens_on_the_loopback_interface_only() -> None:
    found = dict(line.split("=", 1) for line in zookeeper.server_config(2181, Path("data")).splitlines())
    assert (found["clientPort"], found["clientPortAddress"]) == ("2181", "127.0.0.1")
    assert found["admin.enableServer"] == "false"  # or there would be a second port
    # Else the session that flink-conf/ asks for, 10 s, is not granted.
    assert 2 * int(found["tickTime"]) <= 10_000 <= 20 * int(found["tickTime"])


def test_jobmanagers_of_a_cluster_have_what_they_share_in_the_stacks_folder(tmp_path: Path) -> None:
    found = flink.ha_settings(Layout(tmp_path), zookeeper_port=2181)
    assert found["high-availability.type"] == "zookeeper"
    assert found["high-availability.zookeeper.quorum"] == "127.0.0.1:2181"
    assert found["high-availability.storageDir"] == f"file://{tmp_path}/ha"


def test_each_jobmanager_has_ports_of_its_own(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.conf.mkdir()
    flink.write_conf(layout, {})
    resources = flink.Resources(("-Xmx1g",), ("-D", "a=b"))
    own = flink.addresses(rest_port=8082, rpc_port=6124)
    argv = flink.jobmanager(Path("java"), layout, "jobmanager-2", resources, own).argv
    assert "high-availability.jobmanager.port=6124" in argv
    assert "rest.bind-port=8082" in argv
    assert argv[argv.index("rest.bind-port=8082") - 1] == "-D"
    alone = flink.jobmanager(Path("java"), layout, "jobmanager", resources).argv
    assert not [part for part in alone if part.startswith(("rest.", "high-availability."))]


def test_a_stack_without_ha_forgets_the_jobs_of_one_with_it(tmp_path: Path) -> None:
    layout, java = Layout(tmp_path), Path("java")
    highly = StackSpec("id", 2, (9092,), (8081, 8082), zookeeper_port=2181)
    assert [spec.name for spec in prepare.zookeeper_of(java, layout, highly)] == ["zookeeper"]
    (layout.zookeeper / "data").mkdir()
    layout.ha_storage.mkdir()
    layout.checkpoints.mkdir()
    prepare.zookeeper_of(java, layout, highly)
    assert (layout.zookeeper / "data").exists()
    assert prepare.zookeeper_of(java, layout, StackSpec("id", 2, (9092,), (8081,))) == []
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoints"]


def test_without_flink_there_is_nothing_to_have_two_of(tmp_path: Path) -> None:
    with pytest.raises(SurecountError, match="--ha with --no-flink"):
        Stack(tmp_path / "stack").up(ha=True, flink=False)
    assert not (tmp_path / "stack").exists()
