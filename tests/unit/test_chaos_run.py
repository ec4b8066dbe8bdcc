"""What a run of chaos makes of a pipeline file: none of its addresses is left, and what cannot be judged is refused."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from surecount import config
from surecount.chaos import run as chaos
from surecount.chaos.run import Hearing, Wanted
from surecount.chaos.schedule import chosen
from surecount.config import Kafka, Pipeline
from surecount.errors import SurecountError
from surecount.local.stack import Stack

REAL = "kafka.example:9092"
SECURITY = {"protocol": "SSL", "ca_file": "/example/ca.pem"}
HEARING = Hearing(lambda *_: None, lambda _: None, lambda _: None)


def pipeline(window: str = "5 s", **source: Any) -> Pipeline:
    aggregate = [{"name": "a", "key": ["k"], "window": window}]
    kafka = {"bootstrap_servers": REAL, "properties": {"client.id": "real"}, "security": SECURITY}
    content = {"name": "shop", "kafka": kafka, "aggregate": aggregate}
    source = {"event_time": {"field": "ts", "unit": "ms"}, "event_id": "id", **source}
    return config.parse({**content, "source": source}, "shop.toml")


def wanted(minutes: float = 5) -> Wanted:
    return Wanted(1, minutes, chosen(["kill-broker"]), 100, None)


def pathway(name: str, topic: str, servers: str | None) -> dict[str, Any]:
    properties = {} if servers in (None, REAL) else {"client.id": "real"}
    security = {"security": SECURITY} if properties else {}
    cluster = {"bootstrap_servers": servers, "properties": properties, **security} if servers else {}
    return {"name": name, "topics": [topic], **cluster}


class NoStack(Stack):
    """One that is not started, at an address of its own."""

    def up(self, **_: Any) -> None:
        pass

    @property
    def kafka(self) -> Kafka:
        return Kafka(bootstrap_servers=f"{self.directory.name}:1")


def moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, of: Pipeline) -> Pipeline:
    monkeypatch.setattr(chaos, "Stack", NoStack)
    with ExitStack() as stacks:
        return chaos._up(stacks, NoStack(tmp_path / "own"), tmp_path, of, wanted(), HEARING)


@pytest.mark.parametrize("servers", [None, REAL, "elsewhere.example:9092"])
def test_no_address_of_the_file_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, servers: str | None) -> None:
    of = pipeline(pathway=[pathway("east", "shop.east", servers), pathway("west", "shop.west", None)])
    found = moved(monkeypatch, tmp_path, of)
    for text in ("example", "client.id"):
        assert text not in found.model_dump_json()
    assert found.jobs == of.jobs
    assert {found.kafka_of(p).bootstrap_servers for p in found.pathways} <= {"own:1", "other:1"}


def test_topics_of_one_name_on_two_clusters_cannot_be_told_apart_on_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    of = pipeline(pathway=[pathway("east", "orders", "east.example:1"), pathway("west", "orders", "west.example:1")])
    with pytest.raises(SurecountError, match="orders"):
        moved(monkeypatch, tmp_path, of)


def test_a_run_in_which_no_window_would_be_judged_is_refused() -> None:
    chaos.check(pipeline(topics=["in"]), wanted(1))
    with pytest.raises(SurecountError, match=r"the shortest is 20 min(?s:.*)give --minutes 8\d or more"):
        chaos.check(pipeline("20 min", topics=["in"]), wanted(30))
    with pytest.raises(SurecountError, match="only that function knows"):
        chaos.check(pipeline(topics=["in"], decode="mine:decode"), wanted())


def test_the_command_runs_it_again() -> None:
    command = wanted().command(Path("my shop.toml"))
    assert "surecount chaos 'my shop.toml' --seed 1 --minutes 5 --rate 100 --brokers 3" in command
    assert command.endswith("--faults kill-broker")
