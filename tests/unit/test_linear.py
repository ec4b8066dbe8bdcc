"""No record takes time that grows with the square of its length: twice as long takes about twice the time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import numpy as np
import pyarrow as pa
import pytest

from surecount.audit.truth import Truth
from tests.unit.test_contract import PIPELINE
from tests.unit.test_decode import GOOD, NOW
from udfs.decode import Batch, Decoder

SPEC = replace(PIPELINE.spec(), max_value_bytes=1 << 26)
TEXT = json.dumps(GOOD)
SMALL, TIMES = 8_000, 128
"""The longer record is 1 MB: what takes 10 ms at 8 kB takes 164 s there, where time goes with the square."""


def members(make: Callable[[int], str]) -> Callable[[int], str]:
    """A good record with further members, up to a size."""

    def record(size: int) -> str:
        more: list[str] = []
        length = 0
        for number in count():
            if length >= size:
                break
            more.append(make(number))
            length += len(more[-1]) + 1
        return TEXT[:-1] + "," + ",".join(more) + "}"

    return record


def instead(old: str, make: Callable[[int], str]) -> Callable[[int], str]:
    """A good record with something long in the place of a field's value."""
    return lambda size: TEXT.replace(old, make(size), 1)


RECORDS: dict[str, Callable[[int], str]] = {
    "names that all stand twice": members(lambda n: f'"x{n // 2}":1'),
    "one name": members(lambda _: '"x":1'),
    "many names": members(lambda n: f'"x{n}":1'),
    "many names of texts": members(lambda n: f'"x{n}":"a"'),
    "names that stand twice inside": members(lambda n: f'"x{n // 2}":{{"a":1,"a":[2,{{"a":1,"a":2}}]}}'),
    "deep lists, one after the other": members(lambda n: f'"x{n}":{"[" * 150}{"]" * 150}'),
    "numbers of 4,000 digits": members(lambda n: f'"x{n}":{"7" * 4000}'),
    "a long integer": instead('"amount": 5', lambda size: '"amount": ' + "9" * size),
    "digits in a text, and more": instead("1.25", lambda size: '"' + "1" * size + 'x"'),
    "digits with a point in a text, and more": instead("1.25", lambda size: '"' + "1" * size + "." + "1" * size + 'x"'),
    "many decimals": instead("1.25", lambda size: "1." + "1" * size),
    "zeros at the end": instead("1.25", lambda size: "1.25" + "0" * size),
    "a long exponent": instead("1.25", lambda size: "1e" + "9" * size),
    "a long key": instead("ada", lambda size: "a" * size),
    "escapes": instead("ada", lambda size: "\\\\" * (size // 2)),
    "surrogates": instead("ada", lambda size: "\\ud83d\\ude00" * (size // 12)),
    "a text that does not end": lambda size: TEXT[:-1] + ',"x":"' + "\\\\" * (size // 2),
    "quotes": lambda size: '"' * size,
    "lists that do not end": lambda size: "[" * size,
    "white space": lambda size: '{"ts"' + " " * size,
}


@pytest.mark.parametrize("name", RECORDS)
def test_time_grows_with_the_length(name: str) -> None:
    job, audit = Decoder(SPEC), Truth(PIPELINE, spec=SPEC)

    def judge(size: int) -> tuple[float, object]:
        value = RECORDS[name](size).encode()
        began = time.process_time()
        _, rejected = job(Batch(pa.array([value], pa.binary()), np.array([NOW])))
        verdict = audit.judge(value, NOW)
        assert (rejected[0].reason if rejected else None) == (verdict if isinstance(verdict, str) else None)
        return time.process_time() - began, verdict

    judge(SMALL)  # what is done once is done
    small = min(judge(SMALL)[0] for _ in range(3))
    large, _ = judge(TIMES * SMALL)
    # With the square it would be TIMES * TIMES times as long; 5 ms are for what does not grow at all.
    assert large < TIMES * 4 * (small + 0.005), (
        f"{small:.4f} s for {SMALL:,} bytes, {large:.2f} s for {TIMES * SMALL:,}"
    )
