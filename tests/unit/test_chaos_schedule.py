"""A seed's schedule of faults: the same each time, every fault in every round, within its limits."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surecount.chaos.schedule import FAULTS, FREEZE_S, PAUSE_S, chosen, schedule
from surecount.errors import SurecountError

ALL = list(FAULTS.values())


@given(seed=st.integers(0, 2**63), number=st.integers(1, 100))
def test_the_same_seed_makes_the_same_schedule(seed: int, number: int) -> None:
    assert list(islice(schedule(seed, ALL), number)) == list(islice(schedule(seed, ALL), number))


def test_another_seed_makes_another() -> None:
    firsts = {tuple(islice(schedule(seed, ALL), 5)) for seed in range(50)}
    assert len(firsts) == 50


@given(seed=st.integers(0, 1_000), names=st.lists(st.sampled_from(sorted(FAULTS)), min_size=1, unique=True))
def test_each_round_has_each_fault_once(seed: int, names: list[str]) -> None:
    steps = list(islice(schedule(seed, chosen(names)), 3 * len(names)))
    for first in range(0, len(steps), len(names)):
        assert sorted(step.fault.name for step in steps[first : first + len(names)]) == sorted(names)


@given(seed=st.integers(0, 1_000))
def test_pauses_and_what_has_an_end_are_within_limits(seed: int) -> None:
    for step in islice(schedule(seed, ALL), 2 * len(ALL)):
        shortest, longest = step.fault.hold_s
        assert PAUSE_S[0] <= step.pause_s <= PAUSE_S[1]
        assert shortest <= step.hold_s <= longest
        if step.fault.action == "freeze":
            assert step.hold_s >= FREEZE_S[0]
        assert step.fault.action is not None or step.fault.moment is None


def test_names_are_the_faults_own() -> None:
    assert all(fault.name == name for name, fault in FAULTS.items())
    assert len({fault.what for fault in ALL}) == len(ALL)
    with pytest.raises(SurecountError, match=r"--faults kill-cat: no such fault(?s:.*)kill-taskmanager"):
        chosen(["kill-broker", "kill-cat"])
