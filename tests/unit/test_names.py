"""Names of fields, in any script and with any signs: refused in words, or counted and written as they are."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.connectors import packing_properties
from surecount import config
from surecount.audit.outputs import OutputReader
from surecount.audit.truth import Truth
from surecount.config import Pipeline
from surecount.errors import SurecountError
from tests.examples import examples
from tests.unit.test_decode import NOW
from udfs import combine, partials, results
from udfs.decode import Batch, Decoder
from udfs.window_log import Merged

ODD = [
    *(
        "{",
        "}",
        "{}",
        "{0}",
        "{name}",
        "{{x}}",
        "%s",
        "100%",
        "%",
        "$",
        "$ref",
        "@",
        "*",
        "?",
        ":",
        ",",
        ";",
        "--",
        "/",
    ),
    *(
        "a/b",
        "]",
        "名前",
        "имя",
        "اسم",
        "نام\u200c",
        "ключ{0}",
        "e\u0301",
        "😀",
        "<b>",
        "&amp;",
        "#",
        "=",
        "a+b",
        "(x)",
    ),
    *("__proto__", "count", "start", "k0", "s0", "NaN", "null", "0", "-", "~", "^", "|", "!"),
]
TEXT = st.text(min_size=1, max_size=6) | st.sampled_from(ODD)


def parse(*names: str) -> Pipeline:
    """A pipeline with two keys and two sums of these names."""
    ts, first, second, third, fourth = names
    return config.parse(
        {
            "name": "names",
            "source": {"topics": ["in"], "event_time": {"field": ts}},
            "aggregate": [{"name": "a", "key": [first, second], "sum": [third, fourth], "window": "1 min"}],
        },
        "names.toml",
    )


@settings(max_examples=examples(400))
@given(st.lists(TEXT, min_size=5, max_size=5, unique=True), st.booleans())
@example(["ts", "{0}", "{", "}", "%s"], False)
@example(["a/b", "ключ", "{名前}", "$", "'"], True)
@example(["ts", "k", "k2", "\ud800", "s"], True)
def test_a_name_is_refused_in_words_or_written_as_it_is(names: list[str], ascii_only: bool) -> None:
    try:
        pipeline = parse(*names)
    except SurecountError as error:
        said = ("characters cannot be used", "cannot be inside it")
        assert all(any(text in line for text in said) for line in error.message.splitlines())
        return
    _, first, second, third, fourth = names
    document: dict[str, Any] = {}
    for path, value in zip(names, (NOW, "ada", 'q"{}%s', 3, 5), strict=True):
        level = document
        *outer, last = path.split(".")
        for part in outer:
            level = level.setdefault(part, {})
        level[last] = value
    value = json.dumps(document, ensure_ascii=ascii_only).encode()
    spec = pipeline.spec()
    columns, rejected = Decoder(spec)(Batch(pa.array([value], pa.binary()), np.array([NOW])))
    assert rejected == []
    [piece] = combine.combine(columns, spec)
    partial = partials.decode(piece.partial, spec.aggregates[0])
    merged = Merged(spec.aggregates[0], piece.start, piece.start + 60_000, partial)
    [(key, result)] = [record for pack in results.packs(merged) for record in pack.records()]
    read = json.loads(result)
    assert read["key"] == {first: "ada", second: 'q"{}%s'} and read["sum"] == {third: 3, fourth: 5}
    # The audit judges record and result alike.
    truth = Truth(pipeline)
    assert truth.judge(value, NOW) == truth.judge_strictly(value, NOW) == (NOW, "ada", 'q"{}%s', 3, 5)
    found = OutputReader(truth.plans).result(key.encode(), result.encode())
    assert (found.key, found.sums) == (("ada", 'q"{}%s'), (3, 5))
    # The jar's list has quotes between names.
    outermost = '"'.join(dict.fromkeys(path.split(".")[0] for path in names))
    arguments = Namespace(bounded=False, generation=0, moved=[])
    read = packing_properties(pipeline, "aggregate", ["in"], arguments, uid="1_kafka", projected=True)
    assert read["surecount.pack.fields"] == outermost


@pytest.mark.parametrize(
    "name", ["a b", "a'b", 'a"b', "a[0]", "a\\b", "a`b", "a..b", ".a", "a.", "", "a\x00", "\ud800"]
)
@pytest.mark.parametrize("setting", ["key", "sum", "time", "id", "check"])
def test_a_name_that_cannot_be_used_is_refused_in_words(name: str, setting: str) -> None:
    source: dict[str, Any] = {"topics": ["in"], "event_time": "kafka"}
    aggregate: dict[str, Any] = {"name": "a", "key": ["k"], "window": "1 min"}
    match setting:
        case "key" | "sum":
            aggregate[setting] = [name]
        case "time":
            source["event_time"] = {"field": name}
        case "id":
            source["event_id"] = name
        case "check":
            source["check"] = [{"field": name, "type": "int"}]
    with pytest.raises(SurecountError, match="control characters cannot be used") as caught:
        config.parse({"name": "n", "source": source, "aggregate": [aggregate]}, "n.toml")
    assert f"{name!r}: a field has the name that it has in the record" in caught.value.message
    caught.value.message.encode()  # whatever it is shown on


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "Shop"}, "name = 'Shop': a name has up to 63 letters a-z, digits, - and _, a letter first"),
        ({"topics": {"results": "a b"}}, "topics.results = 'a b': a topic's name has up to 249 letters"),
    ],
)
def test_other_names_are_refused_in_words(changed: dict[str, Any], said: str) -> None:
    data = {
        "name": "n",
        "source": {"topics": ["in"]},
        "aggregate": [{"name": "a", "key": ["k"], "window": "1 min"}],
    }
    with pytest.raises(SurecountError) as caught:
        config.parse(data | changed, "n.toml")
    assert said in caught.value.message


@pytest.mark.parametrize("name", ["a{}", "%s", "a'b", "a-b", "Ä", ""])
def test_an_aggregate_s_name_is_refused_in_words(name: str) -> None:
    data = {"name": "n", "source": {"topics": ["in"]}, "aggregate": [{"name": name, "key": ["k"], "window": "1 min"}]}
    with pytest.raises(SurecountError, match="an aggregate's name has up to 63 letters a-z, digits and _"):
        config.parse(data, "n.toml")
