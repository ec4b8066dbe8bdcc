"""The data path without Flink: combine, partials and the window log against a dict."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from udfs import partials, results, window_log
from udfs.combine import bucket_of, by_bucket, combine, unpack
from udfs.decode import Batch, Decoder
from udfs.partials import UnknownVersionError
from udfs.spec import Aggregate, EventTime, Field, Spec
from udfs.window_log import Merged, WindowLog

SPEC = Spec(
    (
        Aggregate("by_k", (Field("k", "string"),), (Field("i", "int"), Field("d", "decimal", 2)), 10),
        Aggregate("by_kn", (Field("k", "string"), Field("n", "int")), (Field("f", "float"), Field("i", "int")), 25),
        Aggregate("all_n", (Field("n", "int"),), (), 10),
    ),
    EventTime("ts", "ms"),
    max_ahead_ms=1 << 40,
    max_value_bytes=1 << 20,
    buckets=3,
)


class MemoryStore(dict[str, bytes]):
    """One bucket's state."""

    ledger: bytes | None = None

    def read_ledger(self) -> bytes | None:
        return self.ledger

    def write_ledger(self, data: bytes) -> None:
        self.ledger = data

    read_segment = dict.__getitem__
    write_segment = dict.__setitem__

    def remove_segment(self, name: str) -> None:
        del self[name]


class Buckets:
    """What Flink does: state and timers by bucket, one watermark."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.stores: dict[int, MemoryStore] = defaultdict(MemoryStore)
        self.timers: dict[int, set[int]] = defaultdict(set)
        self.watermark = window_log.NO_WATERMARK
        self.results: list[Merged] = []
        self.corrections: list[Merged] = []

    def send(self, values: list[bytes]) -> None:
        columns, rejected = Decoder(self.spec)(Batch(pa.array(values, pa.binary()), np.zeros(len(values), np.int64)))
        assert rejected == []
        for bucket, data in by_bucket(combine(columns, self.spec)).items():
            appended = WindowLog(self.spec, self.stores[bucket]).append(unpack(bucket, data), self.watermark)
            self.timers[bucket] |= set(appended.timers)
            self.corrections += appended.late

    def advance(self, watermark: int) -> None:
        self.watermark = max(self.watermark, watermark)
        for bucket, timers in self.timers.items():
            for time in sorted(t for t in timers if t <= self.watermark):
                timers.discard(time)
                self.results += WindowLog(self.spec, self.stores[bucket]).close(time)


def lines(merged: Merged) -> list[tuple[str, str]]:
    return [record for pack_ in results.packs(merged) for record in pack_.records()]


def totals(merged: list[Merged]) -> dict[tuple[Any, ...], list[Any]]:
    found: dict[tuple[Any, ...], list[Any]] = {}
    for m in merged:
        for texts in lines(m):
            key, value = map(json.loads, texts)
            assert {name: value[name] for name in key} == key
            name = (value["aggregate"], tuple(value["key"].values()), m.start)
            numbers = [value["count"], *(Fraction(v) for v in value["sum"].values())]
            found[name] = [a + b for a, b in zip(found.get(name, [0] * len(numbers)), numbers, strict=True)]
    return found


def model(records: list[dict[str, Any]]) -> dict[tuple[Any, ...], list[Any]]:
    found: dict[tuple[Any, ...], list[Any]] = {}
    for r in records:
        for a in SPEC.aggregates:
            name = (a.name, tuple(r[f.path] for f in a.key), r["ts"] // a.window_ms * a.window_ms)
            numbers = [1, *(Fraction(r[f.path]) for f in a.sums)]
            found[name] = [x + y for x, y in zip(found.get(name, [0] * len(numbers)), numbers, strict=True)]
    return found


RECORD = st.fixed_dictionaries(
    {
        "ts": st.integers(0, 99),
        "k": st.text(max_size=2),
        "n": st.integers(-2, 2) | st.sampled_from([-(1 << 63), (1 << 63) - 1]),
        "i": st.integers(-9, 9) | st.integers(-(10**38) + 1, 10**38 - 1) | st.sampled_from([(1 << 63) - 1]),
        "d": st.integers(-(10**30), 10**30).map(lambda n: f"{n // 100}.{n % 100:02d}"),
        # Few bits, so that the double in a result is the exact sum.
        "f": st.integers(-100, 100).map(lambda n: n / 4),
    }
)
STEP = st.lists(RECORD, max_size=8) | st.integers(0, 120)


@settings(max_examples=examples(50))
@given(st.lists(st.tuples(st.lists(RECORD, max_size=8), st.booleans()), max_size=6), st.integers(0, 60))
def test_windows_whose_timers_a_snapshot_lacks_close_after_it(steps: list[Any], watermark: int) -> None:
    buckets = Buckets(SPEC)
    kept: dict[int, set[int]] = defaultdict(set)
    for records, timers_are_kept in steps:
        before = {bucket: set(timers) for bucket, timers in buckets.timers.items()}
        buckets.send([json.dumps(r).encode() for r in records])
        for bucket, timers in buckets.timers.items():
            kept[bucket] |= timers - before.get(bucket, set()) if timers_are_kept else set()
    # A restore: state as it was, some timers, and no watermark.
    buckets.timers = kept
    buckets.advance(watermark)
    # Each bucket is woken.
    for bucket, store in buckets.stores.items():
        buckets.timers[bucket] |= set(WindowLog(SPEC, store).open_timers())
    buckets.advance(1_000)
    records = [record for step, _ in steps for record in step]
    assert totals(buckets.results) == model(records)
    assert buckets.corrections == []
    assert not any(buckets.stores.values())


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(STEP, max_size=12))
def test_results_and_corrections_are_the_model_and_nothing_fires_twice(steps: list[Any]) -> None:
    buckets = Buckets(SPEC)
    records: list[dict[str, Any]] = []
    for step in steps:
        if isinstance(step, int):
            buckets.advance(step)
        else:
            records += step
            buckets.send([json.dumps(r).encode() for r in step])
    buckets.advance(1000)
    assert totals(buckets.results + buckets.corrections) == model(records)
    fired = [
        (m.aggregate.name, key, m.start)
        for m in buckets.results
        for key in zip(*(c.to_pylist() for c in m.partial.columns[: len(m.aggregate.key)]), strict=True)
    ]
    assert len(fired) == len(set(fired))
    assert all(store == {} for store in buckets.stores.values())


def record(ts: int, k: str = "a") -> bytes:
    return json.dumps({"ts": ts, "k": k, "n": 1, "i": 1, "d": 1, "f": 0.5}).encode()


def test_a_window_that_closed_stays_closed_when_the_watermark_is_forgotten() -> None:
    buckets = Buckets(SPEC)
    buckets.send([record(5)])
    buckets.advance(60)
    assert len(buckets.results) == 3
    buckets.watermark = window_log.NO_WATERMARK  # as after a restore
    buckets.send([record(5)])
    assert len(buckets.corrections) == 3
    assert totals(buckets.results + buckets.corrections)["by_k", ("a",), 0][0] == 2


def test_late_by_says_how_far_the_watermark_was_past_the_window() -> None:
    buckets = Buckets(SPEC)
    buckets.advance(14)
    buckets.send([record(5)])
    assert {m.late_by_ms for m in buckets.corrections if m.aggregate.window_ms == 10} == {5}


def test_the_log_stays_proportional_to_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_log, "_COMPACT_BYTES", 4096)
    buckets = Buckets(SPEC)
    batch = [record(5, f"key-{i}") for i in range(50)]
    sizes = []
    for _ in range(300):
        buckets.send(batch)
        sizes.append(sum(len(v) for store in buckets.stores.values() for v in store.values()))
    assert max(sizes[150:]) <= max(sizes[:150])
    assert max(len(store) for store in buckets.stores.values()) <= 3 * window_log._COMPACT_SEGMENTS
    buckets.advance(60)
    assert totals(buckets.results)["by_k", ("key-7",), 0][0] == 300


def test_sums_beyond_64_bits_survive_merging() -> None:
    buckets = Buckets(SPEC)
    huge = (1 << 63) - 1
    for _ in range(5):
        buckets.send([json.dumps({"ts": 1, "k": "a", "n": 1, "i": huge, "d": 0, "f": 1e308}).encode()] * 3)
    buckets.advance(60)
    found = totals(buckets.results)
    assert found["by_k", ("a",), 0] == [15, 15 * huge, 0]
    assert found["by_kn", ("a", 1), 0][1] == 15 * Fraction(1e308)


@given(st.lists(st.text() | st.just("ascii"), max_size=20), st.integers(1, 64))
def test_buckets_depend_on_the_key_alone(keys: list[str], buckets: int) -> None:
    together = bucket_of([pa.array(keys, pa.string())], buckets).tolist()
    assert together == [bucket_of([pa.array([k], pa.string())], buckets)[0] for k in keys]


def test_buckets_never_change() -> None:
    keys = [pa.array(["ada", "bob", "", "é"]), pa.array([1, -5, 0, 1 << 62])]
    assert bucket_of(keys[:1], 16).tolist() == [8, 0, 0, 14]
    assert bucket_of(keys, 4096).tolist() == [1626, 1511, 3873, 3918]


def test_a_partial_of_another_version_is_refused() -> None:
    with pytest.raises(UnknownVersionError):
        partials.decode(b"\x02" + bytes(7), SPEC.aggregates[0])
    store = MemoryStore()
    store.ledger = b'{"v":2}'
    with pytest.raises(UnknownVersionError):
        WindowLog(SPEC, store).close(1)


def test_partials_of_version_1_can_be_read_forever() -> None:
    """Bytes that version 1 wrote: two keys, counts 2 and 1, one wide sum and one narrow."""
    aggregate = SPEC.aggregates[0]
    table = pa.table({"k0": ["x", "y"], "count": [2, 1], "s0": pa.array([b"\x01", b"\x00\x00\x01"]), "s1": [5, 6]})
    written = partials.encode(partials.group(table, ["k0"], aggregate), aggregate)
    assert written[:8] == b"\x01\x00\x00\x00\x01\x00\x00\x00"
    read = partials.decode(written, aggregate)
    assert partials.sums(read, aggregate) == [[1, 65536], [5, 6]]


def test_packs_hold_no_more_than_their_number() -> None:
    aggregate = SPEC.aggregates[2]
    n = results.PACK_RECORDS * 2 + 1
    partial = pa.record_batch({"k0": pa.array(range(n)), "count": pa.array([1] * n)})
    packs = list(results.packs(Merged(aggregate, 0, 10, partial)))
    assert [len(list(pack_.records())) for pack_ in packs] == [results.PACK_RECORDS, results.PACK_RECORDS, 1]


def test_a_result_is_written_as_the_contract_says() -> None:
    aggregate = Aggregate("per_customer", (Field("customer", "string"),), (Field("amount", "int"),), 60_000)
    partial = pa.record_batch({"k0": ['a\t"\n'], "count": [3], "s0": [42]})
    start = 1_769_903_940_000
    ((key, value),) = lines(Merged(aggregate, start, start + 60_000, partial))
    assert key == r'{"aggregate":"per_customer","key":{"customer":"a\t\"\n"},"start":"2026-01-31T23:59:00Z"}'
    assert value == key[:-1] + ',"end":"2026-02-01T00:00:00Z","count":3,"sum":{"amount":42}}'
    late = lines(Merged(aggregate, start, start + 60_000, partial, late_by_ms=7))
    assert late == [(key, value[:-1] + ',"late_by_ms":7}')]


def test_chunks_of_any_size_give_the_same_totals() -> None:
    values = [record(i % 40, f"k{i % 7}") for i in range(100)]
    outcomes = []
    for size in (1, 7, 100):
        buckets = Buckets(SPEC)
        for at in range(0, 100, size):
            buckets.send(list(itertools.islice(values, at, at + size)))
        buckets.advance(1000)
        outcomes.append(totals(buckets.results))
    assert outcomes[0] == outcomes[1] == outcomes[2]


RECORDS = st.lists(RECORD, min_size=1, max_size=8)


@given(RECORDS, RECORDS, st.sets(st.sampled_from([a.name for a in SPEC.aggregates]), min_size=1, max_size=2))
def test_what_other_aggregates_count_stays_when_some_are_taken_out(
    before: list[dict[str, Any]], after: list[dict[str, Any]], gone: set[str]
) -> None:
    buckets = Buckets(SPEC)
    buckets.send([json.dumps(record).encode() for record in before])
    buckets.spec = replace(SPEC, aggregates=tuple(a for a in SPEC.aggregates if a.name not in gone))
    buckets.send([json.dumps(record).encode() for record in after])
    buckets.advance(1_000)
    expected = {name: numbers for name, numbers in model(before + after).items() if name[0] not in gone}
    assert totals(buckets.results) == expected
    assert all(not store for store in buckets.stores.values())


@given(RECORDS, RECORDS)
def test_no_record_is_lost_when_windows_change(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    buckets = Buckets(SPEC)
    buckets.send([json.dumps(record).encode() for record in before])
    changed = replace(SPEC.aggregates[0], window_ms=15)
    buckets.spec = replace(SPEC, aggregates=(changed, *SPEC.aggregates[1:]))
    buckets.send([json.dumps(record).encode() for record in after])
    buckets.advance(1_000)

    def by_key(found: dict[tuple[Any, ...], list[Any]]) -> dict[Any, list[Any]]:
        sums: dict[Any, list[Any]] = {}
        for (aggregate, key, _), numbers in found.items():
            old = sums.get((aggregate, key), [0] * len(numbers))
            sums[aggregate, key] = [a + b for a, b in zip(old, numbers, strict=True)]
        return sums

    assert by_key(totals(buckets.results)) == by_key(model(before + after))
