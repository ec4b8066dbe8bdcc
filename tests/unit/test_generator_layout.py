"""Generated records have the fields that the pipeline names, in the types that it declares."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from surecount import config
from surecount.errors import SurecountError
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
    return Layout(shop, plan(shop, Options(10_000, keys, start_ms=START), NOW), seed)


def only(made: Layout, event: int) -> str:
    return made.values(np.array([event]))[0].decode()


def test_a_plain_event() -> None:
    made = layout({"event_time": {"field": "ts"}, "event_id": "id"}, {"key": ["customer"], "sum": ["amount"]})
    # Key 17 in round 12, which is the third of the second window.
    assert only(made, 1_217) == ('{"id":"697e8970-0-1217","ts":1769900473020,"customer":"customer-000017","amount":3}')
    assert made.keys(np.array([1_217])) == [b"customer-000017"]


def test_nested_fields_share_their_objects() -> None:
    made = layout(
        {"event_time": {"field": "meta.ts"}, "event_id": ["meta.id", "meta.ts"]},
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


def test_an_id_inside_a_value_is_refused() -> None:
    with pytest.raises(SurecountError, match=r"event_id = 'customer\.id'.*'customer'"):
        layout({"event_id": "customer.id"}, {"key": ["customer"]})
    with pytest.raises(SurecountError, match="event_id = 'id'"):
        layout({"event_id": ["id", "id.part"]}, {"key": ["customer"]})


def test_render_writes_a_path_twice_where_it_comes_twice() -> None:
    assert render([("a.b", "1"), ("c", "2"), ("a.b", "3")]) == '{"a":{"b":1,"b":3},"c":2}'
