"""A batch in which anything raises, in a user's code or in ours: all other records count, and that one is rejected."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from importlib import import_module
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.operators import DecodeAndCombine, DecodeAndIdentify, _Decode
from surecount.audit.truth import Truth
from surecount.rejects import REASONS
from tests.examples import examples
from tests.unit.packing import Answer, Sent, answer, batch, opened
from tests.unit.test_contract import PIPELINE
from udfs import combine, failures, partials, records
from udfs.decode import batchwise
from udfs.event_times import OfRecords
from udfs.headers import REPLAYED_HEADER
from udfs.reasons import RejectedError
from udfs.records import RELAYED_HEADER, Records
from udfs.spec import Aggregate, EventTime, Field, Inlet, Spec

NOW = 1_769_904_000_000
SPEC = Spec(
    (Aggregate("a", (Field("k", "int"),), (Field("n", "int"),), 10),),
    EventTime("ts", "ms"),
    max_ahead_ms=1000,
    max_value_bytes=1 << 20,
    buckets=5,
)
POISON = 666


def counted(function: _Decode, found: Answer) -> dict[int, int]:
    """How often each k counts."""
    sums: dict[int, int] = {}
    for bucket, data in found.pieces.items():
        for k, count in _counts(function, bucket, data):
            sums[k] = sums.get(k, 0) + count
    return sums


def _counts(function: _Decode, bucket: int, data: bytes) -> Iterator[tuple[int, int]]:
    if isinstance(function, DecodeAndCombine):
        for piece in combine.unpack(bucket, data):
            partial = partials.decode(piece.partial, SPEC.aggregates[0])
            yield from zip(partial.column("k0").to_pylist(), partial.column("count").to_pylist(), strict=True)
    else:
        for found in Records.decode(data):
            found.batch.validate(full=True)
            yield from ((json.loads(value)["k"], 1) for value in found.column("value"))


def made(kind: type[_Decode], spec: Spec = SPEC, *inlets: Inlet) -> _Decode:
    function: _Decode = opened(kind("shop.job", spec, inlets or (Inlet("main", "in"),), OfRecords()))
    return function


def good(k: int, **more: Any) -> bytes:
    return json.dumps({"k": k, "ts": NOW, "n": 1, **more}).encode()


class UntoldError(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise ValueError("no text")


ERRORS: dict[str, BaseException] = {
    "value": ValueError("what it says"),
    "memory": MemoryError(),
    "recursion": RecursionError("too deep"),
    "arrow": pa.ArrowInvalid("invalid"),
    "capacity": pa.ArrowCapacityError("array cannot contain more than 2147483646 bytes"),
    "overflow": OverflowError("int32"),
    "a surrogate": ValueError("lone \ud800 surrogate"),
    "no text": UntoldError(),
    "3,000,000 characters": ValueError("x" * 3_000_000),
    "control characters": ValueError("a\tb\nc\x00\x1b[31m\u202e\x85"),
}

STAGES: dict[str, Callable[..., bool]] = {
    "udfs.batches.unpack": lambda _index, values, *_: any(b"666" in (v or b"") for v in values.to_pylist()),
    "jobs.operators.arrive": lambda found, *_: any(b"666" in (v or b"") for v in found.values.to_pylist()),
    "udfs.decode.Decoder.__call__": lambda _, batch: any(b"666" in (v or b"") for v in batch.values.to_pylist()),
    "udfs.combine.combine": lambda found, _: POISON in found.fields["k"].to_pylist(),
    "udfs.partials.encode": lambda partial, _: POISON in partial.column("k0").to_pylist(),
    "udfs.records.by_bucket": lambda _, found, *__: POISON in found.fields["k"].to_pylist(),
    "udfs.records.Records.encode": lambda self: any(b"666" in v for v in self.column("value")),
}


def break_stage(monkeypatch: pytest.MonkeyPatch, stage: str, error: BaseException) -> None:
    """Have a stage of ours raise where the record of POISON is in its batch."""
    owner: Any = import_module(".".join(stage.split(".")[:2]))
    *path, name = stage.split(".")[2:]
    for part in path:
        owner = getattr(owner, part)
    right = getattr(owner, name)

    def broken(*arguments: Any) -> Any:
        if STAGES[stage](*arguments):
            raise error
        return right(*arguments)

    monkeypatch.setattr(owner, name, broken)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("error", ["value", "no text"])
def test_a_bug_of_ours_costs_one_record(stage: str, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = DecodeAndIdentify if "records" in stage else DecodeAndCombine
    function = made(kind)
    headers = (("trace", b"\x00\xff"), ("none", None), ("twice", b"1"), ("twice", b"2"), ("", b"empty"))
    # Of 70 packs, with records before and behind in the same one; the value came skimmed.
    sent = [Sent(good(k % 7), b"key", headers, NOW, offset=k) for k in range(200)]
    poison = good(POISON)
    sent[101] = Sent(poison, b"\x00key", headers, NOW, offset=101, whole=poison[:-1] + b',"x":1}')
    sent[50] = Sent(b"broken", None, (), NOW, offset=50)
    packs = [sent[at : at + 3] for at in range(0, len(sent), 3)]
    before = answer(made(kind), batch(packs))
    break_stage(monkeypatch, stage, ERRORS[error])
    found = answer(function, batch(packs))
    assert counted(function, found) == {k: n for k, n in counted(function, before).items() if k != POISON}
    assert [one.said["reason"] for one in found.rejected] == ["not_json", "internal_error"]
    one = found.rejected[1]
    said = one.said
    assert (one.key, one.value, one.own) == (b"\x00key", None, [*headers])
    assert (said["topic"], said["partition"], said["offset"]) == ("in", "3", "101")
    assert said.get("pathway") == ("main" if kind is DecodeAndIdentify else None)
    # Two good ones are before it in its pack, as they came.
    before_it = sum(len(s.value or b"") for s in sent[99:101])
    assert (one.pack, one.start, one.size) == (33, before_it, len(poison) + 6)
    assert said["timestamp"] == str(NOW)
    assert said["detail"] == ("ValueError: what it says" if error == "value" else "UntoldError, which has no text")


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_it_raises(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function = made(DecodeAndCombine)
    break_stage(monkeypatch, "udfs.combine.combine", ERRORS[error])
    found = answer(
        function, batch([[Sent(good(1), kafka_ms=NOW), Sent(good(POISON), kafka_ms=NOW), Sent(b"", kafka_ms=NOW)]])
    )
    assert counted(function, found) == {1: 1}
    assert [one.said["reason"] for one in found.rejected] == ["internal_error", "empty"]
    detail = found.rejected[0].said["detail"]
    assert len(detail) <= 1000 and detail.isprintable() and type(ERRORS[error]).__name__ in detail


def test_what_fails_together_and_not_alone_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    # As values of more than 2 GiB do: Arrow's offsets have 32 bits.
    function = made(DecodeAndIdentify)
    right = records.by_bucket

    def small_only(arrived: records.Arrived, *more: Any) -> Any:
        if len(arrived.values) > 3:
            raise pa.ArrowCapacityError("array cannot contain more than 2147483646 bytes")
        return right(arrived, *more)

    monkeypatch.setattr(records, "by_bucket", small_only)
    packs = [[Sent(good(k), kafka_ms=NOW, offset=k) for k in range(10)], [Sent(None), Sent(good(1), kafka_ms=NOW)]]
    found = answer(function, batch(packs))
    assert counted(function, found) == {k: 1 + (k == 1) for k in range(10)}
    assert [one.said["reason"] for one in found.rejected] == ["tombstone"]


def test_a_relay_s_copy_is_given_up_by_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    function = made(DecodeAndIdentify, SPEC, Inlet("west", None, "west.copies"))
    break_stage(monkeypatch, "udfs.decode.Decoder.__call__", ValueError("arrived"))
    headers = ((RELAYED_HEADER, b"1 7 0 shop.old"), ("own", b"1"))
    found = answer(function, batch([[Sent(good(POISON), None, headers, NOW)]]))
    [one] = found.rejected
    said = one.said
    assert (said["pathway"], said["topic"], said["partition"], said["offset"]) == ("west", "shop.old", "1", "7")
    assert (one.key, one.value, one.own) == (None, good(POISON), [("own", b"1")])


def test_every_bucket_is_woken_by_a_batch_that_was_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    function = made(DecodeAndCombine)
    break_stage(monkeypatch, "udfs.combine.combine", ValueError())
    said = answer(function, batch([[Sent(good(POISON), kafka_ms=NOW)]]))
    assert sorted(said.pieces) == list(range(SPEC.buckets))


def test_shutting_down_is_no_record_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    function = made(DecodeAndCombine)
    break_stage(monkeypatch, "udfs.combine.combine", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        answer(function, batch([[Sent(good(POISON), kafka_ms=NOW)]]))


def interrupted(_value: bytes) -> Any:
    """A user's function."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("in_main", [True, False])
def test_an_interrupt_is_a_signal_in_the_main_thread_only(in_main: bool) -> None:
    function = made(DecodeAndCombine, replace(SPEC, decode=f"{__name__}:interrupted"))

    def judge() -> Answer:
        return answer(function, batch([[Sent(b"any", kafka_ms=NOW)]]))

    if in_main:
        with pytest.raises(KeyboardInterrupt):
            judge()
    else:
        with ThreadPoolExecutor(1) as thread:
            assert [one.said["reason"] for one in thread.submit(judge).result().rejected] == ["decode_failed"]


@settings(max_examples=examples(300))
@given(st.text(max_size=50) | st.text(st.characters(), min_size=900, max_size=5000))
def test_any_detail_is_one_short_line_that_can_be_encoded(text: str) -> None:
    detail = RejectedError("x", text).detail
    assert len(detail) <= failures.MAX_TEXT and detail.isprintable()
    assert "\t" not in detail and len(detail.encode()) <= 4 * failures.MAX_TEXT


class Odd(Mapping[str, Any]):
    """A mapping whose methods raise."""

    def __getitem__(self, name: str) -> Any:
        raise SystemExit(name)

    def __iter__(self) -> Iterator[str]:
        raise GeneratorExit

    def __len__(self) -> int:
        raise MemoryError


class Text(str):
    """A text with methods of its own."""

    __slots__ = ()

    def __str__(self) -> str:
        raise ValueError

    def encode(self, *_: Any) -> bytes:
        raise ValueError

    def isascii(self) -> bool:
        raise SystemExit


class Number(int):
    """An integer with methods of its own."""

    def __abs__(self) -> int:
        raise ValueError

    def __int__(self) -> int:
        raise ValueError


GIVEN: dict[str, Any] = {"ts": NOW, "customer": "ada", "shop": {"id": 7, "tax": 1}, "amount": 5, "weight": 0.5}
ANSWERS: list[Callable[[], Any]] = [
    lambda: GIVEN,
    lambda: GIVEN | {"amount": 10**5000},
    lambda: GIVEN | {"amount": np.int64(5)},
    lambda: GIVEN | {"amount": True},
    lambda: GIVEN | {"amount": Number(5)},
    lambda: GIVEN | {"weight": np.float64(0.5)},
    lambda: GIVEN | {"weight": Decimal("sNaN")},
    lambda: GIVEN | {"weight": Decimal("1e999999999")},
    lambda: GIVEN | {"shop": {"id": 7, "tax": Decimal("sNaN")}},
    lambda: GIVEN | {"shop": {"id": 7, "tax": Decimal("-1e-999999999")}},
    lambda: GIVEN | {"shop": {"id": 1 << 64, "tax": float("inf")}},
    lambda: GIVEN | {"shop": Odd()},
    lambda: GIVEN | {"customer": b"ada"},
    lambda: GIVEN | {"customer": Text("ada")},
    lambda: GIVEN | {"customer": np.str_("ada")},
    lambda: GIVEN | {"customer": "\ud800"},
    lambda: GIVEN | {"ts": -1},
    lambda: GIVEN | {"ts": 1 << 200},
    lambda: {1: 2, None: 3},
    Odd,
    lambda: None,
    lambda: (x for x in "ab"),
    lambda: [GIVEN],
    lambda: 1 // 0,
    *((lambda error=error: raise_(error)) for error in ERRORS.values()),
    *(
        (lambda error=error: raise_(error))
        for error in (SystemExit(1), GeneratorExit(), BaseException("b"), RejectedError("a\tb", "c"))
    ),
]


def raise_(error: BaseException) -> Any:
    raise error


def by_row(value: bytes) -> Any:
    """A user's function that does what a value's first byte says."""
    return ANSWERS[value[0] % len(ANSWERS)]()


@batchwise
def by_batch(values: pa.Array) -> Any:
    """The same of a batch; what is no row of a table is something else."""
    kinds = {value[0] % 12 if value else 0 for value in values.to_pylist()}
    if len(kinds) > 1 and min(kinds) < 7:
        raise ValueError("one of them is odd")  # what becomes of a value may not depend on its company
    count = len(values)
    odd: list[Callable[[], Any]] = [
        lambda: pa.table({"customer": ["ada"] * (count + 1)}),
        lambda: None,
        lambda: pa.StructArray.from_arrays([pa.array(["ada"] * count)], ["customer"]),
        lambda: raise_(SystemExit("a user's")),
        Odd,
        lambda: pa.table({"customer": not_utf8(count), **rest(count)}),
        lambda: pa.table([pa.array([1] * count)] * 2, names=["amount", "amount"]),
    ]
    kind = min(kinds)
    return odd[kind]() if kind < len(odd) else pa.table({"customer": ["ada"] * count, **rest(count)})


def not_utf8(count: int) -> pa.Array:
    return pa.array([b"\xff"] * count, pa.binary()).view(pa.string())


def rest(count: int) -> dict[str, list[Any]]:
    return {
        "ts": [NOW] * count,
        "shop.id": [7] * count,
        "shop.tax": [1] * count,
        "amount": [5] * count,
        "weight": [0.5] * count,
    }


OWN = {
    name: (replace(PIPELINE.spec(), max_value_bytes=60, decode=f"{__name__}:{name}") if name else PIPELINE.spec())
    for name in ("", "by_row", "by_batch")
}
VALUE = st.none() | st.binary(max_size=80) | st.binary(min_size=1, max_size=2)
NAME = st.sampled_from(["", "a", "a", "ü", RELAYED_HEADER, REPLAYED_HEADER]) | st.text(
    st.characters(codec="utf-8")
).filter(lambda name: not name.startswith("surecount."))
HEADER = st.tuples(NAME, st.none() | st.binary(max_size=6) | st.just(b"1 7 0 shop.old"))
SENT = st.builds(
    Sent,
    value=VALUE | st.integers(0, 255).map(lambda first: bytes([first])),
    key=st.none() | st.binary(max_size=6),
    headers=st.lists(HEADER, max_size=3).map(tuple),
    kafka_ms=st.sampled_from([NOW, -1, 0, NOW // 1000, NOW * 1000, (1 << 63) - 1, -(1 << 63)]),
    offset=st.integers(0, 1 << 40),
)


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("kind", [DecodeAndCombine, DecodeAndIdentify])
def test_any_bytes_and_any_answers_of_a_users_function(own: str, kind: type[_Decode]) -> None:
    spec = OWN[own]
    function = made(kind, spec, Inlet("west", None, "west.copies"))
    audit = Truth(PIPELINE, spec=spec)

    @settings(max_examples=examples(150))
    @given(st.lists(st.lists(SENT, min_size=1, max_size=4), min_size=1, max_size=4))
    def check(drawn: list[list[Sent]]) -> None:
        numbers = itertools.count()
        packs = [[replace(one, key=b"%d" % next(numbers)) for one in pack] for pack in drawn]
        rejected = {one.key: one for one in answer(function, batch(packs)).rejected}
        sent = [one for pack in packs for one in pack]
        verdicts = audit.judge_all([one.value for one in sent], [one.kafka_ms for one in sent])
        for one, verdict in zip(sent, verdicts, strict=True):
            if not isinstance(verdict, str):
                assert one.key not in rejected
                continue
            found = rejected[one.key]
            reason = dict(found.headers[-8:])["surecount.reason"]
            assert reason == verdict.encode() and verdict in REASONS - {"internal_error"}
            assert found.value == one.value
            own = [header for header in one.headers if header[0] != RELAYED_HEADER]
            assert found.headers[: len(own)] == own

    check()
