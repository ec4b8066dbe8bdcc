"""Every rule of docs/records.md, and the fast way against the complete rules."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surecount.audit import exact
from surecount.audit.truth import Truth
from surecount.config import Pipeline, parse
from surecount.errors import SurecountError

NOW = 1_790_000_000_000
YEAR = 365 * 86_400_000


def pipeline(*, event_time: Any = None, **source: Any) -> Pipeline:
    return parse(
        {
            "name": "shop",
            "source": {
                "topics": ["shop.orders"],
                "event_time": event_time or {"field": "ts"},
                "max_value": "4 KiB",
                **source,
            },
            "aggregate": [
                {
                    "name": "by_who",
                    "key": ["who.name", {"field": "shard", "type": "int"}],
                    "sum": [
                        "amount",
                        {"field": "tax", "type": "decimal", "scale": 2},
                        {"field": "weight", "type": "float"},
                    ],
                    "window": "1 min",
                },
                {"name": "by_shard", "key": [{"field": "shard", "type": "int"}], "window": "1 h"},
            ],
        },
        "test",
    )


GOOD: dict[str, Any] = {
    "ts": NOW,
    "who": {"name": "ada", "x": 1},
    "shard": 7,
    "amount": 3,
    "tax": 1.25,
    "weight": 0.5,
    "free": "text",
}
TRUTH = Truth(pipeline())


def text(**changed: str) -> bytes:
    """GOOD as JSON, with some fields' texts replaced, or left out where they are empty."""
    fields = {name: json.dumps(value) for name, value in GOOD.items()} | changed
    return ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items() if value) + "}").encode()


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


REJECTED: list[tuple[str, bytes | None]] = [
    ("tombstone", None),
    ("value_too_large", text(free=json.dumps("x" * 4096))),
    ("value_too_large", b" " * 5000),
    ("empty", b""),
    ("empty", b" \t\r\n"),
    ("invalid_utf8", b'{"ts":"\xff"}'),
    ("invalid_utf8", b"\xed\xa0\x80"),
    ("not_json", b"{"),
    ("not_json", b"\x00"),
    ("not_json", b"\xef\xbb\xbf" + text()),
    ("not_json", text() + b"{}"),
    ("not_json", text(free='"\\ud800"')),
    ("nesting_too_deep", ("[" * 1500).encode()),
    ("nesting_too_deep", text(free=deep(200))),
    ("nesting_too_deep", deep(201).encode()),
    ("not_an_object", deep(200).encode()),
    ("not_an_object", b'"text"'),
    ("not_an_object", b"null"),
    ("duplicate_field", text(amount='3,"amount":3')),
    ("duplicate_field", text(amount='3,"\\u0061mount":3')),
    ("duplicate_field", text(who='{"name":"ada"},"who":{"name":"ada"}')),
    ("duplicate_field", text(who='{"name":"ada","name":"ada"}')),
    ("duplicate_field", text(ts="", amount='3,"amount":3')),
    ("missing_field", text(ts="")),
    ("missing_field", text(who="")),
    ("missing_field", text(who="{}")),
    ("missing_field", b"{}"),
    ("null_field", text(shard="null")),
    ("null_field", text(who='{"name":null}')),
    ("mistyped_field", text(ts='"1"')),
    ("mistyped_field", text(ts=f"{NOW}.0")),
    ("mistyped_field", text(who='{"name":1}')),
    ("mistyped_field", text(who='"ada"')),
    ("mistyped_field", text(amount="1.0")),
    ("mistyped_field", text(amount="1e2")),
    ("mistyped_field", text(amount="true")),
    ("mistyped_field", text(amount="[]")),
    ("mistyped_field", text(tax='"1,5"')),
    ("mistyped_field", text(tax='" 1"')),
    ("mistyped_field", text(tax='"NaN"')),
    ("mistyped_field", text(weight='"1"')),
    ("not_finite", text(weight="NaN")),
    ("not_finite", text(free="[-Infinity]")),
    ("not_finite", text(weight="1e400")),
    ("not_finite", text(weight="1" + "0" * 400)),
    ("integer_too_large", text(amount="1" + "0" * 38)),
    ("integer_too_large", text(amount="-1" + "0" * 38)),
    ("integer_too_large", text(ts="1" + "0" * 38)),
    ("integer_too_large", text(shard=str(1 << 63))),
    ("integer_too_large", text(shard=str(-(1 << 63) - 1))),
    ("too_many_decimals", text(tax="1.255")),
    ("too_many_decimals", text(tax='"0.001"')),
    ("too_many_decimals", text(tax="1e37")),
    ("too_many_decimals", text(tax="0.1000000000000000055511151231257827")),
    ("event_time_negative", text(ts="-1")),
    ("event_time_unit", text(ts=str(NOW // 1000))),
    ("event_time_unit", text(ts=str(NOW * 1000))),
    ("event_time_unit", text(ts=str(NOW * 1_000_000))),
    ("event_time_out_of_range", text(ts=str(253_402_300_800_000))),
    ("event_time_ahead", text(ts=str(NOW + 60_001))),
    # The first field at fault gives the reason, whatever is wrong with those that follow.
    ("missing_field", text(ts="", amount="null")),
    ("null_field", text(ts="null", amount="1.5")),
    ("mistyped_field", text(ts="-1", amount="1.5")),
]


@pytest.mark.parametrize(("reason", "value"), REJECTED, ids=[f"{r}-{i}" for i, (r, _) in enumerate(REJECTED)])
def test_rejects(reason: str, value: bytes | None) -> None:
    assert TRUTH.judge(value, NOW) == reason
    # Its good neighbours are judged as if it were not there.
    good = text()
    verdicts = TRUTH.judge_all([good, value, good, good], [NOW] * 4)
    assert [type(verdict) for verdict in verdicts] == [tuple, str, tuple, tuple]


ACCEPTED: list[tuple[str, bytes, int, object]] = [
    ("ts", text(), 0, NOW),
    ("who.name", text(), 1, "ada"),
    ("who.name", text(who='{"name":"\\u0061d\\/a"}'), 1, "ad/a"),
    ("shard", text(shard="-9223372036854775808"), 2, -(1 << 63)),
    ("amount", text(amount="-0"), 3, 0),
    ("amount", text(amount="9" * 38), 3, 10**38 - 1),
    ("amount", text(amount="-" + "9" * 38), 3, 1 - 10**38),
    ("tax", text(), 4, 125),
    ("tax", text(tax="1.2500"), 4, 125),
    ("tax", text(tax='"1.25"'), 4, 125),
    ("tax", text(tax='"+.5e1"'), 4, 500),
    ("tax", text(tax="123456789012345678901234567890.12"), 4, 12345678901234567890123456789012),
    ("tax", text(tax="125e-2"), 4, 125),
    ("tax", text(tax="1.25", free='"\\"tax\\":9"'), 4, 125),
    ("tax", text(tax="7"), 4, 700),
    ("weight", text(), 5, exact.float_units(0.5)),
    ("weight", text(weight="3"), 5, exact.float_units(3.0)),
    ("weight", text(weight="1e-400"), 5, 0),
    ("weight", text(weight="1" + "0" * 300), 5, exact.float_units(1e300)),
    ("free", text(free=deep(199)), 0, NOW),
    ("free", text(free=f'{{"amount":1,"ts":{deep(9)}}}'), 0, NOW),
    ("free", text(free='1,"free":2'), 0, NOW),
    ("free", text(free="1e400"), 0, NOW),
    ("ts", text(ts=str(NOW + 60_000)), 0, NOW + 60_000),
    ("ts", text(ts=str(NOW - 11 * YEAR)), 0, NOW - 11 * YEAR),
    ("ts", text(ts="0"), 0, 0),
]


@pytest.mark.parametrize(("field", "value", "index", "expected"), ACCEPTED, ids=range(len(ACCEPTED)))
def test_accepts(field: str, value: bytes, index: int, expected: object) -> None:
    row = TRUTH.judge(value, NOW)
    assert isinstance(row, tuple), (field, row)
    assert row[index] == expected
    assert row == TRUTH.judge_strictly(value, NOW)


def test_plans_find_keys_and_sums() -> None:
    row = TRUTH.judge(text(), NOW)
    assert isinstance(row, tuple)
    by_who, by_shard = TRUTH.plans
    assert by_who.key_of(row) == ("ada", 7)
    assert [row[at] for at in by_who.sums_at] == [3, 125, exact.float_units(0.5)]
    assert by_shard.key_of(row) == (7,)


VALUES = st.sampled_from(
    [
        *["1", "-0", "1.5", "1.25", "1e2", "null", '"ada"', '"1.5"', "true", "[]", "{}", '{"name":"a"}', "NaN"],
        *[
            "1e999",
            '{"name":"a","name":"b"}',
            '"\\u0061"',
            '"\\"ts\\":1"',
            str(1 << 63),
            "9" * 39,
            str(NOW),
            str(NOW * 1000),
        ],
    ]
)
NAMES = st.sampled_from([*GOOD, "\\u0074s", 't"s', "name"]).map(
    lambda name: f'"{name}"' if '"' not in name else json.dumps(name)
)


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=3),
    st.lists(st.tuples(st.sampled_from(sorted(GOOD)), VALUES), max_size=2),
    st.sampled_from([",", " , ", ",,"]),
    st.integers(-1, NOW + 1),
)
def test_the_fast_way_agrees_with_the_rules(
    more: list[tuple[str, str]], changed: list[tuple[str, str]], comma: str, timestamp: int
) -> None:
    value = text(**dict(changed))[1:-1].decode()
    record = ("{" + comma.join([value, *(f"{name}:{inner}" for name, inner in more)]) + "}").encode()
    for stamp in (NOW, timestamp):
        assert TRUTH.judge(record, stamp) == TRUTH.judge_strictly(record, stamp)


@pytest.mark.parametrize(
    ("unit", "written", "verdict"),
    [
        ("s", NOW // 1000, NOW),
        ("us", NOW * 1000 + 999, NOW),
        ("ns", NOW * 1_000_000 + 999_999, NOW),
        ("us", -1, "event_time_negative"),
        ("s", NOW, "event_time_unit"),
        ("ns", NOW * 1000, "event_time_unit"),
        ("rfc3339", "2026-09-21T14:13:20Z", NOW),
        ("rfc3339", "2026-09-21T16:13:20.0009+02:00", NOW),
        ("rfc3339", "2026-09-21", "event_time_out_of_range"),
        ("rfc3339", "9999-12-31T23:59:59-00:01", "event_time_out_of_range"),
        ("rfc3339", "1969-12-31T23:59:59.9999Z", "event_time_negative"),
        ("rfc3339", "2026-09-21T14:15:20Z", "event_time_ahead"),
        ("rfc3339", NOW, "mistyped_field"),
    ],
)
def test_event_times_in_units(unit: str, written: object, verdict: object) -> None:
    truth = Truth(pipeline(event_time={"field": "ts", "unit": unit}))
    value = text(ts=json.dumps(written))
    judged = truth.judge(value, NOW)
    assert (judged[0] if isinstance(judged, tuple) else judged) == verdict
    assert judged == truth.judge_strictly(value, NOW)


def test_kafka_s_timestamp_as_event_time() -> None:
    truth = Truth(pipeline(event_time="kafka"))
    judged = truth.judge(text(ts='"whatever"'), NOW)
    assert isinstance(judged, tuple) and judged[0] == NOW
    for no_time in (-1, 0, NOW // 1000, NOW * 1000, (1 << 63) - 1):
        assert truth.judge(text(), no_time) == truth.judge_strictly(text(), no_time) == "kafka_timestamp"


def by_row(value: bytes) -> Any:
    """A user's function: JSON, by the standard library."""
    return json.loads(value)


def by_batch(values: pa.BinaryArray) -> pa.Table:
    """A user's function for batches."""
    return pa.Table.from_pylist([json.loads(value.as_py()) for value in values])


by_batch.surecount_batch = True  # type: ignore[attr-defined]


def by_columns(values: pa.BinaryArray) -> pa.Table:
    """A user's function for batches, with columns named by paths."""
    table = by_batch(values)
    return table.append_column("who.name", pa.compute.struct_field(table["who"], "name")).drop(["who"])


by_columns.surecount_batch = True  # type: ignore[attr-defined]


@pytest.mark.parametrize("function", ["by_row", "by_batch", "by_columns"])
def test_a_user_s_decode_function(function: str) -> None:
    truth = Truth(pipeline(decode=f"{__name__}:{function}"))
    values = [text(), None, b"nonsense", text(amount="null"), b"x" * 5000, text(weight="2.5")]
    verdicts = truth.judge_all(values, [NOW] * len(values))
    assert verdicts[1:5] == ["tombstone", "decode_failed", "null_field", "value_too_large"]
    assert verdicts[0] == TRUTH.judge(values[0], NOW)
    assert verdicts[5] == TRUTH.judge(values[5], NOW)


PYTHON_VALUES: list[tuple[str, object, object]] = [
    ("amount", True, "mistyped_field"),
    ("amount", 10**38, "integer_too_large"),
    ("amount", math.nan, "mistyped_field"),
    ("amount", 2.0, "mistyped_field"),
    ("shard", 1 << 63, "integer_too_large"),
    ("tax", Decimal("1.25"), 125),
    ("tax", Decimal("1.255"), "too_many_decimals"),
    ("tax", Decimal("Infinity"), "not_finite"),
    ("tax", 1.25, 125),
    ("tax", 10**5000, "too_many_decimals"),
    ("tax", math.nan, "not_finite"),
    ("weight", Decimal("2.5"), 125),
    ("weight", Decimal("sNaN"), "not_finite"),
    ("weight", 10**400, "not_finite"),
    ("weight", math.inf, "not_finite"),
    ("who", {"name": b"ada"}, "mistyped_field"),
]


@pytest.mark.parametrize(("field", "value", "verdict"), PYTHON_VALUES, ids=range(len(PYTHON_VALUES)))
def test_python_values_are_read_like_json(
    field: str, value: object, verdict: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.by_row", lambda _value: {**GOOD, field: value})
    judged = Truth(pipeline(decode=f"{__name__}:by_row")).judge(b"x", NOW)
    assert (judged[4] if isinstance(judged, tuple) else judged) == verdict


def test_no_mapping_is_no_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.by_row", lambda _value: None)
    assert Truth(pipeline(decode=f"{__name__}:by_row")).judge(b"x", NOW) == "not_an_object"


@pytest.mark.parametrize("path", ["no_such_module:decode", f"{__name__}:no_such_function"])
def test_a_function_that_cannot_be_loaded(path: str) -> None:
    with pytest.raises(SurecountError, match="cannot be loaded"):
        Truth(pipeline(decode=path))
