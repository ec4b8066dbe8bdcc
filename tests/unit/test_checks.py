"""[[source.check]], ids and optional fields in the job's decoder: each reason, and a plain model."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surecount import config
from tests.examples import examples
from udfs import checks, reasons
from udfs.decode import Batch, Columns, Decoder, Rejected, batchwise
from udfs.reasons import RejectedError
from udfs.record import RecordReader
from udfs.spec import Check, Field, Spec

NOW = 1_769_904_000_000
CHECKS: list[dict[str, Any]] = [
    {"field": "amount", "min": 0, "max": 1 << 70},
    {"field": "tax", "min": "-0.10", "max": 99.99},
    {"field": "weight", "min": 0.1, "max": 1},
    {"field": "customer", "one_of": ["ada", "bob", "😀"]},
    {"field": "level", "type": "int", "min": -(1 << 63), "one_of": [1, 2, 1 << 63]},
    {"field": "seq", "max": 9},
    {"field": "note", "required": False, "one_of": ["a", "b"]},
    {"field": "meta.price", "required": False, "type": "decimal", "scale": 3, "min": "0.005"},
    {"field": "meta.deep.ratio", "required": False, "type": "float", "max": 0.5},
    {"field": "meta.age", "required": False, "type": "int", "min": 1, "max": 1 << 64},
]


def spec(**source: Any) -> Spec:
    return config.parse(
        {
            "name": "checked",
            "source": {
                "topics": ["in"],
                "event_time": {"field": "ts"},
                "event_id": ["id", {"field": "seq", "type": "int"}],
                "check": CHECKS,
                **source,
            },
            "aggregate": [
                {
                    "name": "a",
                    "key": ["customer"],
                    "sum": [
                        "amount",
                        {"field": "tax", "type": "decimal", "scale": 2},
                        {"field": "weight", "type": "float"},
                    ],
                    "window": "1 min",
                }
            ],
        },
        "checked.toml",
    ).spec()


SPEC = spec()
GOOD: dict[str, Any] = {
    "ts": NOW,
    "customer": "ada",
    "amount": 5,
    "tax": 1.25,
    "weight": 0.5,
    "id": "e1",
    "seq": 7,
    "level": 1,
}


def record(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def decode(values: list[bytes | None], of: Spec = SPEC) -> tuple[Columns, list[Rejected]]:
    return Decoder(of)(Batch(pa.array(values, pa.binary()), np.full(len(values), NOW, np.int64)))


BAD: dict[str, tuple[bytes, str]] = {
    "no id": (record(id=None), reasons.NULL_FIELD),
    "a number for an id": (record(id=5), reasons.MISTYPED_FIELD),
    "an id of 65 bits": (record(seq=-(1 << 63) - 1), reasons.INTEGER_TOO_LARGE),
    "a required check's field is missing": (json.dumps(GOOD).replace("level", "lvl").encode(), reasons.MISSING_FIELD),
    "a required check's field is mistyped": (record(level="1"), reasons.MISTYPED_FIELD),
    "below": (record(amount=-1), reasons.BELOW_MINIMUM),
    "far below": (record(amount=-(10**37)), reasons.BELOW_MINIMUM),
    "above, over 64 bits": (record(amount=(1 << 70) + 1), reasons.ABOVE_MAXIMUM),
    "a decimal below": (record(tax="-0.11"), reasons.BELOW_MINIMUM),
    "a decimal above": (record(tax=100), reasons.ABOVE_MAXIMUM),
    "the double under the bound": (record(weight=0.09999999999999999), reasons.BELOW_MINIMUM),
    "the double over the bound": (record(weight=1.0000000000000002), reasons.ABOVE_MAXIMUM),
    "a text that is not allowed": (record(customer="eve"), reasons.NOT_ALLOWED),
    "an int that is not allowed": (record(level=3), reasons.NOT_ALLOWED),
    "an int below, before it is not allowed": (record(level=-(1 << 63) - 1), reasons.BELOW_MINIMUM),
    "an id above": (record(seq=10), reasons.ABOVE_MAXIMUM),
    "an optional text that is not allowed": (record(note="c"), reasons.NOT_ALLOWED),
    "an optional text mistyped": (record(note=1), reasons.MISTYPED_FIELD),
    "an optional text twice": (record().replace(b"}", b', "note": "a", "note": "a"}'), reasons.DUPLICATE_FIELD),
    "an optional null twice": (record().replace(b"}", b', "note": null, "note": null}'), reasons.DUPLICATE_FIELD),
    "an object on the way twice": (record().replace(b"}", b', "meta": {}, "meta": null}'), reasons.DUPLICATE_FIELD),
    "a value on the way": (record(meta=5), reasons.MISTYPED_FIELD),
    "an array on the way": (record(meta={"deep": []}), reasons.MISTYPED_FIELD),
    "an optional decimal below": (record(meta={"price": 0.004}), reasons.BELOW_MINIMUM),
    "an optional decimal with too many decimals": (record(meta={"price": 0.0051}), reasons.TOO_MANY_DECIMALS),
    "an optional double above": (record(meta={"deep": {"ratio": 0.6}}), reasons.ABOVE_MAXIMUM),
    "an optional double beyond all": (
        record(meta={"deep": {"ratio": "R"}}).replace(b'"R"', b"-1e400"),
        reasons.NOT_FINITE,
    ),
    "an optional int above": (record(meta={"age": (1 << 64) + 1}), reasons.ABOVE_MAXIMUM),
    "an optional int of 39 digits": (record(meta={"age": 10**38}), reasons.INTEGER_TOO_LARGE),
}
FINE: dict[str, bytes] = {
    "plain": record(),
    "lower bounds": record(amount=0, tax="-0.1", weight=0.1, meta={"price": 0.005, "age": 1}),
    "upper bounds": record(amount=1 << 70, tax=99.990, weight=1, seq=9, meta={"age": 1 << 64}),
    "an allowed int over 64 bits": record(level=1 << 63),
    "an allowed emoji": record(customer="😀"),
    "optional fields": record(note="b", meta={"price": "1", "deep": {"ratio": -1e300}, "age": 3}),
    "optional nulls": record(note=None, meta={"price": None, "deep": {"ratio": None}, "age": None}),
    "null on the way": record(meta=None),
    "null further on the way": record(meta={"deep": None, "x": [1]}),
    "empty objects": record(meta={"deep": {}}),
    "an id at its edge": record(seq=-(1 << 63)),
}
ORDER: list[tuple[str, bytes, str]] = [
    ("an optional name twice", record(ts=None).replace(b"}", b', "note": 1, "note": 2}'), reasons.DUPLICATE_FIELD),
    ("a required field, whatever the optional are", record(level=None, note=1), reasons.NULL_FIELD),
    ("an optional field, before any check", record(amount=-1, meta=1), reasons.MISTYPED_FIELD),
    ("checks in the order of the file", record(customer="eve", tax=100, level=3), reasons.ABOVE_MAXIMUM),
    ("a check, before the event time", record(ts=-1, note="c"), reasons.NOT_ALLOWED),
    ("the event time at last", record(ts=-1), reasons.EVENT_TIME_NEGATIVE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "reason"),
    [*BAD.values(), *(rest for _, *rest in ORDER)],
    ids=[*BAD, *(name for name, *_ in ORDER)],
)
@pytest.mark.parametrize("company", [0, 300])
def test_bad_records_have_their_reason(value: bytes, reason: str, company: int) -> None:
    columns, rejected = decode([*[record()] * company, value, *[record()] * company])
    assert [(r.row, r.reason) for r in rejected] == [(company, reason)]
    assert len(columns.rows) == 2 * company
    with pytest.raises(RejectedError, match=f"^{reason}: "):
        RecordReader(SPEC).read(value, NOW)


@pytest.mark.parametrize("name", FINE)
@pytest.mark.parametrize("company", [0, 300])
def test_good_records_pass(name: str, company: int) -> None:
    columns, rejected = decode([*[record()] * company, FINE[name]])
    assert rejected == []
    assert len(columns.rows) == company + 1
    assert list(columns.fields) == [*GOOD]


def test_checks_do_not_slow_good_records_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(RecordReader, "read")
    values = [FINE["plain"], FINE["optional nulls"], FINE["null on the way"], record(note="b", meta={"age": 3})] * 100
    assert len(decode([*values])[0].rows) == 400


def test_the_detail_says_value_and_bound() -> None:
    _, rejected = decode([record(tax="-0.11"), record(amount=-1), record(customer="e\n" * 50)])
    assert [r.detail for r in rejected[:2]] == ["'tax' is -0.11, below -0.10", "'amount' is -1, below 0"]
    assert rejected[2].detail.startswith("'customer' is 'e\\ne") and len(rejected[2].detail) < 120


def test_a_check_of_the_event_time_takes_its_type() -> None:
    since = spec(check=[{"field": "ts", "min": NOW}])
    _, rejected = decode([record(), record(ts=NOW - 1)], since)
    assert [r.reason for r in rejected] == [reasons.BELOW_MINIMUM]


EDGES: dict[str, list[Any]] = {
    "amount": [-1, 0, 1, 1 << 63, 1 << 70, (1 << 70) + 1, -(10**38) + 1],
    "tax": ["-0.11", "-0.10", -0.1, 99.99, 100, "99.990", 0],
    "weight": [0.1, 0.09999999999999999, 1, 1.0000000000000002, -0.0, 5e-324],
    "customer": ["ada", "bob", "😀", "eve", "", "ADA"],
    "level": [1, 2, 3, 1 << 63, -(1 << 63), -(1 << 63) - 1],
    "seq": [9, 10, -(1 << 63)],
    "note": ["a", "b", "c", None],
    "meta": [
        None,
        {},
        *({"price": price} for price in ("0.005", 0.004, 0.005, 7, None)),
        *({"deep": deep} for deep in (None, {}, {"ratio": 0.5}, {"ratio": 0.5000000000000001}, {"ratio": 0})),
        *({"age": age} for age in (0, 1, 1 << 64, (1 << 64) + 1, None)),
    ],
}


def modelled(document: dict[str, Any]) -> str | None:
    """The reason for a document whose fields all have their types."""
    for check in CHECKS:
        value: Any = document
        for part in check["field"].split("."):
            value = (value or {}).get(part)
        if value is None:
            continue
        if isinstance(value, str) and "one_of" not in check:
            value = Decimal(value)
        low, high = (Decimal(str(check[name])) if name in check else None for name in ("min", "max"))
        number = Decimal(str(value)) if isinstance(value, float) else value
        if low is not None and number < low:
            return reasons.BELOW_MINIMUM
        if high is not None and number > high:
            return reasons.ABOVE_MAXIMUM
        if "one_of" in check and value not in check["one_of"]:
            return reasons.NOT_ALLOWED
    return None


DOCUMENT = st.fixed_dictionaries(
    {name: st.just(value) | st.sampled_from(EDGES.get(name, [value])) for name, value in GOOD.items()},
    optional={"note": st.sampled_from(EDGES["note"]), "meta": st.sampled_from(EDGES["meta"])},
)


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(DOCUMENT, min_size=1, max_size=6))
def test_checks_are_those_of_a_plain_model(documents: list[dict[str, Any]]) -> None:
    columns, rejected = decode([json.dumps(document).encode() for document in documents])
    expected = {row: reason for row, d in enumerate(documents) if (reason := modelled(d))}
    assert {r.row: r.reason for r in rejected} == expected
    assert sorted(columns.rows.tolist()) == [row for row in range(len(documents)) if row not in expected]
    for place, row in enumerate(columns.rows.tolist()):
        assert columns.fields["amount"][place].as_py() == documents[row]["amount"]


INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
UNSCALED = st.integers(-(10**38) + 1, 10**38 - 1)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any], st.SearchStrategy[Any]]] = {
    "int": (pa.int64(), INT64, UNSCALED),
    "decimal": (pa.decimal128(38, 5), UNSCALED, UNSCALED),
    "float": (pa.float64(), DOUBLES, DOUBLES),
    "string": (pa.string(), st.text(max_size=2), st.nothing()),
}


@given(st.data())
def test_a_column_passes_where_its_values_do(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["int", "decimal", "float", "string"]))
    arrow, values_of, bounds = NUMBERS[kind]
    values = data.draw(st.lists(st.none() | values_of, max_size=5))
    some = st.sampled_from([v for v in values if v is not None] or [None])
    low, high = (data.draw(st.none() | some | bounds) if kind != "string" else None for _ in range(2))
    allowed = data.draw(st.none() | st.lists(values_of | UNSCALED if kind == "int" else values_of, min_size=1))
    if kind in ("decimal", "float"):
        allowed = None
    check = Check(Field("x", kind, 5 if kind == "decimal" else 0), False, low, high, allowed and tuple(allowed))  # type: ignore[arg-type]

    def passes(value: Any) -> bool:
        try:
            checks.refuse(check, value)
        except RejectedError:
            return False
        return True

    written = [Decimal(f"{v}E-5") if kind == "decimal" and v is not None else v for v in values]
    assert checks.passing(check, pa.array(written, arrow)).tolist() == [passes(v) for v in values]


def row_wise(value: bytes) -> Any:
    return json.loads(value)


@batchwise
def dotted(values: pa.Array) -> pa.Table:
    """Columns named by paths; those of optional fields only where some record has the field."""
    documents = [json.loads(value) for value in values.to_pylist()]
    columns: dict[str, list[Any]] = {name: [d[name] for d in documents] for name in GOOD}
    if any("note" in d for d in documents):
        columns["note"] = [d.get("note") for d in documents]
    if any("meta" in d for d in documents):
        columns["meta.age"] = [(d.get("meta") or {}).get("age") for d in documents]
    return pa.table(columns)


@batchwise
def nested(values: pa.Array) -> pa.Table:
    """Objects as structs."""
    return pa.Table.from_pylist([{"meta": None, "note": None, **json.loads(value)} for value in values.to_pylist()])


@pytest.mark.parametrize("function", ["row_wise", "dotted", "nested"])
def test_a_users_function_is_checked_too(function: str) -> None:
    own = spec(decode=f"{__name__}:{function}")
    values = [
        record(),
        record(amount=-1),
        record(note="c"),
        record(note="a"),
        record(meta={"age": 0}),
        record(meta={"age": 1}),
        record(seq=10),
    ]
    expected = {1: "below_minimum", 2: "not_allowed", 4: "below_minimum", 6: "above_maximum"}
    for batch in (values, values[:2]):
        columns, rejected = decode([*batch], own)
        assert {r.row: r.reason for r in rejected} == {row: e for row, e in expected.items() if row < len(batch)}
        assert len(columns.rows) == len(batch) - len(rejected)


EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "type": "shop.order",
    "source": "/shop",
    "id": "e1",
    "time": "2026-02-01T00:00:00Z",
    "datacontenttype": "application/json",
    "data": {"customer": "ada", "amount": 5},
}


def cloud_events() -> Spec:
    pipeline = config.parse(
        {
            "name": "events",
            "source": {"topics": ["in"], "format": "cloudevents"},
            "aggregate": [{"name": "a", "key": ["data.customer"], "sum": ["data.amount"], "window": "1 min"}],
        },
        "events.toml",
    )
    return pipeline.spec()


def test_a_structured_cloud_event_is_decoded() -> None:
    columns, rejected = decode([json.dumps(EVENT).encode()], cloud_events())
    assert rejected == []
    assert columns.time_ms.tolist() == [NOW]
    assert {path: column.to_pylist() for path, column in columns.fields.items()} == {
        "time": ["2026-02-01T00:00:00Z"],
        "data.customer": ["ada"],
        "data.amount": [5],
        "source": ["/shop"],
        "id": ["e1"],
        "specversion": ["1.0"],
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"specversion": "0.3"}, reasons.NOT_ALLOWED),
        ({"specversion": 1.0}, reasons.MISTYPED_FIELD),
        ({"specversion": ...}, reasons.MISSING_FIELD),
        ({"id": ...}, reasons.MISSING_FIELD),
        ({"id": 5}, reasons.MISTYPED_FIELD),
        ({"source": None}, reasons.NULL_FIELD),
        ({"time": ...}, reasons.MISSING_FIELD),
        ({"time": NOW}, reasons.MISTYPED_FIELD),
        ({"time": "yesterday"}, reasons.EVENT_TIME_OUT_OF_RANGE),
        ({"time": "yesterday", "specversion": "2.0"}, reasons.NOT_ALLOWED),
        ({"time": "2026-02-02T00:00:00Z"}, reasons.EVENT_TIME_AHEAD),
        ({"data": ...}, reasons.MISSING_FIELD),
        ({"data": None}, reasons.NULL_FIELD),
        ({"data": ..., "data_base64": "e30="}, reasons.MISSING_FIELD),
        ({"data": '{"customer": "ada", "amount": 5}'}, reasons.MISTYPED_FIELD),
        ({"data": {"customer": "ada"}}, reasons.MISSING_FIELD),
        ({"data": {"customer": "ada", "amount": 5.5}}, reasons.MISTYPED_FIELD),
    ],
)
def test_a_broken_cloud_event_is_rejected(changes: dict[str, Any], reason: str) -> None:
    broken = {name: value for name, value in {**EVENT, **changes}.items() if value is not ...}
    columns, rejected = decode([json.dumps(EVENT).encode(), json.dumps(broken).encode()], cloud_events())
    assert [(r.row, r.reason) for r in rejected] == [(1, reason)]
    assert columns.rows.tolist() == [0]
