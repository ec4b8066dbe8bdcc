"""udfs.id_log against a plain model: a set of ids with their event times."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.examples import examples
from udfs.id_log import NO_WATERMARK, IdLog, Ids
from udfs.ids import buckets_of, of_fields, of_origins
from udfs.store import UnknownVersionError

HORIZON = 800


class MemoryStore:
    """Segments and a ledger; a read of what is not there fails."""

    def __init__(self) -> None:
        self.ledger: bytes | None = None
        self.segments: dict[str, bytes] = {}
        self.written = 0

    def read_ledger(self) -> bytes | None:
        return self.ledger

    def write_ledger(self, data: bytes) -> None:
        self.ledger = data

    def read_segment(self, name: str) -> bytes:
        return self.segments[name]

    def write_segment(self, name: str, data: bytes) -> None:
        assert name not in self.segments
        self.segments[name] = data
        self.written += len(data)

    def remove_segment(self, name: str) -> None:
        del self.segments[name]

    @property
    def ids(self) -> int:
        return sum(map(len, self.segments.values())) // 16


class Model:
    """The rules in one screen: an id is known until the watermark has passed its time by the horizon."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], int] = {}

    def admit(self, batch: list[tuple[tuple[int, int], int, bool]], watermark: int) -> list[str]:
        verdicts = []
        for event, time, replayed in batch:
            if time < watermark - HORIZON and not replayed:
                verdicts.append("too old")
            elif event in self.known:
                verdicts.append("duplicate")
            else:
                self.known[event] = time
                verdicts.append("new")
        return verdicts


def admit(log: IdLog, batch: list[tuple[tuple[int, int], int, bool]], watermark: int) -> list[str]:
    ids = np.array([event for event, _, _ in batch], np.uint64).reshape(-1, 2)
    times = np.array([time for _, time, _ in batch], np.int64)
    replayed = np.array([flag for _, _, flag in batch], bool)
    admitted = log.admit(ids, times, watermark, replayed)
    assert not (admitted.duplicate & admitted.too_old).any()
    return [
        "too old" if old else "duplicate" if double else "new"
        for old, double in zip(admitted.too_old, admitted.duplicate, strict=True)
    ]


# Few first words, so that different ids share them; times around a moving watermark.
EVENT = st.tuples(st.integers(0, 3), st.integers(0, 40))
STEP = st.tuples(
    st.integers(0, 300),
    st.lists(st.tuples(EVENT, st.integers(-1000, 400), st.just(False)), max_size=30),
    st.booleans(),
)


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(STEP, max_size=25))
@example([(0, [((0, n), n * 13 % 300, False)], False) for n in range(25)])
def test_copies_within_the_horizon_are_found_whatever_happens(steps: list[tuple[int, list, bool]]) -> None:  # type: ignore[type-arg]
    store, model = MemoryStore(), Model()
    log = IdLog(store, HORIZON)
    watermark = 0
    for advance, entries, restart in steps:
        watermark += advance
        if restart:
            log = IdLog(store, HORIZON)
        # A copy has its event's time.
        batch = [(event, model.known.get(event, max(0, watermark + ahead)), flag) for event, ahead, flag in entries]
        times: dict[tuple[int, int], int] = {}
        batch = [(event, times.setdefault(event, time), flag) for event, time, flag in batch]
        assert admit(log, batch, watermark) == model.admit(batch, watermark)


@pytest.mark.parametrize("seed", range(5))
def test_many_ids_over_many_slices_with_restores_and_old_copies(seed: int) -> None:
    random_ = random.Random(seed)
    store = MemoryStore()
    log = IdLog(store, HORIZON)
    known: dict[tuple[int, int], int] = {}
    for step in range(300):
        watermark = HORIZON + step * 10
        if random_.random() < 0.05:
            log = IdLog(store, HORIZON)
        batch = []
        for _ in range(random_.randint(1, 60)):
            live = [event for event, time in known.items() if time >= watermark - HORIZON]
            if live and random_.random() < 0.3:
                event = random_.choice(live)
                batch.append((event, known[event], False, "duplicate"))
            else:
                event = (random_.getrandbits(64), random_.getrandbits(64))
                known[event] = watermark + random_.randint(-HORIZON, 100)
                batch.append((event, known[event], False, "new"))
        assert admit(log, [entry[:3] for entry in batch], watermark) == [entry[3] for entry in batch], f"seed {seed}"
    # Old ids leave: a slice more than the horizon is kept.
    oldest = 300 * 10 - HORIZON // 8 - 20
    assert store.ids <= sum(time >= oldest for time in known.values())


def test_memory_and_writes_stay_small() -> None:
    random_ = np.random.default_rng(1)
    store = MemoryStore()
    log = IdLog(store, 80_000)
    for step in range(400):
        ids = random_.integers(0, 1 << 64, (100, 2), np.uint64, endpoint=False)
        log.admit(ids, np.full(100, step * 200), step * 200, np.zeros(100, bool))
    assert store.ids == 40_000
    assert len(store.segments) < 40
    assert store.written < 6 * 16 * 40_000
    assert store.ledger is not None
    assert len(store.ledger) < 2_000


def test_the_first_of_a_batch_is_the_new_one_and_replayed_ones_are_never_too_old() -> None:
    log = IdLog(MemoryStore(), HORIZON)
    one, two = (1, 2), (1, 3)
    batch = [(one, 5, False), (two, 5, False), (one, 5, False)]
    assert admit(log, batch, NO_WATERMARK) == ["new", "new", "duplicate"]
    far = 10 * HORIZON
    old, replay = ((9, 9), 7, False), ((9, 9), 7, True)
    assert admit(log, [old, replay, replay], far) == ["too old", "new", "duplicate"]
    assert admit(log, [((9, 9), far, False)], far) == ["new"], "what is older than the horizon is not remembered"


def test_another_horizon_keeps_what_is_known() -> None:
    store = MemoryStore()
    admit(IdLog(store, HORIZON), [((1, 1), 1000, False)], 900)
    longer = IdLog(store, 10 * HORIZON)
    assert admit(longer, [((1, 1), 1000, False), ((2, 2), 1000, False)], 5000) == ["duplicate", "new"]
    shorter = IdLog(store, HORIZON // 2)
    assert admit(shorter, [((2, 2), 5000, False)], 5000) == ["new"]


def test_a_log_of_another_version_is_refused() -> None:
    store = MemoryStore()
    store.ledger = b'{"v":2,"forgotten":0,"slices":[]}'
    with pytest.raises(UnknownVersionError, match="version 2; this code reads version 1"):
        IdLog(store, HORIZON)


def test_the_state_of_version_1() -> None:
    """Bytes that a savepoint holds: what reads them may change, they do not."""
    store = MemoryStore()
    ids = of_fields([_strings("ada", "bob")])
    IdLog(store, HORIZON).admit(ids, np.array([1000, 1000]), 500, np.zeros(2, bool))
    assert store.ledger == b'{"v":1,"forgotten":0,"slices":[[1000,1100,[[0,2]]]]}'
    assert set(store.segments) == {"1000|1100|0"}
    assert store.segments["1000|1100|0"] == b"".join(sorted((w.tobytes() for w in ids), key=lambda b: b[7::-1]))


def _strings(*values: str) -> pa.Array:
    return pa.array(values, pa.string())


def test_a_restore_without_a_watermark_does_not_make_old_copies_new() -> None:
    store = MemoryStore()
    log = IdLog(store, HORIZON)
    assert admit(log, [((1, 1), 1000, False)], 900) == ["new"]
    assert admit(log, [((2, 2), 5000, False)], 5000) == ["new"]
    restored = IdLog(store, HORIZON)
    batch = [((1, 1), 1000, False), ((2, 2), 5000, False), ((3, 3), 1200, False)]
    assert admit(restored, batch, NO_WATERMARK) == ["too old", "duplicate", "new"]


def test_ids_of_fields_are_told_apart_and_never_change() -> None:
    numbers = pa.array([1, 12], pa.int64())
    assert _hex(of_fields([_strings("ada")])) == ["93ff3b2c3682a669691d4463952c802f"]
    assert _hex(of_fields([_strings("a", "12"), pa.array([5, 1])])) == [
        "f877ef8ecc2e6fc4d2ce4ef2dc2a7017",
        "5c75f6f037228f8b9a9a74629731a687",
    ]
    # Wherever several fields are cut, they are not the same.
    assert len({*_hex(of_fields([_strings("12", "1"), pa.array([1, 21])])), *_hex(of_fields([numbers]))}) == 4
    assert _hex(of_fields([numbers])) == _hex(of_fields([_strings("1", "12")]))


def test_ids_of_origins() -> None:
    origins = [("east", "t", 0, 1), ("east", "t", 0, 11), ("east", "t", 1, 1), ("west", "t", 0, 1)]
    assert len(set(_hex(of_origins(origins)))) == 4
    assert _hex(of_origins(origins[:1])) == ["97022b586a9d730f35db10c8cce4d1f4"]


def test_buckets_are_even_and_apart_from_the_first_words() -> None:
    ids = of_origins(("east", "t", 0, offset) for offset in range(16_000))
    counts = np.bincount(buckets_of(ids, 16), minlength=16)
    assert counts.min() > 850


def _hex(ids: Ids) -> list[str]:
    return [row.tobytes().hex() for row in ids]
