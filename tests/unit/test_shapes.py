"""Values that are read by their shape say what a parser says, or nothing."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs import shapes
from udfs.spec import Field

NAMES = st.sampled_from(["a", "b", "c", "dé", "a.b", ""])
INTEGERS = st.integers(-(10**16) + 1, 10**16 - 1) | st.integers(-20, 20)
TEXTS = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters='"\\'), max_size=20)
SCALARS = st.sampled_from(["integer", "text"])
ODD = st.sampled_from([True, False, None, 1.5, -0.25, 1e300, 10**16, 10**40, [], {}, [1, 2]])
SHAPES = st.dictionaries(
    NAMES, SCALARS | st.dictionaries(NAMES, SCALARS, min_size=1, max_size=3), min_size=1, max_size=5
)
ODD_SHAPES = st.dictionaries(NAMES, SCALARS | ODD | st.dictionaries(NAMES, SCALARS | ODD, max_size=3), max_size=5)
LAYOUTS = st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :")])


def fill(data: st.DataObject, shape: Any) -> Any:
    """A document of a shape."""
    if isinstance(shape, dict):
        return {name: fill(data, inner) for name, inner in shape.items()}
    return data.draw({"integer": INTEGERS, "text": TEXTS}[shape]) if isinstance(shape, str) else shape


def written(documents: list[Any], layout: tuple[str, str]) -> list[bytes]:
    return [json.dumps(one, ensure_ascii=False, separators=layout).encode() for one in documents]


def fields_of(shape: Any) -> list[Field]:
    """Each scalar that can be declared: a name with a dot is none that a field's path reaches."""
    found = []
    for name, inner in shape.items():
        for path, kind in (
            [(f"{name}.{k}", v) for k, v in inner.items()] if isinstance(inner, dict) else [(name, inner)]
        ):
            if kind in ("integer", "text") and path.count(".") == isinstance(inner, dict):
                found.append(Field(path, "int" if kind == "integer" else "string"))
    return found


def value_of(document: Any, field: Field) -> Any:
    for part in field.parts:
        document = None if document is None else document.get(part)
    return document


def read(values: list[bytes], fields: list[Field]) -> list[dict[str, Any]] | None:
    table = shapes.read(pa.array([b"x", *values], pa.binary()).slice(1), fields)
    return None if table is None else table.to_pylist()


@given(st.data(), SHAPES, st.integers(1, 20), LAYOUTS)
def test_values_of_one_shape_are_read_as_a_parser_reads_them(
    data: st.DataObject, shape: Any, count: int, layout: tuple[str, str]
) -> None:
    shape = {"always": "integer", **shape}
    documents = [fill(data, shape) for _ in range(count)]
    fields = fields_of(shape)
    assert read(written(documents, layout), fields) == [
        {field.path: value_of(document, field) for field in fields} for document in documents
    ]


@given(st.data(), ODD_SHAPES, st.integers(1, 4), LAYOUTS)
def test_values_that_are_damaged_or_odd_are_not_misread(
    data: st.DataObject, shape: Any, count: int, layout: tuple[str, str]
) -> None:
    shape = {"always": "integer", **shape}
    values = written([fill(data, shape) for _ in range(count)], layout)
    for _ in range(data.draw(st.integers(0, 2))):
        row = data.draw(st.integers(0, count - 1))
        at = data.draw(st.integers(0, len(values[row])))
        piece = data.draw(
            st.sampled_from([b"", b'"', b"0", b"-", b"1.", b"}{", b"\n", b"\x00", b"\xff", b"\\", b" ", b"e5"])
        )
        values[row] = values[row][:at] + piece + values[row][at + data.draw(st.integers(0, 2)) :]
    fields = fields_of(shape)
    found = read(values, fields)
    if found is not None:
        # A damaged key is as good as another, but only where all have it.
        for value, row in zip(values, found, strict=True):
            document = orjson.loads(value)
            assert {field.path: value_of(document, field) for field in fields} == row


PLAIN = b'{"k":"x","n":1}'


@pytest.mark.parametrize(
    "value",
    [
        b'{"k":"x","n":01}', b'{"k":"x","n":-}', b'{"k":"x","n":1.0}', b'{"k":"x","n":12345678901234567}',
        b'{"k":"x","n":}', b'{"k":"x","n":1 }', b'{"k":"x","n":1}{}', b'{"k":"x","n":1', b'{"k":"\\u0041","n":1}',
        b'{"k":"\t","n":1}', b'{"k":"\xff","n":1}', b'{"n":1,"k":"x"}', b'{"k":"x","m":1}', b'{"k":"x""n":1}', b"{}",
        b"",
        b'{"k":"x","n":1,"n":2}', b'{"k":"x","n":"1"}', b'{"k":"x","n":+1}', b'{"k":"x","n":1_0}',
        b'{"k":"x","n":\xd9\xa1}',
    ],
)  # fmt: skip
def test_a_value_that_is_otherwise_is_for_a_parser(value: bytes) -> None:
    fields = [Field("k", "string"), Field("n", "int")]
    assert read([PLAIN, PLAIN], fields) == [{"k": "x", "n": 1}] * 2
    assert read([PLAIN, value, PLAIN], fields) is None


@pytest.mark.parametrize(
    "value",
    [
        b'{"k":"x","n":1,"n":2}', b'{"k":true,"k":"x","n":1}', b'{"n":1.5,"k":"x"}', b'{"k":{"a":1},"n":1}', b"[1]",
        b"1",
        b'{"k":"x","n":null}', b'{"k":5,"n":1}', b'{"k":"x","n":"1"}', b'{"k":"x","n":1,"l":[1,2]}',
        b'{"k":"x","n":NaN}', b'{"k":"x","n":12345678901234567}',
        b'{"a":' + b'{"a":' * 200 + b"1" + b"}" * 201, b"\xef\xbb\xbf{}",
    ],
)  # fmt: skip
def test_a_shape_that_is_not_plain_is_for_a_parser(value: bytes) -> None:
    assert read([value, value], [Field("k", "string"), Field("n", "int")]) is None


def test_a_field_that_the_shape_lacks_is_null() -> None:
    fields = [Field("k", "string"), Field("a.b", "int"), Field("n.m", "int")]
    assert read([PLAIN], fields[:2]) == [{"k": "x", "a.b": None}]
    assert read([PLAIN], fields) is None


def test_decimals_and_doubles_are_for_a_parser() -> None:
    assert read([PLAIN], [Field("n", "decimal", 2)]) is None
    assert read([PLAIN], [Field("n", "float")]) is None


@pytest.mark.parametrize(("more", "is_read"), [(900, True), (1100, False)])
def test_a_shape_of_very_many_members_is_for_a_parser(more: int, is_read: bool) -> None:
    # For each of them numpy is called several times: 1 MB of them took seconds.
    value = orjson.dumps({"k": "x", **{f"x{number}": number for number in range(more)}})
    assert (read([value, value], [Field("k", "string")]) is not None) is is_read
