"""The job and the audit implement docs/records.md separately: they must agree on every record."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from surecount import config
from surecount.audit.truth import Truth
from tests.unit.test_decode import BAD, FINE, GOOD, NOW, raw, record
from udfs.decode import Batch, Decoder

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


def verdicts(value: bytes | None) -> tuple[str | None, str | None]:
    """The job's reason and the audit's; None for a record that counts."""
    _, rejected = JOB(Batch([value], np.array([NOW])))
    judged = AUDIT.judge(value, NOW)
    return (rejected[0].reason if rejected else None), (judged if isinstance(judged, str) else None)


@pytest.mark.parametrize("name", [*BAD, *FINE])
def test_known_records(name: str) -> None:
    job, audit = verdicts((BAD | FINE)[name][0])
    assert job == audit


ODD = [
    *(b"[" * 300, b'{"a":' * 300, b"NaN", b'"\\ud800"', b'"\\uD83D\\uDE00"', b"1e999", b"-0", b"9" * 40, b"\xff"),
    *(b"\x00", b'"ts"', b'"amount":1,', b"null", b"}", b"]", b",", b" ", b"\xef\xbb\xbf", b"01", b"1.", b'"', b"\\"),
]
CUT = st.tuples(st.integers(0, 200), st.integers(0, 6), st.sampled_from(ODD) | st.binary(max_size=3))


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([record(), *(v for v, *_ in FINE.values()), json.dumps(GOOD, indent=0).encode()]),
    st.lists(
        st.tuples(st.integers(0, 200), st.integers(0, 6), st.sampled_from(ODD) | st.binary(max_size=3)), max_size=3
    ),
)
@example(raw('"ada"', '"\\ud800", "customer": "ada"'), [])
@example(raw('"ada"', '"ada", "x": ["\\ud800"], "x": 1'), [])
@example(b'{"x":' + b"[" * 300, [])
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


@settings(max_examples=400, deadline=None)
@given(st.fixed_dictionaries({k: st.just(v) | VALUE for k, v in GOOD.items()}))
def test_any_values_in_the_fields(document: dict[str, Any]) -> None:
    job, audit = verdicts(json.dumps(document).encode("utf-8", "surrogatepass"))
    assert job == audit
