"""Partitions that arrive unevenly are used evenly, and all of them."""

from __future__ import annotations

import random
from collections import defaultdict

from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from surecount.audit.pacing import Pacer, Place, Run

SPREAD = 10


def run(place: Place, clock: int) -> Run:
    """A run of one record whose offset is its clock."""
    return Run(place, [Message(topic=place[0], partition=place[1], offset=clock, value=b"12345")])


@given(st.lists(st.lists(st.integers(1, 15), max_size=12), min_size=1, max_size=4), st.integers(0, 999))
def test_no_partition_runs_far_ahead_and_nothing_is_lost(steps: list[list[int]], seed: int) -> None:
    order = random.Random(seed)
    coming = {("t", p): [sum(times[: i + 1]) for i in range(len(times))] for p, times in enumerate(steps)}
    unfinished = {place for place, clocks in coming.items() if clocks}
    pacer = Pacer(unfinished, SPREAD)
    used: dict[Place, list[int]] = defaultdict(list)
    left = {place: list(clocks) for place, clocks in coming.items()}
    while unfinished or pacer.held:
        released = pacer.release()
        runs = [released] if released else []
        if not runs and unfinished:
            place = order.choice(sorted(unfinished))
            runs = pacer.admit([run(place, left[place].pop(0))])
            if not left[place]:
                unfinished.discard(place)
        for given_out in runs:
            slowest = pacer.clock
            before = used[given_out.place][-1] if used[given_out.place] else None
            if slowest is not None and before is not None and given_out.place in unfinished | pacer.held:
                assert before <= slowest + SPREAD
            clock = given_out.messages[0].offset()
            assert clock is not None
            used[given_out.place].append(clock)
            pacer.advance(given_out.place, clock)
    assert {place: clocks for place, clocks in used.items() if clocks} == {p: c for p, c in coming.items() if c}
    assert pacer.held_bytes == 0


def test_a_partition_that_is_ahead_is_held_in_its_order() -> None:
    slow, fast = ("t", 0), ("t", 1)
    pacer = Pacer({slow, fast}, SPREAD)
    pacer.advance(slow, 0)
    pacer.advance(fast, SPREAD + 1)
    runs = [run(fast, 20), run(slow, 5), run(fast, 30)]
    assert pacer.admit(runs) == [runs[1]]
    assert (pacer.held, pacer.held_bytes) == (frozenset([fast]), 10)
    assert pacer.release() is None
    pacer.advance(slow, 5)
    assert pacer.release() == runs[0]
    pacer.advance(fast, 20)
    assert pacer.release() is None
    pacer.advance(slow, 15)
    assert pacer.release() == runs[2]
    assert pacer.held_bytes == 0
