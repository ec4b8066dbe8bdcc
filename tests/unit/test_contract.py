"""The job and the audit implement docs/records.md separately: they must agree on every record."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from surecount import config
from surecount.audit.fastway import fast_way
from surecount.audit.truth import Truth
from tests.examples import examples
from tests.unit import test_checks
from tests.unit.test_decode import BAD, FINE, GOOD, NO_TIMES, NOW, raw, record
from udfs import times
from udfs.decode import Batch, Decoder, batchwise
from udfs.spec import MAX_EVENT_TIME_MS, EventTime, TimeUnit

PIPELINE = config.parse(
    {
        "name": "contract",
        "source": {"topics": ["in"], "event_time": {"field": "ts", "unit": "ms"}},
        "aggregate": [
            {
                "name": "a",
                "key": ["customer", {"field": "shop.id", "type": "int"}],
                "sum": [
                    "amount",
                    {"field": "shop.tax", "type": "decimal", "scale": 2},
                    {"field": "weight", "type": "float"},
                ],
                "window": "1 min",
            }
        ],
    },
    "contract.toml",
)
JOB = Decoder(PIPELINE.spec())
AUDIT = Truth(PIPELINE)


def verdicts(value: bytes | None, job: Decoder = JOB, audit: Truth = AUDIT) -> tuple[str | None, str | None]:
    """The job's reason and the audit's; None for a record that counts."""
    _, rejected = job(Batch(pa.array([value], pa.binary()), np.array([NOW])))
    judged = audit.judge(value, NOW)
    return (rejected[0].reason if rejected else None), (judged if isinstance(judged, str) else None)


@pytest.mark.parametrize("name", [*BAD, *FINE])
def test_known_records(name: str) -> None:
    job, audit = verdicts((BAD | FINE)[name][0])
    assert job == audit


ODD = [
    *(b"[" * 300, b'{"a":' * 300, b"NaN", b'"\\ud800"', b'"\\uD83D\\uDE00"', b"1e999", b"-0", b"9" * 40, b"\xff"),
    *(b"\x00", b'"ts"', b'"amount":1,', b"null", b"}", b"]", b",", b" ", b"\xef\xbb\xbf", b"01", b"1.", b'"', b"\\"),
]
CUTS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 6), st.sampled_from(ODD) | st.binary(max_size=3)), max_size=3
)


@settings(max_examples=examples(400), deadline=None)
@given(
    st.sampled_from([record(), *(v for v, *_ in FINE.values()), json.dumps(GOOD, indent=0).encode()]),
    CUTS,
)
@example(raw('"ada"', '"\\ud800", "customer": "ada"'), [])
@example(raw('"ada"', '"ada", "x": ["\\ud800"], "x": 1'), [])
@example(b'{"x":' + b"[" * 300, [])
@example(raw('"amount": ', '"amount": 1e9999999999999999999'), [])
@example(raw('"amount": ', '"amount": 0.' + 4000 * "0"), [])
@example(raw('"amount": ', '"amount": 1' + 4000 * "0"), [])
@example(raw('"tax": 1.25', '"tax": 0e9999999999999999999'), [])
@example(raw('"tax": 1.25', '"tax": 1.25' + 5000 * "0"), [])
@example(raw('"tax": 1.25', f'"tax": "{5000 * "0"}1.25"'), [])
@example(raw('"weight": 0.5', '"weight": -0E-9999999999999999999'), [])
@example(raw('"weight": 0.5', '"weight": 0.5' + 5000 * "0"), [])
def test_mutated_records(value: bytes, cuts: list[tuple[int, int, bytes]]) -> None:
    for at, length, new in cuts:
        value = value[:at] + new + value[at + length :]
    job, audit = verdicts(value)
    assert job == audit


VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.integers(NOW - 100_000, NOW + 100_000)
    | st.floats()
    | st.text(max_size=3)
    | st.decimals(allow_nan=False, allow_infinity=False).map(str),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([*GOOD, "id", "tax"]), inner),
    max_leaves=4,
)


@settings(max_examples=examples(400), deadline=None)
@given(st.fixed_dictionaries({k: st.just(v) | VALUE for k, v in GOOD.items()}))
def test_any_values_in_the_fields(document: dict[str, Any]) -> None:
    job, audit = verdicts(json.dumps(document).encode("utf-8", "surrogatepass"))
    assert job == audit


AROUND = st.sampled_from([0, 1, 59, 61, 86_400, 20 * 365 * 86_400]).flatmap(lambda s: st.integers(-s * 1000, s * 1000))
TIME = st.builds(
    lambda base, around, factor: (base + around) * factor[0] // factor[1],
    st.sampled_from([NOW, 0, times.MIN_KAFKA_MS, MAX_EVENT_TIME_MS]),
    AROUND,
    st.sampled_from([(1, 1000), (1, 1), (1000, 1), (1_000_000, 1)]),
)
KAFKA_MS = TIME.filter(lambda ms: -(1 << 63) <= ms < 1 << 63) | st.sampled_from(NO_TIMES)
BY_UNIT = {
    unit: replace(PIPELINE.spec(), event_time=EventTime("ts" if unit else None, unit or "ms"))
    for unit in ("", *get_args(TimeUnit))
}
JUDGES = {unit: (Decoder(spec), Truth(PIPELINE, spec=spec)) for unit, spec in BY_UNIT.items()}


@settings(max_examples=examples(400), deadline=None)
@given(st.sampled_from([*BY_UNIT]), st.lists(st.tuples(TIME, KAFKA_MS), min_size=1, max_size=4))
def test_any_event_time_beside_any_kafka_timestamp(unit: str, pairs: list[tuple[int, int]]) -> None:
    job, audit = JUDGES[unit]
    in_text = unit == "rfc3339"
    values = [record(ts=times.to_rfc3339(abs(ts) % MAX_EVENT_TIME_MS) if in_text else ts) for ts, _ in pairs]
    stamps = [ms for _, ms in pairs]
    columns, rejected = job(Batch(pa.array(values, pa.binary()), np.array(stamps)))
    found: dict[int, Any] = {one.row: one.reason for one in rejected}
    found |= dict(zip(columns.rows.tolist(), columns.time_ms.tolist(), strict=True))
    judged = audit.judge_all(values, stamps)
    assert judged == [audit.judge_strictly(value, ms) for value, ms in zip(values, stamps, strict=True)]
    # The time stands first in an accepted row, but where it is the first field in ms.
    assert [found[row] for row in range(len(values))] == [one if isinstance(one, str) else one[0] for one in judged]


CHECKING = Decoder(test_checks.SPEC)
CHECKED = Truth(PIPELINE, spec=test_checks.SPEC)
EDGE = st.sampled_from([edge for edges in test_checks.EDGES.values() for edge in edges])


def agreed(values: list[bytes]) -> list[str | None]:
    """The reasons of records under checks, by the job and by the audit in its fast way and by the rules alone."""
    _, rejected = CHECKING(Batch(pa.array(values, pa.binary()), np.full(len(values), NOW)))
    reasons = {r.row: r.reason for r in rejected}
    judged = CHECKED.judge_all(values, [NOW] * len(values))
    assert judged == [CHECKED.judge_strictly(value, NOW) for value in values]
    assert [v if isinstance(v, str) else None for v in judged] == [reasons.get(row) for row in range(len(values))]
    return [reasons.get(row) for row in range(len(values))]


@pytest.mark.parametrize("name", [*test_checks.BAD, *test_checks.FINE])
def test_known_records_under_checks(name: str) -> None:
    value, reason = test_checks.BAD[name] if name in test_checks.BAD else (test_checks.FINE[name], None)
    assert agreed([test_checks.record(), value, test_checks.record(note="a")]) == [None, reason, None]


@pytest.mark.parametrize(("name", "value", "reason"), test_checks.ORDER)
def test_the_order_of_the_rules(name: str, value: bytes, reason: str) -> None:
    assert agreed([value]) == [reason], name


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(test_checks.DOCUMENT, min_size=1, max_size=4), st.booleans())
def test_records_at_the_edges_of_checks(documents: list[dict[str, Any]], ascii_only: bool) -> None:
    agreed([json.dumps(document, ensure_ascii=ascii_only).encode() for document in documents])


@settings(max_examples=examples(300), deadline=None)
@given(
    st.fixed_dictionaries(
        {name: st.just(value) | EDGE | VALUE for name, value in test_checks.GOOD.items()},
        optional={
            "note": EDGE | VALUE,
            "meta": VALUE | st.dictionaries(st.sampled_from(["price", "deep", "age", "x"]), EDGE | VALUE),
        },
    )
)
def test_any_values_under_checks(document: dict[str, Any]) -> None:
    agreed([json.dumps(document).encode("utf-8", "surrogatepass")])


PAIR = st.tuples(
    st.sampled_from(["note", "meta", "price", "deep", "ratio", "age", "amount", "customer", "\\u006eote", "x"]),
    st.sampled_from(["null", "1", '"a"', "{}", '{"age":1}', '{"age":1,"age":1}', '{"deep":{"ratio":0.5}}', '"note"']),
)


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(PAIR, max_size=4), st.sampled_from([test_checks.record(), *test_checks.FINE.values()]))
def test_names_that_stand_twice_under_checks(pairs: list[tuple[str, str]], value: bytes) -> None:
    more = "".join(f', "{name}": {inner}' for name, inner in pairs)
    agreed([value[:-1] + more.encode() + b"}"])


@settings(max_examples=examples(200), deadline=None)
@given(st.sampled_from([*test_checks.FINE.values()]), CUTS)
def test_mutated_records_under_checks(value: bytes, cuts: list[tuple[int, int, bytes]]) -> None:
    for at, length, new in cuts:
        value = value[:at] + new + value[at + length :]
    agreed([value])


def test_the_audit_s_fast_way_takes_checks_and_optional_fields() -> None:
    values = [test_checks.record(), test_checks.FINE["optional fields"], test_checks.FINE["optional nulls"]]
    assert fast_way(test_checks.SPEC)(values, [NOW] * 3) is not None


TABLE: dict[str, Any] = {}


@batchwise
def table_of_columns(values: pa.Array) -> pa.Table:
    """A good record for each value, with the columns of TABLE in place of its own."""
    columns = {name: pa.array([value] * len(values)) for name, value in test_checks.GOOD.items()} | TABLE
    if "rows" in columns:
        return pa.table({name: pa.concat_arrays([c] * 2) for name, c in columns.items() if name != "rows"})
    return pa.table({name: column for name, column in columns.items() if column is not None})


def mapping(_value: bytes) -> Any:
    """A good record, with the values of TABLE in place of its own."""
    return test_checks.GOOD | TABLE


TABLES: dict[str, tuple[dict[str, Any], str | None]] = {
    "plain": ({}, None),
    "smaller types": ({"amount": pa.array([5], pa.uint8()), "weight": pa.array([0.5], pa.float32())}, None),
    "a large string": ({"customer": pa.array(["ada"], pa.large_string())}, None),
    "ints for a float and a decimal": ({"weight": pa.array([1]), "tax": pa.array([1])}, None),
    "a decimal of another scale": ({"tax": pa.array([Decimal("1.5")])}, None),
    "a string for a decimal": ({"tax": pa.array(["1.25"])}, None),
    "a string for an int": ({"amount": pa.array(["5"])}, "mistyped_field"),
    "a string for a float": ({"weight": pa.array(["0.5"])}, "mistyped_field"),
    "a float for an int": ({"amount": pa.array([5.0])}, "mistyped_field"),
    "a boolean for an int": ({"amount": pa.array([True])}, "mistyped_field"),
    "a timestamp for an int": ({"ts": pa.array([NOW], pa.timestamp("ms"))}, "mistyped_field"),
    "an int for a string": ({"id": pa.array([5])}, "mistyped_field"),
    "bytes for a string": ({"id": pa.array([b"e1"])}, "mistyped_field"),
    "a float with more decimals": ({"tax": pa.array([1.255])}, "too_many_decimals"),
    "a decimal with more decimals": ({"tax": pa.array([Decimal("1.255")])}, "too_many_decimals"),
    "NaN": ({"weight": pa.array([float("nan")])}, "not_finite"),
    "nothing": ({"amount": pa.nulls(1)}, "null_field"),
    "no column": ({"amount": None}, "missing_field"),
    "a check that fails": ({"amount": pa.array([-1])}, "below_minimum"),
    "two rows a value": ({"rows": 2}, "decode_failed"),
    "an optional column": ({"meta.age": pa.array([0])}, "below_minimum"),
    "an optional column of nothing": ({"note": pa.nulls(1), "meta.age": pa.array([None], pa.int64())}, None),
    "an optional column of another type": ({"note": pa.array([1])}, "mistyped_field"),
    "an optional NaN": ({"meta.deep.ratio": pa.array([float("nan")])}, "not_finite"),
    "an optional field in a struct": ({"meta": pa.array([{"age": 0}])}, "below_minimum"),
    "a struct inside a dotted name": ({"meta.deep": pa.array([{"ratio": 0.6}])}, "above_maximum"),
    "a value where an object should be": ({"meta": pa.array([5])}, "mistyped_field"),
    "a dotted name before a struct": ({"meta.age": pa.array([1]), "meta": pa.array([{"age": 0}])}, None),
    "a dotted name before a value": ({"meta.age": pa.array([1]), "meta": pa.array([5])}, None),
    "an object where a value should be": ({"amount.net": pa.array([5])}, "mistyped_field"),
    "an object where an optional value should be": ({"note.x": pa.array(["a"])}, "mistyped_field"),
}
MAPPINGS: dict[str, tuple[dict[str, Any], str | None]] = {
    "plain": ({"meta": {"deep": None, "age": 1}, "note": "a"}, None),
    "a lone surrogate": ({"id": "\ud800"}, "mistyped_field"),
    "an optional lone surrogate": ({"note": "\ud800"}, "mistyped_field"),
    "a check that fails": ({"tax": Decimal("-0.11")}, "below_minimum"),
    "an int of 65 bits for an id": ({"seq": 1 << 64}, "integer_too_large"),
    "an object that is none": ({"meta": [1]}, "mistyped_field"),
    "an optional decimal": ({"meta": {"price": 0.004}}, "below_minimum"),
    "an optional infinity": ({"meta": {"deep": {"ratio": float("-inf")}}}, "not_finite"),
}


@pytest.mark.parametrize(
    ("function", "columns", "reason"),
    [*(("table_of_columns", *case) for case in TABLES.values()), *(("mapping", *case) for case in MAPPINGS.values())],
    ids=[*TABLES, *MAPPINGS],
)
def test_what_a_users_function_may_return(
    function: str, columns: dict[str, Any], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.TABLE", columns)
    spec = replace(test_checks.SPEC, decode=f"{__name__}:{function}")
    assert verdicts(b"x", Decoder(spec), Truth(PIPELINE, spec=spec)) == (reason, reason)
