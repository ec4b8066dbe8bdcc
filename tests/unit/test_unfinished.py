"""What has become of a run of which nothing runs: a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from surecount.errors import SurecountError
from surecount.ops.restore import LATEST
from surecount.ops.unfinished import Fate, check_not_ended, check_same, fate_of
from tests.unit.test_ledger import a_run

RUN = a_run()
BEGAN = replace(RUN, snapshot="file:///s/chk-1")
BOUNDED = replace(RUN, bounded=True)


@pytest.mark.parametrize(
    ("run", "has_snapshots", "state", "fate"),
    [
        (RUN, False, None, Fate.UNFINISHED),
        (BEGAN, False, None, Fate.UNFINISHED),
        (RUN, True, None, Fate.OVER),
        (RUN, False, "CANCELED", Fate.OVER),
        (RUN, False, "FAILED", Fate.OVER),
        (replace(RUN, refused="no"), False, None, Fate.OVER),
        (replace(RUN, stopped_with="file:///s/1"), False, None, Fate.OVER),
        # What a bounded run has written is all that is left of it.
        (BOUNDED, False, None, Fate.UNFINISHED),
        (BOUNDED, False, "FINISHED", Fate.ENDED),
        (replace(BOUNDED, snapshot="file:///s/1"), False, None, Fate.ENDED),
        (BOUNDED, False, "FAILED", Fate.OVER),
    ],
)
def test_fates(run: object, has_snapshots: bool, state: str | None, fate: Fate) -> None:
    assert fate_of(run, has_snapshots=has_snapshots, state=state) is fate  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("snapshot", "parallelism", "bounded", "differs"),
    [
        (LATEST, 1, False, None),
        ("file:///s/chk-1", 1, False, None),
        ("file:///s/chk-2", 1, False, "begins from file:///s/chk-1"),
        (None, 1, False, "begins from file:///s/chk-1"),
        (LATEST, 2, False, "has parallelism 1"),
        (LATEST, 1, True, "is not bounded"),
    ],
)
def test_an_unfinished_run_is_brought_to_flink_as_it_was_written_down(
    snapshot: str | None,
    parallelism: int,
    bounded: bool,
    differs: str | None,
) -> None:
    if differs is None:
        check_same(BEGAN, "shop.aggregate", snapshot, parallelism, bounded=bounded)
        return
    with pytest.raises(SurecountError, match=differs) as refused:
        check_same(BEGAN, "shop.aggregate", snapshot, parallelism, bounded=bounded)
    assert "`surecount start PIPELINE --job aggregate --parallelism 1` brings it there" in str(refused.value)


def test_a_bounded_run_that_has_ended_is_not_run_again() -> None:
    with pytest.raises(SurecountError, match="would be written again"):
        check_not_ended(BOUNDED, "shop.aggregate", Fate.ENDED)
