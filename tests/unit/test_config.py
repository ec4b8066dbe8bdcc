"""surecount.config: defaults, and errors that name file, field, value and what would be right."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surecount import config, templates
from surecount.errors import SurecountError

SHOP: dict[str, Any] = tomllib.loads(Path("examples/shop.toml").read_text(encoding="utf-8"))


def changed(path: str, value: Any) -> dict[str, Any]:
    data = copy.deepcopy(SHOP)
    *outer, last = path.split(".")
    level: Any = data
    for part in outer:
        level = level[int(part)] if part.isdigit() else level.setdefault(part, {})
    level[last] = value
    return data


def test_defaults() -> None:
    pipeline = config.parse(SHOP, "shop.toml")
    assert pipeline.topics.all == ("shop.results", "shop.corrections", "shop.rejects")
    assert pipeline.source.max_ahead == 60_000
    assert [f.path for f in pipeline.spec().fields] == ["ts", "customer", "amount", "country", "tax"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("source.out_of_orderness", "5 sec", "shop.toml: source.out_of_orderness: '5 sec' is not a duration"),
        ("source.out_of_orderness", 5, "source.out_of_orderness: 5 is not a duration"),
        ("source.out_of_orderness", "9 d", "'9 d' is outside of 0 s to 7 d"),
        ("source.max_value", "1 MB", "source.max_value: '1 MB' is not a size"),
        ("source.topics", [], "neither is given"),
        ("source.event_time", "kafkaa", "source.event_time = 'kafkaa': Input should be 'kafka'"),
        ("source.event_time.unit", "days", "source.event_time.unit = 'days': Input should be 's', 'ms'"),
        ("source.event_time.field", "a b", "source.event_time.field = 'a b'"),
        ("source.decode", "mine.py", "source.decode = 'mine.py'"),
        ("aggregate", [], "aggregate = []"),
        ("aggregate.0.key", [], "aggregate[0].key = []"),
        ("aggregate.0.window", 60, "aggregate[0].window: 60 is not a duration"),
        ("aggregate.0.name", "per customer", "aggregate[0].name = 'per customer'"),
        ("aggregate.0.name", "per_country", "two aggregates are named 'per_country'"),
        ("aggregate.0.sum", ["customer"], "names the field 'customer' twice"),
        ("aggregate.0.sum", [3], "aggregate[0].sum[0] = 3"),
        ("aggregate.0.sum", [{"field": "x", "scale": 2}], 'scale = 2 goes with type = "decimal"'),
        (
            "aggregate.0.sum",
            [{"field": "x", "type": "money"}],
            "sum[0].type = 'money': Input should be 'int'",
        ),
        ("aggregate.0.sum", ["tax"], "'tax' is declared as int and as decimal (scale 2)"),
        ("aggregate.0.sum", ["country.x"], "'country' is a value, so 'country.x' cannot be inside it"),
        ("performance", {"batch_time": "10 s"}, "is less than 6 times performance.batch_time = 10 s"),
        ("topics.results", "shop.orders", "topic 'shop.orders' is named twice"),
        ("name", "Shop", "name = 'Shop'"),
        ("nme", 1, "nme is no setting"),
    ],
)
def test_errors_name_the_field_the_value_and_what_is_right(path: str, value: Any, said: str) -> None:
    with pytest.raises(SurecountError) as caught:
        config.parse(changed(path, value), "shop.toml")
    assert said in caught.value.message
    assert caught.value.message.startswith("shop.toml: ")
    assert "[type=" not in caught.value.message and "function-" not in caught.value.message


def test_a_missing_field_and_a_missing_file(tmp_path: Path) -> None:
    data = copy.deepcopy(SHOP)
    del data["aggregate"][0]["window"]
    with pytest.raises(SurecountError, match=r"aggregate\[0\]\.window is missing"):
        config.parse(data, "shop.toml")
    with pytest.raises(SurecountError, match=r"none\.toml: No such file"):
        config.load(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(SurecountError, match="not valid TOML"):
        config.load(broken)


@given(st.integers(0, 10**12))
def test_durations_read_back(ms: int) -> None:
    assert config.parse_duration(config.format_duration(ms)) == ms


def test_transactional_id_prefixes_never_begin_with_one_another() -> None:
    names = ["shop", "shop2", "shop-2", "shop_"]
    pipelines = [config.parse({**SHOP, "name": name}, "x") for name in names]
    prefixes = [
        p.transactional_id_prefix("aggregate", kind)
        for p in pipelines
        for kind in ("results", "corrections", "rejects")
    ]
    assert not [(a, b) for a in prefixes for b in prefixes if a != b and b.startswith(a)]


def test_the_template_is_a_valid_pipeline_and_its_udf_works(tmp_path: Path) -> None:
    written = templates.write(tmp_path, "new-one")
    pipeline = config.load(written[0])
    assert pipeline.name == "new-one"
    with pytest.raises(SurecountError, match="exists already"):
        templates.write(tmp_path, "new-one")


def test_the_schema_takes_the_example() -> None:
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(config.json_schema())
    assert [e.message for e in validator.iter_errors(SHOP)] == []
    assert list(validator.iter_errors(changed("source.out_of_orderness", "5 sec")))


@pytest.mark.parametrize(
    "content",
    [
        '[kafka]\nproperties = { "sasl.password" = 12345678 }',
        '[kafka]\nproperties = { "sasl.password" = ["12345678"] }',
        '[kafka]\nproperties = "12345678"',
        'kafka = "12345678"',
        'kafka = ["12345678"]',
        'source = { pathway = { properties = { "sasl.password" = "12345678" } } }',
        'source = { pathway = [{ name = "a", topics = ["t"], properties = { "sasl.password" = 12345678 } }] }',
        'source = [{ pathway = [{ properties = { "sasl.password" = "12345678" } }] }]',
        'source = { topics = { "12345678" = { "sasl.password" = "12345678" } } }',
    ],
)
def test_no_error_shows_what_may_be_a_secret(tmp_path: Path, content: str) -> None:
    file = tmp_path / "secret.toml"
    file.write_text(f'name = "secret"\n{content}\n')
    with pytest.raises(SurecountError) as refused:
        config.load(file)
    assert "12345678" not in str(refused.value)
