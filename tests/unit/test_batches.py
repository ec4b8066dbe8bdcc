"""A batch in which anything raises, in a user's code or in ours: all other records count, and that one is rejected."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from decimal import Decimal
from importlib import import_module
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyflink.table.udf import FunctionContext

from jobs.operators import DecodeAndCombine, DecodeAndIdentify, _Decode
from surecount.audit.truth import Truth
from surecount.rejects import REASONS
from tests.unit.packing import Sent, columns
from tests.unit.test_contract import PIPELINE
from udfs import combine, failures, partials, records
from udfs.decode import batchwise
from udfs.reasons import RejectedError
from udfs.records import RELAYED_HEADER, Records
from udfs.rejected import PARTS
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


@dataclass(frozen=True)
class Answer:
    """What a batch has become: how often each k counts, and of each rejected record what is said, and its bytes."""

    counted: dict[int, int]
    rejected: list[tuple[dict[str, str], list[bytes | None]]]


def answer(function: _Decode, packs: Sequence[Sequence[Sent]]) -> Answer:
    said = function.eval(*columns(packs), 0, pa.array([3] * len(packs), pa.int32()))
    assert isinstance(said, pa.StructArray)
    said.validate(full=True)
    counted: dict[int, int] = {}
    rejected = []
    for row in said.to_pylist():
        for bucket, data in (row or {}).get("pieces") or ():
            for k, count in _counts(function, bucket, data):
                counted[k] = counted.get(k, 0) + count
        for _, (head, *content) in (row or {}).get("rejected") or ():
            parts = head.decode().split("\t")
            rejected.append((dict(zip(PARTS, parts, strict=True)), content))
    return Answer(counted, rejected)


def _counts(function: _Decode, bucket: int, data: bytes) -> Iterator[tuple[int, int]]:
    if isinstance(function, DecodeAndCombine):
        for piece in combine.unpack(bucket, data):
            partial = partials.decode(piece.partial, SPEC.aggregates[0])
            yield from zip(partial.column("k0").to_pylist(), partial.column("count").to_pylist(), strict=True)
    else:
        for found in Records.decode(data):
            found.batch.validate(full=True)
            yield from ((json.loads(value)["k"], 1) for value in found.column("value"))


def opened(kind: type[_Decode], spec: Spec = SPEC, *inlets: Inlet) -> _Decode:
    function = kind(spec, inlets or (Inlet("main", "in"),))
    function.open(FunctionContext(None, {}))
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
    function = opened(kind)
    headers = (("trace", b"\x00\xff"), ("none", None), ("twice", b"1"), ("twice", b"2"), ("", b"empty"))
    # Of 70 packs, with records before and behind in the same one; the value came skimmed.
    sent = [Sent(good(k % 7), b"key", headers, NOW, offset=k) for k in range(200)]
    poison = good(POISON)
    sent[101] = Sent(poison, b"\x00key", headers, NOW, offset=101, whole=poison[:-1] + b',"x":1}')
    sent[50] = Sent(b"broken", None, (), NOW, offset=50)
    packs = [sent[at : at + 3] for at in range(0, len(sent), 3)]
    before = answer(opened(kind), packs)
    break_stage(monkeypatch, stage, ERRORS[error])
    found = answer(function, packs)
    assert found.counted == {k: n for k, n in before.counted.items() if k != POISON}
    assert [said["reason"] for said, _ in found.rejected] == ["not_json", "internal_error"]
    said, content = found.rejected[1]
    assert content == [b"\x00key", None, b"trace", b"twice", b"", b"\x00\xff", b"2", b"empty"]
    assert (said["pathway"], said["topic"], said["partition"], said["offset"]) == ("main", "in", "3", "101")
    # Two good ones are before it in its pack, as they came.
    assert (said["start"], said["size"]) == (str(sum(len(s.value or b"") for s in sent[99:101])), str(len(poison) + 6))
    assert said["timestamp"] == str(NOW)
    assert said["detail"] == ("ValueError: what it says" if error == "value" else "UntoldError, which has no text")


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_it_raises(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function = opened(DecodeAndCombine)
    break_stage(monkeypatch, "udfs.combine.combine", ERRORS[error])
    found = answer(function, [[Sent(good(1), kafka_ms=NOW), Sent(good(POISON), kafka_ms=NOW), Sent(b"", kafka_ms=NOW)]])
    assert found.counted == {1: 1}
    assert [said["reason"] for said, _ in found.rejected] == ["internal_error", "empty"]
    detail = found.rejected[0][0]["detail"]
    assert len(detail) <= 1000 and detail.isprintable() and type(ERRORS[error]).__name__ in detail


def test_what_fails_together_and_not_alone_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    # As values of more than 2 GiB do: Arrow's offsets have 32 bits.
    function = opened(DecodeAndIdentify)
    right = records.by_bucket

    def small_only(arrived: records.Arrived, *more: Any) -> Any:
        if len(arrived.values) > 3:
            raise pa.ArrowCapacityError("array cannot contain more than 2147483646 bytes")
        return right(arrived, *more)

    monkeypatch.setattr(records, "by_bucket", small_only)
    packs = [[Sent(good(k), kafka_ms=NOW, offset=k) for k in range(10)], [Sent(None), Sent(good(1), kafka_ms=NOW)]]
    found = answer(function, packs)
    assert found.counted == {k: 1 + (k == 1) for k in range(10)}
    assert [said["reason"] for said, _ in found.rejected] == ["tombstone"]


def test_a_relay_s_copy_is_given_up_by_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    function = opened(DecodeAndIdentify, SPEC, Inlet("west", None, "west.copies"))
    break_stage(monkeypatch, "udfs.decode.Decoder.__call__", ValueError("arrived"))
    headers = ((RELAYED_HEADER, b"1 7 0 shop.old"), ("own", b"1"))
    found = answer(function, [[Sent(good(POISON), None, headers, NOW)]])
    [(said, content)] = found.rejected
    assert (said["pathway"], said["topic"], said["partition"], said["offset"]) == ("west", "shop.old", "1", "7")
    assert content == [None, good(POISON), b"own", b"1"]


def test_every_bucket_is_woken_by_a_batch_that_was_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    function = opened(DecodeAndCombine)
    break_stage(monkeypatch, "udfs.combine.combine", ValueError())
    said = function.eval(*columns([[Sent(good(POISON), kafka_ms=NOW)]]), 0, pa.array([0], pa.int32()))
    assert isinstance(said, pa.StructArray)
    assert sorted(dict(said[0].as_py()["pieces"])) == list(range(SPEC.buckets))


def test_shutting_down_is_no_record_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    function = opened(DecodeAndCombine)
    break_stage(monkeypatch, "udfs.combine.combine", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        answer(function, [[Sent(good(POISON), kafka_ms=NOW)]])


def interrupted(_value: bytes) -> Any:
    """A user's function."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("in_main", [True, False])
def test_an_interrupt_is_a_signal_in_the_main_thread_only(in_main: bool) -> None:
    function = opened(DecodeAndCombine, replace(SPEC, decode=f"{__name__}:interrupted"))

    def judge() -> Answer:
        return answer(function, [[Sent(b"any", kafka_ms=NOW)]])

    if in_main:
        with pytest.raises(KeyboardInterrupt):
            judge()
    else:
        with ThreadPoolExecutor(1) as thread:
            assert [said["reason"] for said, _ in thread.submit(judge).result().rejected] == ["decode_failed"]


@settings(max_examples=300)
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
NAME = st.sampled_from(["", "a", "a", "ü", RELAYED_HEADER, "surecount.offset"]) | st.text(st.characters(codec="utf-8"))
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
    function = opened(kind, spec, Inlet("west", None, "west.copies"))
    audit = Truth(PIPELINE, spec=spec)

    @settings(max_examples=150)
    @given(st.lists(st.lists(SENT, min_size=1, max_size=4), min_size=1, max_size=4))
    def check(packs: list[list[Sent]]) -> None:
        said = function.eval(*columns(packs), 0, pa.array([3] * len(packs), pa.int32()))
        assert isinstance(said, pa.StructArray)
        said.validate(full=True)
        rejected = {}
        for row in said.to_pylist():
            for number, (head, key, value, *rest) in (row or {}).get("rejected") or ():
                rejected[number] = dict(zip(PARTS, head.decode().split("\t"), strict=True)), key, value, rest
        sent = [one for pack in packs for one in pack]
        verdicts = audit.judge_all([one.value for one in sent], [one.kafka_ms for one in sent])
        for number, (one, verdict) in enumerate(zip(sent, verdicts, strict=True)):
            if not isinstance(verdict, str):
                assert number not in rejected
                continue
            parts, key, value, headers = rejected[number]
            assert parts["reason"] == verdict and parts["reason"] in REASONS - {"internal_error"}
            assert (key, value) == (one.key, one.value)
            kept = {n.encode(): v for n, v in dict(one.headers).items() if v is not None and n != RELAYED_HEADER}
            names, contents = headers[: len(kept)], headers[len(kept) :]
            assert dict(zip(names, contents, strict=True)) == kept

    check()
