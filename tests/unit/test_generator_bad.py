"""Each kind of bad record breaks the rule of docs/records.md that it is listed under, and no earlier one."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from surecount import config
from surecount.errors import SurecountError
from surecount.generator import bad
from surecount.generator.layout import Layout
from surecount.generator.options import Options
from surecount.generator.plan import plan
from udfs import reasons, spec
from udfs.decode import Batch, Decoder

NOW = 1_900_000_000_000
YEAR_MS = 365 * 86_400_000
# To milliseconds: multiply, then divide.
TO_MS = {"s": (1_000, 1), "ms": (1, 1), "us": (1, 1_000), "ns": (1, 1_000_000)}


class Object(list[tuple[str, Any]]):
    """A JSON object that keeps fields that come twice."""


class NotFinite:
    """NaN or an infinity."""


def classify(value: bytes | None, data: spec.Spec, timestamp_ms: int) -> str | None:
    """The contract once more, as plainly as it is written; None is a good record."""
    if value is None:
        return reasons.TOMBSTONE
    if len(value) > data.max_value_bytes:
        return reasons.VALUE_TOO_LARGE
    if not value.strip(b" \t\r\n"):
        return reasons.EMPTY
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return reasons.INVALID_UTF8
    if text.count("[") + text.count("{") > 1_000:
        return reasons.NESTING_TOO_DEEP
    odd: list[NotFinite] = []
    try:
        record = json.loads(
            text,
            object_pairs_hook=Object,
            parse_float=Decimal,
            parse_constant=lambda _: odd.append(NotFinite()),
        )
        json.dumps(record, default=str, ensure_ascii=False).encode()
    except (json.JSONDecodeError, UnicodeEncodeError):
        return reasons.NOT_JSON
    if odd:
        return reasons.NOT_FINITE
    if not isinstance(record, Object):
        return reasons.NOT_AN_OBJECT
    found = {field.path: values(record, field.parts) for field in (*data.fields, *data.optional)}
    if any(len(values) > 1 for values in found.values()):
        return reasons.DUPLICATE_FIELD
    for field in data.fields:
        if reason := field_fault(found[field.path], field, field.path == data.event_time.path):
            return reason
    for field in data.optional:
        if found[field.path] not in ([], [None]) and (reason := field_fault(found[field.path], field, is_time=False)):
            return reason
    for check in data.checks:
        if reason := check_fault(found[check.field.path], check):
            return reason
    if data.event_time.path is None:
        return None
    return time_fault(found[data.event_time.path][0], data, timestamp_ms)


def values(record: Any, parts: tuple[str, ...]) -> list[Any]:
    if not parts:
        return [record]
    if not isinstance(record, Object):
        return []
    return [found for name, inner in record if name == parts[0] for found in values(inner, parts[1:])]


def field_fault(found: list[Any], field: spec.Field, is_time: bool) -> str | None:
    if not found:
        return reasons.MISSING_FIELD
    value = found[0]
    if value is None:
        return reasons.NULL_FIELD
    match field.type:
        case "string":
            return None if isinstance(value, str) else reasons.MISTYPED_FIELD
        case "int":
            if type(value) is not int:
                return reasons.MISTYPED_FIELD
            return reasons.INTEGER_TOO_LARGE if abs(value) >= 10**38 and not is_time else None
        case "float":
            if type(value) not in (int, Decimal):
                return reasons.MISTYPED_FIELD
            return reasons.NOT_FINITE if abs(value) > Decimal("1.8e308") else None
    if isinstance(value, bool):
        return reasons.MISTYPED_FIELD
    try:
        exact = Decimal(value)
    except (InvalidOperation, TypeError):
        return reasons.MISTYPED_FIELD
    _, digits, exponent = exact.as_tuple()
    assert isinstance(exponent, int)
    fits = -exponent <= field.scale and len(digits) + exponent + field.scale <= 38
    return None if fits else reasons.TOO_MANY_DECIMALS


def check_fault(found: list[Any], check: spec.Check) -> str | None:
    if found in ([], [None]):
        return None
    value = Decimal(found[0]).scaleb(check.field.scale) if check.field.type == "decimal" else found[0]
    if check.low is not None and value < check.low:
        return reasons.BELOW_MINIMUM
    if check.high is not None and value > check.high:
        return reasons.ABOVE_MAXIMUM
    return reasons.NOT_ALLOWED if check.allowed is not None and value not in check.allowed else None


def time_fault(value: Any, data: spec.Spec, timestamp_ms: int) -> str | None:
    if data.event_time.unit == "rfc3339":
        if not re.fullmatch(r"\d{4}-(0[13578]|1[02])-\d\dT.*Z", value):
            return reasons.EVENT_TIME_OUT_OF_RANGE
        ms = int(np.datetime64(value[:-1], "ms").astype(np.int64))
    else:
        times, parts = TO_MS[data.event_time.unit]
        ms = value * times // parts
    if ms < 0:
        return reasons.EVENT_TIME_NEGATIVE
    others = [value * t // p for t, p in TO_MS.values()] if isinstance(value, int) else []
    if abs(ms - timestamp_ms) > 10 * YEAR_MS and any(abs(o - timestamp_ms) <= YEAR_MS for o in others):
        return reasons.EVENT_TIME_UNIT
    if ms > spec.MAX_EVENT_TIME_MS:
        return reasons.EVENT_TIME_OUT_OF_RANGE
    return reasons.EVENT_TIME_AHEAD if ms > timestamp_ms + data.max_ahead_ms else None


def layout(event_time: Any, key: list[Any], sums: list[Any], /, **source: Any) -> tuple[Layout, config.Pipeline]:
    data = {
        "name": "shop",
        "source": {"topics": ["shop.orders"], "event_time": event_time, **source},
        "aggregate": [{"name": "a", "key": key, "sum": sums, "window": "1 min"}],
    }
    shop = config.parse(data, "test")
    return Layout(plan(shop, Options(1_000, 10), NOW), 0), shop


INT_KEY = {"field": "who.id", "type": "int"}
MONEY = {"field": "paid.tax", "type": "decimal", "scale": 2}
CHECKED: list[Any] = [
    {"field": "kind", "one_of": ["a", "b"]},
    {"field": "amount", "min": 1, "max": 10},
]
OPTIONAL: list[Any] = [
    {"field": "rate", "type": "decimal", "scale": 2, "min": "0.10", "required": False},
    {"field": "heat", "type": "float", "max": -0.5, "required": False},
    {"field": "rank", "min": 5, "max": 9, "type": "int"},
    {"field": "rank", "one_of": [5, 6, 8, 20]},
]
SHAPES: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "plain": ({"field": "ts"}, ["customer"], ["amount"]),
    "seconds": ({"field": "ts", "unit": "s"}, ["customer"], [MONEY]),
    "micros": ({"field": "at.ts", "unit": "us"}, ["who.name"], [{"field": "tip", "type": "float"}]),
    "nanos": ({"field": "ts", "unit": "ns"}, [INT_KEY], []),
    "texts": ({"field": "at.ts", "unit": "rfc3339"}, [INT_KEY, "country"], ["amount", MONEY]),
    "kafka": ("kafka", ["customer"], ["amount"]),
    "checked": ({"field": "ts"}, ["customer"], ["amount"]),
    "checked time": ({"field": "ts"}, ["customer"], ["amount"]),
    "optional": ("kafka", ["customer"], ["amount"]),
}
SOURCES: dict[str, dict[str, Any]] = {
    "checked": {"check": CHECKED, "event_id": "id"},
    "checked time": {"check": [{"field": "ts", "min": 1_000, "max": 2 * NOW}]},
    "optional": {"check": OPTIONAL},
}
CASES: list[Any] = [
    pytest.param(shape, kind, id=f"{shape}: {kind.name}")
    for shape, fields in SHAPES.items()
    for kind in bad.kinds(layout(*fields, **SOURCES.get(shape, {}))[0], huge=True)
]


@pytest.mark.parametrize(("shape", "kind"), CASES)
def test_each_kind_breaks_its_rule(shape: str, kind: bad.Kind) -> None:
    made, shop = layout(*SHAPES[shape], **SOURCES.get(shape, {}))
    for event in (122, 123):  # an even and an odd one: with optional fields, and without
        ms = int(made.plan.times(np.array([event]))[0])
        good, spoiled = made.values(np.array([event]))[0], kind.sample(made, event)
        assert classify(good, shop.spec(), ms) is None
        assert classify(spoiled, shop.spec(), ms) == kind.reason
        assert decoded(good, shop.spec(), ms) is None
        assert decoded(spoiled, shop.spec(), ms) == kind.reason


@pytest.mark.parametrize("shape", SHAPES)
def test_every_event_is_accepted(shape: str) -> None:
    made, shop = layout(*SHAPES[shape], **SOURCES.get(shape, {}))
    events = np.arange(1_000)
    accepted, rejected = Decoder(shop.spec())(
        Batch(pa.array(made.values(events), pa.binary()), made.plan.times(events))
    )
    assert rejected == []
    assert len(accepted.rows) == 1_000


def decoded(value: bytes | None, data: spec.Spec, timestamp_ms: int) -> str | None:
    """What the job says."""
    _, rejected = Decoder(data)(Batch(pa.array([value], pa.binary()), np.array([timestamp_ms])))
    return rejected[0].reason if rejected else None


def test_every_reason_but_the_decode_functions_own_is_covered() -> None:
    codes = {value for name, value in vars(reasons).items() if name.isupper()}
    # Of a user's own function, of a bug of ours, of the ingest job's watermark, and of what is no value.
    others = {reasons.DECODE_FAILED, reasons.INTERNAL_ERROR, reasons.BEYOND_HORIZON, reasons.KAFKA_TIMESTAMP}
    assert {kind.reason for kind in (*bad.KINDS, bad.HUGE)} == codes - others


def test_what_a_check_rejects_is_the_nearest_value() -> None:
    made, _ = layout(*SHAPES["optional"], check=OPTIONAL)
    sample = {kind.name: json.loads(kind.sample(made, 1) or b"") for kind in bad.kinds(made, huge=False)[-3:]}
    assert sample["below a minimum"]["rate"] == 0.09
    assert sample["above a maximum"]["heat"] == np.nextafter(-0.5, 0)
    assert sample["not allowed"]["rank"] == 7


def test_each_kind_is_used_somewhere_and_named_once() -> None:
    used = {case.values[1].name for case in CASES}
    assert used == {kind.name for kind in (*bad.KINDS, bad.HUGE)}
    assert len(used) == len(bad.KINDS) + 1


def test_kinds_fit_the_pipeline() -> None:
    names = {kind.name for kind in bad.kinds(layout("kafka", ["customer"], [])[0], huge=False)}
    assert not names & {"sum is a boolean", "NaN", "before 1970", "year 2999", "int of 40 digits", "5 MB"}
    assert {"no value", "array", "field twice"} <= names


def test_huge_values_must_be_too_large() -> None:
    made, _ = layout("kafka", ["customer"], [], max_value="8 MiB")
    with pytest.raises(SurecountError, match=r"source\.max_value = 8,388,608 bytes lets them pass"):
        bad.kinds(made, huge=True)
