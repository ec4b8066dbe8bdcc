"""Generated records have the fields that the pipeline names, in the types that it declares."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from surecount import config
from surecount.generator import layout as module
from surecount.generator.layout import Layout, render
from surecount.generator.options import Options, parse_start
from surecount.generator.plan import plan

START = parse_start("2026-01-31T23:00:00Z")
NOW = START + 86_400_000


def layout(source: dict[str, Any], *aggregates: dict[str, Any], keys: int = 100, seed: int = 0) -> Layout:
    data = {
        "name": "shop",
        "source": {"topics": ["shop.orders"], **source},
        "aggregate": [{"name": f"a{n}", "window": "1 min", **a} for n, a in enumerate(aggregates)],
    }
    shop = config.parse(data, "test")
    return Layout(plan(shop, Options(10_000, keys, start_ms=START), NOW), seed)


def only(made: Layout, event: int) -> str:
    return made.values(np.array([event]))[0].decode()


def test_a_plain_event() -> None:
    made = layout({"event_time": {"field": "ts"}, "event_id": "id"}, {"key": ["customer"], "sum": ["amount"]})
    # Key 17 in round 12, which is the third of the second window.
    assert only(made, 1_217) == ('{"id":"697e8970-0-1217","ts":1769900473020,"customer":"customer-000017","amount":3}')
    assert made.keys(np.array([1_217])) == [b"customer-000017"]


def test_nested_fields_share_their_objects() -> None:
    made = layout(
        {"event_time": {"field": "meta.ts"}, "event_id": ["meta.id", {"field": "meta.ts", "type": "int"}]},
        {"key": ["who.id", "where"], "sum": [{"field": "paid.tax", "type": "decimal", "scale": 2}]},
        {"key": ["who.kind"], "sum": [{"field": "paid.tip", "type": "float"}]},
    )
    assert json.loads(only(made, 1_217)) == {
        "meta": {"id": "697e8970-0-1217", "ts": 1769900473020},
        "who": {"id": "id-000017", "kind": "kind-1"},
        "paid": {"tax": 0.03, "tip": 1.5},
        "where": "where-7",
    }
    assert only(made, 1_217).count('"who"') == 1
    assert made.keys(np.array([1_217])) == [b"id-000017|where-7"]


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("s", "1769900473"),
        ("ms", "1769900473020"),
        ("us", "1769900473020000"),
        ("ns", "1769900473020000000"),
        ("rfc3339", '"2026-01-31T23:01:13.020Z"'),
    ],
)
def test_event_times_in_their_unit(unit: str, text: str) -> None:
    made = layout({"event_time": {"field": "ts", "unit": unit}}, {"key": ["customer"]})
    assert only(made, 1_217) == f'{{"ts":{text},"customer":"customer-000017"}}'


def test_ints_as_keys_and_decimals_to_the_last_digit() -> None:
    made = layout(
        {},
        {
            "key": [{"field": "shop", "type": "int"}, {"field": "till", "type": "int"}],
            "sum": [
                {"field": "fine", "type": "decimal", "scale": 38},
                {"field": "whole", "type": "decimal"},
            ],
        },
    )
    assert only(made, 317) == '{"shop":17,"till":7,"fine":0.' + "0" * 37 + '4,"whole":8}'
    assert made.keys(np.array([317])) == [b"17|7"]


def test_names_may_hold_anything_that_a_path_may() -> None:
    made = layout({"event_time": {"field": "größe%s"}}, {"key": ["100%", "%d.{x}"], "sum": ["€"]})
    assert list(json.loads(only(made, 0))) == ["größe%s", "100%", "%d", "€"]


def test_tables_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shape: list[Any] = [
        {"event_time": {"field": "ts"}},
        {"key": ["customer", "country"], "sum": ["amount", {"field": "tax", "type": "float"}]},
    ]
    some = np.arange(0, 10_000, 7)
    by_table = layout(*shape)
    monkeypatch.setattr(module, "_TABLE", 0)
    without = layout(*shape)
    assert by_table.values(some) == without.values(some)
    assert by_table.keys(some) == without.keys(some)


INT_ID: dict[str, Any] = {"event_id": {"field": "id", "type": "int"}}


def ids(made: Layout) -> set[Any]:
    return {json.loads(value)["id"] for value in made.values(np.arange(10_000))}


@pytest.mark.parametrize("source", [{"event_id": "id"}, INT_ID])
def test_ids_differ_within_a_run_and_between_runs(source: dict[str, Any]) -> None:
    key = {"key": ["customer"]}
    some, same, others = ids(layout(source, key)), ids(layout(source, key)), ids(layout(source, key, seed=1))
    assert len(some | others) == 20_000
    assert some == same


def test_int_ids_have_64_bits_and_pass_their_checks() -> None:
    assert all(0 <= number < 1 << 63 for number in ids(layout(INT_ID, {"key": ["customer"]})))
    exact = {"field": "id", "min": -5, "max": 9_994}
    assert ids(layout({**INT_ID, "check": [exact]}, {"key": ["customer"]})) == set(range(-5, 9_995))


def test_ids_that_are_listed_come_in_turn_beside_unique_ones() -> None:
    source = {"event_id": ["shop", "id"], "check": [{"field": "shop", "one_of": ["n", "s"]}]}
    made = [json.loads(value) for value in layout(source, {"key": ["customer"]}).values(np.arange(4))]
    assert [record["shop"] for record in made] == ["n", "s", "n", "s"]
    assert len({record["id"] for record in made}) == 4


def test_fields_of_checks_alone() -> None:
    made = layout(
        {
            "check": [
                {"field": "kind", "one_of": ["a", "größe", "%s"]},
                {"field": "meta.rank", "type": "int", "min": 3},
                {"field": "meta.rate", "type": "decimal", "scale": 2, "min": "0.10", "max": "0.12"},
                {"field": "meta.heat", "type": "float", "max": -1.5},
                {"field": "text", "type": "string"},
                {"field": "note", "one_of": ["x", "y"], "required": False},
                {"field": "extra.far", "type": "int", "required": False},
            ]
        },
        {"key": ["customer"]},
    )
    records = [json.loads(value) for value in made.values(np.arange(6))]
    assert [record["kind"] for record in records] == ["a", "größe", "%s"] * 2
    assert [record["meta"]["rank"] for record in records] == [3, 4, 5, 6, 7, 8]
    assert [record["meta"]["rate"] for record in records] == [0.1, 0.11, 0.12] * 2
    assert {record["meta"]["heat"] for record in records} == {-1.5}
    assert [record["text"] for record in records[:2]] == ["text-0", "text-1"]
    assert [record.get("note") for record in records] == ["x", None, "y", None, "x", None]
    assert [record.get("extra") for record in records[:2]] == [{"far": 0}, None]
    assert set(made.texts(1)) == {"customer", "kind", "meta.rank", "meta.rate", "meta.heat", "text"}


def test_keys_take_values_that_pass() -> None:
    shape: dict[str, Any] = {"key": [{"field": "shop", "type": "int"}, "country", {"field": "till", "type": "int"}]}
    checks = [
        {"field": "shop", "min": 1, "max": 100},
        {"field": "country", "one_of": ["NL", "DE", "FR"]},
        {"field": "till", "max": -4},
    ]
    made = layout({"check": checks}, shape)
    records = [json.loads(value) for value in made.values(np.arange(100))]
    assert [record["shop"] for record in records] == [*range(1, 101)]
    # 100 keys have room for 2 countries with as many tills each.
    assert {record["country"] for record in records} == {"NL", "DE"}
    assert {record["till"] for record in records} == {*range(-13, -3)}
    assert made.keys(np.array([1])) == [b"2|DE|-13"]


def test_a_cloudevent() -> None:
    key = {"key": ["type"], "sum": ["data.amount"]}
    record = json.loads(only(layout({"format": "cloudevents"}, key), 1_217))
    assert record == {
        "source": "697e8970-0-1217",
        "id": "697e8970-0-1217",
        "time": "2026-01-31T23:01:13.020Z",
        "type": "type-000017",
        "data": {"amount": 3},
        "specversion": "1.0",
    }


def test_render_writes_a_path_twice_where_it_comes_twice() -> None:
    assert render([("a.b", "1"), ("c", "2"), ("a.b", "3")]) == '{"a":{"b":1,"b":3},"c":2}'
