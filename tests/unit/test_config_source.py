"""The source of a pipeline: pathways, event ids, checks, CloudEvents, and what their errors say."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from surecount import config
from surecount.config import Pipeline
from surecount.errors import SurecountError
from udfs.spec import Check, EventTime, Field

BASE: dict[str, Any] = {
    "name": "shop",
    "kafka": {"bootstrap_servers": "own:9092"},
    "source": {"topics": ["orders"], "event_time": {"field": "ts"}},
    "aggregate": [
        {
            "name": "a",
            "key": ["customer", {"field": "shard", "type": "int"}],
            "sum": ["amount", {"field": "tax", "type": "decimal", "scale": 2}, {"field": "weight", "type": "float"}],
            "window": "1 min",
        }
    ],
}
SITES = [
    {"name": "north", "topics": ["north.orders", "north.returns"]},
    {"name": "south", "topics": ["orders"], "bootstrap_servers": "far:9092", "properties": {"acks": "all"}},
    {"name": "east", "topics": ["orders"], "bootstrap_servers": "own:9092"},
]


def with_source(**source: Any) -> dict[str, Any]:
    """BASE with further settings of its source, and without those that are None."""
    settings = {**BASE["source"], **source}
    return {**BASE, "source": {name: value for name, value in settings.items() if value is not None}}


def parsed(**source: Any) -> Pipeline:
    return config.parse(with_source(**source), "shop.toml")


@pytest.mark.parametrize(
    ("check", "spec"),
    [
        ({"field": "amount", "min": 0}, Check(Field("amount", "int"), True, 0)),
        ({"field": "shard", "one_of": [1, 2]}, Check(Field("shard", "int"), True, allowed=(1, 2))),
        ({"field": "ts", "max": 5}, Check(Field("ts", "int"), True, None, 5)),
        ({"field": "tax", "min": "-0.10", "max": 2}, Check(Field("tax", "decimal", 2), True, -10, 200)),
        ({"field": "tax", "min": 0.1}, Check(Field("tax", "decimal", 2), True, 10)),
        ({"field": "weight", "min": "0.1", "max": 2}, Check(Field("weight", "float"), True, 0.1, 2.0)),
        ({"field": "note", "one_of": ["a"]}, Check(Field("note", "string"), allowed=("a",))),
        ({"field": "level", "one_of": [1], "required": False}, Check(Field("level", "int"), False, allowed=(1,))),
        ({"field": "a.b", "type": "string"}, Check(Field("a.b", "string"))),
        ({"field": "a.b", "type": "decimal", "scale": 3, "max": "1e3"}, Check(Field("a.b", "decimal", 3), high=10**6)),
    ],
)
def test_a_check_takes_its_field_s_type(check: dict[str, Any], spec: Check) -> None:
    assert parsed(check=[check]).spec().checks == (spec,)


def test_checks_say_which_fields_a_record_must_have() -> None:
    spec = parsed(
        check=[
            {"field": "level", "type": "int"},
            {"field": "note", "type": "string", "required": False},
            {"field": "note", "one_of": ["a"], "required": False},
            {"field": "amount", "min": 0},
        ]
    ).spec()
    assert [f.path for f in spec.fields] == ["ts", "customer", "shard", "amount", "tax", "weight", "level"]
    assert [f.path for f in spec.optional] == ["note"]


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ({"min": 1}, "source.check[0].field is missing"),
        ({"field": "a b"}, "source.check[0].field = 'a b'"),
        ({"field": "x", "mni": 1}, "source.check[0].mni is no setting"),
        ({"field": "x", "type": "money"}, "source.check[0].type = 'money': Input should be 'string', 'int', 'decimal'"),
        ({"field": "x", "scale": 2}, 'scale = 2 goes with type = "decimal", not None'),
        ({"field": "x", "required": False}, "source.check[0]: says nothing: give type, min, max or one_of"),
        ({"field": "x"}, "the check of 'x' needs a type: string, int, decimal or float"),
        ({"field": "x", "min": 1}, "the check of 'x' needs a type"),
        ({"field": "amount", "min": True}, "source.check[0].min: True is not a number, or a string that holds one"),
        ({"field": "amount", "max": [1]}, "source.check[0].max: [1] is not a number"),
        ({"field": "amount", "min": "1"}, "min = '1' of 'amount' is no integer, and the field's type is int"),
        ({"field": "amount", "max": 1.5}, "max = 1.5 of 'amount' is no integer, and the field's type is int"),
        ({"field": "amount", "max": 10**38}, "does not fit 38 digits with 0 decimals"),
        ({"field": "customer", "min": 1}, "min = 1 of 'customer': only numbers have bounds, and the field's type is"),
        ({"field": "tax", "min": "x"}, "min = 'x' of 'tax' is no number"),
        ({"field": "tax", "min": float("nan")}, "min = nan of 'tax' is not finite"),
        ({"field": "tax", "min": "0.001"}, "min = '0.001' of 'tax' does not fit 38 digits with 2 decimals"),
        ({"field": "tax", "min": "-1e100"}, "min = '-1e100' of 'tax' does not fit 38 digits with 2 decimals"),
        ({"field": "weight", "max": float("inf")}, "max = inf of 'weight' is not finite"),
        ({"field": "weight", "max": "1e400"}, "max = '1e400' of 'weight' is beyond a double's range"),
        ({"field": "tax", "min": "0.2", "max": 0.1}, "min = '0.2' of 'tax' is above max = 0.1: nothing could pass"),
        ({"field": "amount", "one_of": []}, "source.check[0].one_of = []"),
        ({"field": "amount", "one_of": 1}, "source.check[0].one_of = 1: Input should be a valid list"),
        ({"field": "amount", "one_of": [1, 1.5]}, "source.check[0].one_of[1]: 1.5 is not a string or an integer"),
        ({"field": "amount", "one_of": [True]}, "source.check[0].one_of[0]: True is not a string or an integer"),
        ({"field": "amount", "one_of": [1, "2"]}, "one_of of 'amount' lists '2', but the field's type is int"),
        ({"field": "x", "one_of": ["a", 1]}, "one_of of 'x' lists 1, but the field's type is string"),
        ({"field": "tax", "one_of": [1]}, "one_of of 'tax' goes with a string or an int, not with a decimal"),
        ({"field": "tax", "type": "decimal", "scale": 3}, "declared as decimal (scale 2) and as decimal (scale 3)"),
        ({"field": "customer.x", "type": "int"}, "field 'customer' is a value, so 'customer.x' cannot be inside it"),
        ({"field": "amount", "required": False, "min": 0}, "'amount' has required = false, but the field is needed"),
    ],
)
def test_errors_of_checks(check: dict[str, Any], said: str) -> None:
    with pytest.raises(SurecountError) as caught:
        config.parse(with_source(check=[check]), "shop.toml")
    assert said in caught.value.message
    assert caught.value.message.startswith("shop.toml: ") and "\n" not in caught.value.message
    assert "function-" not in caught.value.message


@pytest.mark.parametrize(
    ("event_id", "fields"),
    [
        ("id", [Field("id", "string")]),
        ({"field": "seq", "type": "int"}, [Field("seq", "int")]),
        ({"field": "id"}, [Field("id", "string")]),
        (["site.id", {"field": "seq", "type": "int"}], [Field("site.id", "string"), Field("seq", "int")]),
    ],
)
def test_event_ids(event_id: Any, fields: list[Field]) -> None:
    pipeline = parsed(event_id=event_id)
    assert pipeline.has_ingest
    assert list(pipeline.spec().event_id) == fields
    assert pipeline.spec().narrow == {f.path for f in fields if f.type == "int"} | {"shard"}
    assert set(fields) <= set(pipeline.spec().fields)
    clean = pipeline.aggregate_spec()
    assert clean.event_id == () and not set(fields) & set(clean.fields)
    assert pipeline.aggregated_topics == ["shop.clean"]
    assert list(pipeline.ingested_topics) == ["orders"]


@pytest.mark.parametrize(
    ("event_id", "said"),
    [
        ("a b", "shop.toml: source.event_id = 'a b': a field has the name that it has in the record"),
        (5, "shop.toml: source.event_id = 5: Input should be a valid string"),
        ([], "shop.toml: source.event_id = []: List should have at least 1 item"),
        (["id", 5], "shop.toml: source.event_id[1] = 5: Input should be a valid string"),
        (["id", "a b"], "shop.toml: source.event_id[1] = 'a b': a field has the name that it has in the record"),
        ({"field": "a b"}, "shop.toml: source.event_id.field = 'a b': a field has the name that it has in the record"),
        ({"fild": "id", "field": "id"}, "shop.toml: source.event_id.fild is no setting"),
        ([{"field": "id", "type": "float"}], "shop.toml: source.event_id[0].type = 'float': Input should be 'string'"),
        (["id", {"field": "id", "type": "int"}], "shop.toml: source: event_id names the field 'id' twice"),
        ({"field": "customer", "type": "int"}, "field 'customer' is declared as string and as int"),
        ("ts", "field 'ts' is declared as int and as string"),
    ],
)
def test_errors_of_event_ids(event_id: Any, said: str) -> None:
    with pytest.raises(SurecountError) as caught:
        config.parse(with_source(event_id=event_id), "shop.toml")
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_topics_alone_need_no_ingest() -> None:
    pipeline = parsed()
    assert not pipeline.has_ingest
    assert pipeline.aggregated_topics == ["orders"]
    assert pipeline.aggregate_spec() == pipeline.spec()
    assert [pathway.name for pathway in pipeline.pathways] == ["main"]


def test_pathways_on_other_clusters_are_relayed() -> None:
    pipeline = parsed(topics=None, pathway=SITES)
    north, south, east = pipeline.pathways
    assert pipeline.has_ingest
    assert [pipeline.is_relayed(p) for p in (north, south, east)] == [False, True, False]
    assert pipeline.relay_topic(south) == "shop.pathway.south"
    assert {topic: pathway.name for topic, pathway in pipeline.ingested_topics.items()} == {
        "north.orders": "north",
        "north.returns": "north",
        "shop.pathway.south": "south",
        "orders": "east",
    }
    assert pipeline.aggregated_topics == ["shop.clean"]
    assert pipeline.kafka_of(north) == pipeline.kafka_of(east) == pipeline.kafka
    assert pipeline.kafka_of(south).bootstrap_servers == "far:9092"
    assert pipeline.kafka_of(south).properties == {"acks": "all"}
    assert pipeline.spec().event_id == ()


FAR = {"name": "far", "topics": ["in"], "bootstrap_servers": "far:9092"}


@pytest.mark.parametrize(
    ("source", "topics", "said"),
    [
        ({"pathway": SITES}, {}, "source: name what is read in source.topics, or in [[source.pathway]] tables: both"),
        ({"topics": None}, {}, "in [[source.pathway]] tables: neither is given"),
        ({"topics": None, "pathway": []}, {}, "in [[source.pathway]] tables: neither is given"),
        ({"topics": None, "pathway": [FAR, FAR]}, {}, "source: two pathways are named 'far'"),
        ({"topics": None, "pathway": [{"name": "a.b", "topics": ["in"]}]}, {}, "source.pathway[0].name = 'a.b'"),
        ({"topics": None, "pathway": [{"name": "a", "topics": []}]}, {}, "source.pathway[0].topics = []"),
        ({"topics": None, "pathway": [{"name": "a"}]}, {}, "source.pathway[0].topics is missing"),
        ({"topics": None, "pathway": ["a"]}, {}, "source.pathway[0] = 'a': Input should be a table"),
        (
            {"topics": None, "pathway": {"name": "a"}},
            {},
            "source.pathway is a table: Input should be a valid list",
        ),
        (
            {"topics": None, "pathway": [{"name": "a", "topics": ["in"], "properties": {"acks": "all"}}]},
            {},
            "pathway 'a' has properties, but no cluster of its own: give its bootstrap_servers",
        ),
        (
            {"topics": None, "pathway": [{"name": "a", "topics": ["shop.pathway.far"]}, FAR]},
            {},
            "topic 'shop.pathway.far' is named twice",
        ),
        ({"topics": None, "pathway": [FAR, {**FAR, "name": "too"}]}, {}, "topic 'in' is named twice"),
        ({"topics": None, "pathway": [{**FAR, "topics": ["in", "in"]}]}, {}, "topic 'in' is named twice"),
        ({"topics": ["shop.clean"], "event_id": "id"}, {}, "topic 'shop.clean' is named twice"),
        ({}, {"duplicates": "d"}, "topics.duplicates = 'd': only ingest tells duplicates; set source.event_id"),
        ({"event_id": "id"}, {"duplicates": "shop.clean"}, "topic 'shop.clean' is named twice"),
        ({"format": "avro"}, {}, "source.format = 'avro': Input should be 'json' or 'cloudevents'"),
        ({"horizon": "1 ms"}, {}, "source.horizon: '1 ms' is outside of 1 s to 30 d"),
    ],
)
def test_errors_of_pathways_and_topics(source: dict[str, Any], topics: dict[str, str], said: str) -> None:
    with pytest.raises(SurecountError) as caught:
        config.parse(with_source(**source) | ({"topics": topics} if topics else {}), "shop.toml")
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_one_name_may_stand_on_two_clusters() -> None:
    assert parsed(topics=None, pathway=[FAR, {"name": "near", "topics": ["in", "shop.rejected"]}]).has_ingest


def test_duplicates_may_have_a_topic_where_there_is_ingest() -> None:
    data = with_source(event_id="id") | {"topics": {"duplicates": "shop.twice"}}
    assert config.parse(data, "shop.toml").topics.duplicates == "shop.twice"
    assert parsed(event_id="id").topics.duplicates is None


def test_cloudevents_are_defaults() -> None:
    spec = parsed(format="cloudevents", event_time=None).spec()
    assert spec.event_time == EventTime("time", "rfc3339")
    assert spec.event_id == (Field("source", "string"), Field("id", "string"))
    assert spec.checks == (Check(Field("specversion", "string"), allowed=("1.0",)),)


def test_cloudevents_defaults_give_way() -> None:
    checks = [{"field": "type", "one_of": ["order"]}, {"field": "amount", "min": 0}]
    pipeline = parsed(format="cloudevents", event_time="kafka", event_id="id", check=checks)
    assert pipeline.spec().event_time == EventTime()
    assert pipeline.spec().event_id == (Field("id", "string"),)
    assert [check.field.path for check in pipeline.spec().checks] == ["specversion", "type", "amount"]
    with pytest.raises(SurecountError, match=r"source\.check\[0\]\.min: True"):
        parsed(format="cloudevents", check=[{"field": "amount", "min": True}])
    with pytest.raises(SurecountError, match=r"source\.check = 5: Input should be a valid list"):
        parsed(format="cloudevents", check=5)


def test_the_schema_takes_what_the_model_takes() -> None:
    validator = Draft202012Validator(config.json_schema())
    checks = [{"field": "tax", "min": "-0.1", "max": 2.5}, {"field": "shard", "min": 1, "one_of": [1, 2]}]
    for source in ({"topics": None, "pathway": SITES}, {"event_id": ["a", {"field": "b", "type": "int"}]}):
        data = with_source(**source, check=checks)
        config.parse(data, "shop.toml")
        assert [e.message for e in validator.iter_errors(data)] == []
    assert list(validator.iter_errors(with_source(check=[{"field": "x", "min": True}])))
