"""Results and corrections are read as docs/records.md writes them, and no other way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surecount.audit.fastresults import fast_result
from surecount.audit.outputs import Found, MalformedError, OutputReader, UnknownAggregateError
from surecount.audit.truth import plan
from udfs.spec import Aggregate, EventTime, Field, Spec

SPEC = Spec(
    aggregates=(
        Aggregate(
            "one",
            (Field("who.name", "string"), Field("shard", "int")),
            (Field("n", "int"), Field("price", "decimal", 2), Field("x", "float")),
            60_000,
        ),
        Aggregate("bare", (Field("shard", "int"),), (), 1_500),
    ),
    event_time=EventTime(),
    max_ahead_ms=0,
    max_value_bytes=1024,
    buckets=1,
)
READER = OutputReader(plan(SPEC))
START, END = "2026-01-31T23:59:00Z", "2026-02-01T00:00:00Z"
START_MS = 1_769_903_940_000
VALUE = (
    '{"aggregate":"one","key":{"who.name":"ada","shard":-7},'
    f'"start":"{START}","end":"{END}",'
    '"count":3,"sum":{"n":42,"price":"-0.50","x":0.1}}'
)


def split(value: str) -> tuple[bytes, bytes]:
    """Key and value of an output with this value."""
    return (value.split(',"end":')[0] + "}").encode(), value.encode()


def read(value: str) -> Found:
    return READER.result(*split(value))


def test_a_result() -> None:
    assert read(VALUE) == Found(0, ("ada", -7), START_MS, 3, (42, -50, 0.1), 0)


def test_a_correction() -> None:
    key, value = split(VALUE[:-1] + ',"late_by_ms":12}')
    assert READER.correction(key, value).late_by_ms == 12
    with pytest.raises(MalformedError):
        READER.result(key, value)
    with pytest.raises(MalformedError):
        READER.correction(*split(VALUE))


def test_times_carry_milliseconds_where_they_have_some() -> None:
    value = '{"aggregate":"bare","key":{"shard":1},"start":"1970-01-01T00:00:01.500Z","end":"%s","count":1,"sum":{}}'
    assert read(value % "1970-01-01T00:00:03Z").start == 1500
    with pytest.raises(MalformedError):
        read(value % "1970-01-01T00:00:03.000Z")


FITTING: list[tuple[str, str, int, float]] = [
    ("42", "123456789012345678901234567890123456789012", 0, 123456789012345678901234567890123456789012),
    ("42", "-18446744073709551616", 0, -(1 << 64)),
    ('"-0.50"', '"0.00"', 1, 0),
    ('"-0.50"', '"%s.99"' % ("9" * 40), 1, int("9" * 42)),
    ("0.1", "3", 2, 3.0),
    ("0.1", "1E16", 2, 1e16),
    ("0.1", "0.10", 2, 0.1),
    ("0.1", "9007199254740993", 2, 9007199254740992.0),
    ("0.1", "1" + "0" * 310, 2, 10**310),
]


@pytest.mark.parametrize(("old", "new", "index", "expected"), FITTING)
def test_sums(old: str, new: str, index: int, expected: float) -> None:
    assert old in VALUE
    found = read(VALUE.replace(old, new)).sums[index]
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize("name", ["ç", '"', "\\", "\n", "/", "\u2028", "😀"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_any_way_to_write_a_string(name: str, ascii_only: bool) -> None:
    assert read(VALUE.replace('"ada"', json.dumps(name, ensure_ascii=ascii_only))).key == (name, -7)


UNFIT: list[tuple[str, str]] = [
    ('"count":3', '"count":0'),
    ('"count":3', '"count":-1'),
    ('"count":3', '"count":3.0'),
    ('"count":3', '"count":true'),
    ('"count":3', '"count":3,"count":3'),
    ('"count":3,', ""),
    ('"count":3', '"Count":3'),
    ('"count":3', '"count": 3'),
    ('"count":3', '"count":' + "9" * 5000),
    ('"n":42', '"n":42.0'),
    ('"n":42', '"n":"42"'),
    ('"n":42,', ""),
    ('"n":42,"price":"-0.50"', '"price":"-0.50","n":42'),
    ('"-0.50"', '"-0.5"'),
    ('"-0.50"', '"-0.500"'),
    ('"-0.50"', '"-0.00"'),
    ('"-0.50"', '"00.50"'),
    ('"-0.50"', "-0.50"),
    ("0.1", '"0.1"'),
    ("0.1", "1e999"),
    ("0.1", "NaN"),
    ("0.1", "null"),
    ('"who.name":"ada"', '"who.name":1'),
    ('"who.name":"ada"', '"who":"ada"'),
    ('"shard":-7', '"shard":"-7"'),
    ('"shard":-7', '"shard":9223372036854775808'),
    (START, "2026-01-31T23:59:01Z"),
    (START, "2026-01-31T23:59:00.000Z"),
    (START, "2026-01-31T23:59:00+00:00"),
    (START, "1969-12-31T23:59:00Z"),
    (END, "2026-02-01T00:01:00Z"),
    ('{"aggregate":"one",', "{"),
    ('"sum":', '"sum":[],"x":'),
    (VALUE, "[]"),
    (VALUE, "{"),
    (VALUE, ""),
]


@pytest.mark.parametrize(("old", "new"), UNFIT)
def test_what_is_malformed(old: str, new: str) -> None:
    assert old in VALUE
    with pytest.raises(MalformedError):
        read(VALUE.replace(old, new))


def key(**changed: Any) -> bytes:
    parts = {"aggregate": "one", "key": {"who.name": "ada", "shard": -7}, "start": START, **changed}
    return json.dumps({name: value for name, value in parts.items() if value}, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        b"",
        b"\xff",
        b"{}",
        key(aggregate="bare"),
        key(key={"who.name": "ada"}),
        key(key={"shard": -7, "who.name": "ada"}),
        key(start=END),
        key(start=None),
        key(x=1),
        key().replace(b",", b", "),
    ],
)
def test_a_key_that_says_something_else(wrong: bytes | None) -> None:
    assert READER.result(key(), VALUE.encode()).records == 3
    with pytest.raises(MalformedError):
        READER.result(wrong, VALUE.encode())


@pytest.mark.parametrize("value", [None, b"\xff", b"null"])
def test_no_value(value: bytes | None) -> None:
    with pytest.raises(MalformedError):
        READER.result(key(), value)


def test_an_aggregate_that_the_pipeline_does_not_have() -> None:
    with pytest.raises(UnknownAggregateError, match="other"):
        read(VALUE.replace('"one"', '"other"'))


PLAIN = Spec(
    aggregates=(Aggregate("plain", (Field("who", "string"), Field("shard", "int")), (Field("n", "int"),), 60_000),),
    event_time=EventTime(),
    max_ahead_ms=0,
    max_value_bytes=1024,
    buckets=1,
)
PIECES = ["ada", "é", '\\"', "\\u00e9", "\n", "-0", "007", "1e3", "9" * 30, '",', "}", " ", "", START, END, "null", "1"]


@given(st.data())
def test_the_fast_way_says_what_the_strict_one_says(data: st.DataObject) -> None:
    """Whatever pieces a result is made of, the fast way gives the strict reader's answer or none."""
    piece = st.sampled_from(PIECES)
    who = data.draw(st.one_of(piece, st.text(max_size=5)))
    count, total, shard = (data.draw(st.one_of(st.integers().map(str), piece)) for _ in range(3))
    start, end = data.draw(st.sampled_from([(START, END), (END, START), (START, START), ("1", END)]))
    key = f'{{"aggregate":"plain","key":{{"who":"{who}","shard":{shard}}},"start":"{start}"}}'.encode()
    value = key[:-1] + f',"end":"{end}","count":{count},"sum":{{"n":{total}}}}}'.encode()
    cut = data.draw(st.integers(0, 3))
    key = data.draw(st.sampled_from([key, key[cut:], key + b" ", key.replace(b"ada", b"bob")]))
    reader = OutputReader(plan(PLAIN))

    def outcome() -> Any:
        try:
            return reader.result(key, value)
        except (MalformedError, UnknownAggregateError) as error:
            return type(error)

    both = outcome()
    reader._fast_result = lambda _key, _value: None
    assert both == outcome()


def test_the_fast_way_is_taken() -> None:
    key, value = split(
        f'{{"aggregate":"plain","key":{{"who":"é","shard":-7}},"start":"{START}","end":"{END}",'
        '"count":3,"sum":{"n":-42}}'
    )
    fast = fast_result(plan(PLAIN))(key, value)
    assert fast is not None
    assert (fast.key, fast.records, fast.sums) == (("é", -7), 3, (-42,))
