"""The strict JSON parser against the standard library's."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surecount.audit import strictjson
from surecount.audit.strictjson import Array, Number, Object, parse

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
NOISE = st.text(alphabet='{}[]":,\\u0123dDeE+-.truefalsn \t\n"NaIity', max_size=30)


def plain(value: object) -> object:
    """What the standard library gives for the same, with arrays left out."""
    if isinstance(value, Object):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, Number):
        return json.loads(value)
    return [] if isinstance(value, Array) else value


def without_arrays(value: object) -> object:
    if isinstance(value, dict):
        return {name: without_arrays(inner) for name, inner in value.items()}
    return [] if isinstance(value, list) else value


@given(DOCUMENTS, st.booleans(), st.sampled_from([None, 1]))
def test_reads_what_the_standard_library_writes(value: object, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    document = parse(text)
    if any("\ud800" <= c <= "\udfff" for c in text):
        return
    assert document is not None
    assert plain(document.value) == without_arrays(value)
    assert document.finite


@given(NOISE | DOCUMENTS.map(json.dumps).flatmap(lambda text: NOISE.map(lambda noise: text[: len(noise)] + noise)))
def test_accepts_what_the_standard_library_accepts(text: str) -> None:
    try:
        expected = json.loads(text)
        json.dumps(expected, ensure_ascii=False).encode()
    except ValueError:  # not JSON, or a lone surrogate
        assert parse(text) is None
    else:
        assert parse(text) is not None


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\udc00":1}', '["\\ud800x"]', '"\\udc00\\ud800"'])
def test_lone_surrogates_are_no_text(text: str) -> None:
    assert parse(text) is None


def test_surrogate_pairs_are_text() -> None:
    document = parse('"\\ud83d\\ude00"')
    assert document is not None and document.value == "😀"


@pytest.mark.parametrize("text", ["\ufeff{}", "01", "1.", ".5", "+1", "1e", "--1", "'a'", "[1,]", '{"a":1,}', "{,}"])
def test_what_is_not_json(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("text", ["NaN", "[-Infinity]", '{"a":{"b":Infinity}}'])
def test_json_but_for_non_finite_numbers(text: str) -> None:
    document = parse(text)
    assert document is not None and not document.finite


@pytest.mark.parametrize("text", ["+Infinity", "-NaN", "[NaN", "Nan", "NaN NaN"])
def test_not_even_json_but_for_non_finite_numbers(text: str) -> None:
    assert parse(text) is None


def test_names_that_stand_twice() -> None:
    document = parse('{"a":1,"b":{"c":1,"\\u0063":2},"a":3}')
    assert document is not None and isinstance(document.value, Object)
    assert document.value.twice == {"a"}
    inner = document.value["b"]
    assert isinstance(inner, Object) and inner.twice == {"c"}


@pytest.mark.parametrize("levels", [1, 1_000, 1_001, 200_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_any_depth(levels: int, opening: str, closing: str) -> None:
    document = parse(opening * levels + "1" * (opening != "[") + closing * levels)
    assert document is not None
    assert parse(opening * levels) is None


def test_white_space_is_that_of_json() -> None:
    assert parse(f"{strictjson.WHITE_SPACE}1{strictjson.WHITE_SPACE}") is not None
    assert parse("\u00a01") is None
    assert parse("\x0b1") is None
