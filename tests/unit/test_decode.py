"""udfs.decode: every reason of docs/records.md, and that a record's fate never depends on its neighbours."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from udfs import reasons
from udfs.decode import Batch, Columns, Decoder, Rejected, batchwise
from udfs.spec import Aggregate, EventTime, Field, Spec

NOW = 1_769_904_000_000
SPEC = Spec(
    aggregates=(
        Aggregate(
            "a",
            (Field("customer", "string"), Field("shop.id", "int")),
            (Field("amount", "int"), Field("shop.tax", "decimal", 2), Field("weight", "float")),
            60_000,
        ),
    ),
    event_time=EventTime("ts", "ms"),
    max_ahead_ms=60_000,
    max_value_bytes=1 << 20,
    buckets=16,
)
GOOD: dict[str, Any] = {
    "ts": NOW,
    "customer": "ada",
    "shop": {"id": 7, "tax": 1.25},
    "amount": 5,
    "weight": 0.5,
}


def record(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def raw(old: str, new: str) -> bytes:
    text = json.dumps(GOOD)
    assert old in text
    return text.replace(old, new).encode()


def decode(values: list[bytes | None], spec: Spec = SPEC) -> tuple[Columns, list[Rejected]]:
    return Decoder(spec)(Batch(pa.array(values, pa.binary()), np.full(len(values), NOW, np.int64)))


DEEP = b"[" * 10_000 + b"]" * 10_000
BAD: dict[str, tuple[bytes | None, str]] = {
    "tombstone": (None, reasons.TOMBSTONE),
    "5 MB": (record(note="x" * 5_000_000), reasons.VALUE_TOO_LARGE),
    "empty": (b"", reasons.EMPTY),
    "blank": (b" \n\t", reasons.EMPTY),
    "invalid UTF-8": (raw('"ada"', '"a"').replace(b'"a"', b'"\xff"'), reasons.INVALID_UTF8),
    "invalid UTF-8 in a field nobody reads": (record(x="Q").replace(b'"Q"', b'"\xff"'), reasons.INVALID_UTF8),
    "text": (b"hello", reasons.NOT_JSON),
    "cut off": (record()[:-1], reasons.NOT_JSON),
    "two documents": (record() + b" " + record(), reasons.NOT_JSON),
    "two documents without space": (record() + record(), reasons.NOT_JSON),
    "byte order mark": (b"\xef\xbb\xbf" + record(), reasons.NOT_JSON),
    "lone surrogate": (raw('"ada"', '"\\ud800"'), reasons.NOT_JSON),
    "deep": (raw('"amount": 5', '"amount": 5, "x": ' + DEEP.decode()), reasons.NESTING_TOO_DEEP),
    "deep and nothing else": (DEEP, reasons.NESTING_TOO_DEEP),
    "array": (b"[]", reasons.NOT_AN_OBJECT),
    "number": (b"5", reasons.NOT_AN_OBJECT),
    "null": (b"null", reasons.NOT_AN_OBJECT),
    "name twice": (raw('"amount": 5', '"amount": 5, "amount": 5'), reasons.DUPLICATE_FIELD),
    "name twice, escaped": (raw('"amount": 5', '"amount": 5, "\\u0061mount": 6'), reasons.DUPLICATE_FIELD),
    "object twice": (raw('"amount": 5', '"amount": 5, "shop": {}'), reasons.DUPLICATE_FIELD),
    "inner name twice": (raw('"id": 7', '"id": 7, "id": 7'), reasons.DUPLICATE_FIELD),
    "missing": (b'{"ts": 1}', reasons.MISSING_FIELD),
    "missing object": (raw('"shop"', '"shap"'), reasons.MISSING_FIELD),
    "null field": (record(amount=None), reasons.NULL_FIELD),
    "null object": (record(shop=None), reasons.NULL_FIELD),
    "fraction for int": (record(amount=1.0), reasons.MISTYPED_FIELD),
    "exponent for int": (raw('"amount": 5', '"amount": 5e0'), reasons.MISTYPED_FIELD),
    "string for int": (record(amount="5"), reasons.MISTYPED_FIELD),
    "boolean for int": (record(amount=True), reasons.MISTYPED_FIELD),
    "number for string": (record(customer=5), reasons.MISTYPED_FIELD),
    "value for object": (record(shop=5), reasons.MISTYPED_FIELD),
    "boolean for float": (record(weight=False), reasons.MISTYPED_FIELD),
    "text for decimal": (record(shop={"id": 7, "tax": "a"}), reasons.MISTYPED_FIELD),
    "NaN": (record(weight=float("nan")), reasons.NOT_FINITE),
    "infinity": (record(weight=float("inf")), reasons.NOT_FINITE),
    "-infinity for int": (record(amount=float("-inf")), reasons.NOT_FINITE),
    "NaN where nobody reads": (record(x=float("nan")), reasons.NOT_FINITE),
    "beyond a double": (raw('"weight": 0.5', '"weight": 1e400'), reasons.NOT_FINITE),
    "39 digits": (record(amount=10**38), reasons.INTEGER_TOO_LARGE),
    "5,000 digits": (raw('"amount": 5', '"amount": ' + "9" * 5000), reasons.INTEGER_TOO_LARGE),
    "65 bits for a key": (record(shop={"id": 1 << 63, "tax": 1}), reasons.INTEGER_TOO_LARGE),
    "three decimals": (record(shop={"id": 7, "tax": 1.255}), reasons.TOO_MANY_DECIMALS),
    "38 digits before two decimals": (record(shop={"id": 7, "tax": 10**37}), reasons.TOO_MANY_DECIMALS),
    "1e999999999": (raw('"tax": 1.25', '"tax": 1e999999999'), reasons.TOO_MANY_DECIMALS),
    "before 1970": (record(ts=-1), reasons.EVENT_TIME_NEGATIVE),
    "seconds": (record(ts=NOW // 1000), reasons.EVENT_TIME_UNIT),
    "microseconds": (record(ts=NOW * 1000), reasons.EVENT_TIME_UNIT),
    "absurd": (record(ts=10**30), reasons.EVENT_TIME_OUT_OF_RANGE),
    "year 2999": (record(ts=32_472_144_000_000), reasons.EVENT_TIME_AHEAD),
    "a minute ahead": (record(ts=NOW + 60_001), reasons.EVENT_TIME_AHEAD),
}  # fmt: skip

FINE: dict[str, tuple[bytes, str, Any]] = {
    "white space around": (b" " + record() + b"\n", "amount", 5),
    "spread over lines": (json.dumps(GOOD, indent=1).encode(), "amount", 5),
    "38 digits": (record(amount=10**38 - 1), "amount", 10**38 - 1),
    "65 bits": (record(amount=-(1 << 64)), "amount", -(1 << 64)),
    "minus zero": (raw('"amount": 5', '"amount": -0'), "amount", 0),
    "decimal in a string": (record(shop={"id": 7, "tax": "-12.3"}), "shop.tax", -1230),
    "decimal zeros": (raw("1.25", "1.2500"), "shop.tax", 125),
    "exact decimal": (raw("1.25", "123456789012345678901234567890123456.78"), "shop.tax",
                      12345678901234567890123456789012345678),
    "int for float": (record(weight=3), "weight", 3.0),
    "unread name twice": (raw('"amount": 5', '"amount": 5, "x": 1, "x": 2'), "amount", 5),
    "emoji": (record(customer="😀"), "customer", "😀"),
    "199 levels": (raw('"amount": 5', '"amount": 5, "x": ' + "[" * 199 + "]" * 199), "amount", 5),
    "brackets in a string": (record(x="[" * 2000), "amount", 5),
    "name in a value": (record(x='"amount"'), "amount", 5),
    "1e999 where nobody reads": (raw('"amount": 5', '"amount": 5, "x": 1e999'), "amount", 5),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("company", [0, 3, 600])
def test_bad_records_have_their_reason_and_spare_their_neighbours(name: str, company: int) -> None:
    value, reason = BAD[name]
    columns, rejected = decode([*[record()] * company, value, *[record()] * company])
    assert [(r.row, r.reason) for r in rejected] == [(company, reason)]
    assert sorted(columns.rows.tolist()) == [i for i in range(2 * company + 1) if i != company]


def test_the_contract_lists_every_reason() -> None:
    text = Path("docs/records.md").read_text(encoding="utf-8")
    codes = {value for name, value in vars(reasons).items() if name.isupper()}
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert {code for row in rows for code in re.findall(r"`(\w+)`", row)} == codes
    of_checks = {reasons.BELOW_MINIMUM, reasons.ABOVE_MAXIMUM, reasons.NOT_ALLOWED}
    elsewhere = {reasons.DECODE_FAILED, reasons.INTERNAL_ERROR, reasons.BEYOND_HORIZON, reasons.KAFKA_TIMESTAMP}
    assert {reason for _, reason in BAD.values()} == codes - of_checks - elsewhere


@pytest.mark.parametrize("name", FINE)
@pytest.mark.parametrize("company", [0, 300])
def test_odd_but_good_records_count(name: str, company: int) -> None:
    value, path, expected = FINE[name]
    columns, rejected = decode([*[record()] * company, value])
    assert rejected == []
    place = columns.rows.tolist().index(company)
    assert columns.fields[path][place].as_py() == expected


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.sampled_from([*BAD, *FINE, "good"]).filter(lambda n: n != "5 MB"), max_size=12), st.randoms())
def test_a_batch_is_its_records_one_by_one(names: list[str], rng: random.Random) -> None:
    values = [record() if n == "good" else (BAD | FINE)[n][0] for n in names for _ in range(rng.choice([1, 300]))]
    columns, rejected = decode(values)
    reasons_together = {r.row: (r.reason, r.detail) for r in rejected}
    alone: dict[bytes | None, tuple[Columns, list[Rejected]]] = {v: decode([v]) for v in set(values)}
    for row, value in enumerate(values):
        single, refused = alone[value]
        assert reasons_together.get(row) == ((refused[0].reason, refused[0].detail) if refused else None)
    for place, row in enumerate(columns.rows.tolist()):
        single = alone[values[row]][0]
        assert columns.time_ms[place] == single.time_ms[0]
        for path, column in columns.fields.items():
            assert column[place].as_py() == single.fields[path][0].as_py()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "id", "tax", "x"]), inner),
    max_leaves=8,
)


@settings(max_examples=examples(150), deadline=None)
@given(
    st.lists(JSON | st.fixed_dictionaries({k: st.just(v) | JSON for k, v in GOOD.items()}), max_size=5),
    st.data(),
)
def test_no_json_raises_and_company_changes_nothing(documents: list[Any], data: st.DataObject) -> None:
    values = [json.dumps(d, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass") for d in documents]
    columns, rejected = decode([*values])
    together = sorted([*columns.rows.tolist(), *(r.row for r in rejected)])
    assert together == list(range(len(values)))
    for r in rejected:
        assert decode([values[r.row]])[1][0].reason == r.reason


@settings(max_examples=examples(150), deadline=None)
@given(st.binary(max_size=40), st.integers(0, 100))
def test_no_bytes_raise(junk: bytes, at: int) -> None:
    value = record()
    broken = value[:at] + junk + value[at + len(junk) :]
    columns, rejected = decode([record(), broken, junk])
    assert len(columns.rows) + len(rejected) == 3


def row_wise(value: bytes) -> dict[str, Any]:
    a, b = value.decode().split(",")
    return {"customer": a, "amount": int(b)}


@batchwise
def batch_wise(values: pa.Array) -> pa.Table:
    rows = [row_wise(v) for v in values.to_pylist()]
    return pa.table({"customer": [r["customer"] for r in rows], "amount": [r["amount"] for r in rows]})


@pytest.mark.parametrize("function", [row_wise, batch_wise])
def test_a_users_function_that_raises_rejects_that_record_with_its_text(
    function: Callable[[Any], Any],
) -> None:
    aggregate = Aggregate("a", (Field("customer", "string"),), (Field("amount", "int"),), 60_000)
    decode_path = f"{__name__}:{function.__name__}"
    spec = Spec((aggregate,), EventTime(), 0, 1 << 20, 4, decode_path)
    columns, rejected = decode([b"ada,1", b"bob,x", b"eve", b"cyd,2", b"\xff"], spec)
    assert [r.row for r in rejected] == [1, 2, 4]
    assert {r.reason for r in rejected} == {reasons.DECODE_FAILED}
    assert "invalid literal for int() with base 10: 'x'" in rejected[0].detail
    assert sorted(zip(columns.rows.tolist(), columns.fields["amount"].to_pylist(), strict=True)) == [
        (0, 1),
        (3, 2),
    ]


def long_names(value: bytes) -> dict[str, Any]:
    return {"customer": "ü" * int(value), "amount": 1}


@batchwise
def long_names_of_many(values: pa.Array) -> pa.Table:
    return pa.Table.from_pylist([long_names(value) for value in values.to_pylist()])


@pytest.mark.parametrize("function", [long_names, long_names_of_many])
def test_texts_of_a_users_function_that_make_a_result_no_sink_could_write(function: Callable[[Any], Any]) -> None:
    aggregate = Aggregate("a", (Field("customer", "string"),), (), 60_000)
    spec = Spec((aggregate,), EventTime(), 0, 1 << 20, 4, f"{__name__}:{function.__name__}")
    columns, rejected = decode([b"1", b"2097152", b"2097153"], spec)
    assert columns.rows.tolist() == [0, 1]
    assert [(r.row, r.reason, r.detail) for r in rejected] == [
        (2, reasons.DECODE_FAILED, "decode returned 4194306 bytes of texts, over 4194304")
    ]


@pytest.mark.parametrize(("unit", "value"), [("s", NOW // 1000), ("us", NOW * 1000 + 999), ("ns", NOW * 10**6 + 1),
                                             ("rfc3339", "2026-02-01T00:00:00.000999Z")])  # fmt: skip
@pytest.mark.parametrize("path", ["ts", "at.ts"])
def test_event_times_in_every_unit_and_at_any_depth(path: str, unit: Any, value: Any) -> None:
    aggregate = Aggregate("a", (Field("k", "string"),), (), 60_000)
    spec = Spec((aggregate,), EventTime(path, unit), 0, 1 << 20, 4)
    good = json.dumps({"ts": value, "at": {"ts": value}, "k": "x"}).encode()
    columns, rejected = decode([good, good, b"x", good], spec)
    assert columns.time_ms.tolist() == [NOW] * 3
    assert len(rejected) == 1


NO_TIMES = [-1, 0, 1, NOW // 1000, NOW * 1000, NOW * 1_000_000, -(1 << 63), (1 << 63) - 1]
"""Kafka timestamps that are missing, or not in ms."""


@pytest.mark.parametrize("company", [0, 300])
@pytest.mark.parametrize("kafka_ms", NO_TIMES)
def test_a_wrong_kafka_timestamp_is_not_held_against_the_event_time(kafka_ms: int, company: int) -> None:
    values = [record(), record(ts=NOW // 1000), record(ts=NOW * 1000), record(ts=10**30), record(ts=-5)]
    stamps = np.array([*[kafka_ms] * len(values), *[NOW] * company], np.int64)
    columns, rejected = Decoder(SPEC)(Batch(pa.array([*values, *[record()] * company], pa.binary()), stamps))
    assert sorted(columns.rows.tolist()) == [0, *range(len(values), len(values) + company)]
    assert set(columns.time_ms.tolist()) == {NOW}
    assert [r.reason for r in rejected] == [
        reasons.EVENT_TIME_UNIT, reasons.EVENT_TIME_UNIT, reasons.EVENT_TIME_OUT_OF_RANGE, reasons.EVENT_TIME_NEGATIVE,
    ]  # fmt: skip


@pytest.mark.parametrize("kafka_ms", NO_TIMES)
def test_a_wrong_kafka_timestamp_that_is_the_event_time_is_blamed(kafka_ms: int) -> None:
    spec = replace(SPEC, event_time=EventTime())
    columns, rejected = Decoder(spec)(Batch(pa.array([record()] * 3, pa.binary()), np.array([NOW, kafka_ms, NOW])))
    assert columns.rows.tolist() == [0, 2]
    assert [(r.row, r.reason) for r in rejected] == [(1, reasons.KAFKA_TIMESTAMP)]
    assert f"the Kafka timestamp {kafka_ms} is no time" in rejected[0].detail


def test_the_least_integer_of_seconds_does_not_wrap_around_to_1970() -> None:
    spec = Spec((Aggregate("a", (Field("k", "string"),), (), 60_000),), EventTime("ts", "s"), 0, 1 << 20, 4)
    _, rejected = Decoder(spec)(
        Batch(pa.array([b'{"ts":%d,"k":"x"}' % -(1 << 63)], pa.binary()), np.zeros(1, np.int64))
    )
    assert [r.reason for r in rejected] == [reasons.EVENT_TIME_NEGATIVE]
