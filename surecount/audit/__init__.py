"""An independent recount of a pipeline from its topics. It shares no code with the jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from surecount.audit.cut import find_cut
from surecount.audit.recount import Recount
from surecount.audit.report import Amount, Books, Difference, Report

if TYPE_CHECKING:
    from surecount.config import Pipeline

__all__ = ["Amount", "Books", "Difference", "Report", "audit"]

_CUTS = 3


def audit(
    pipeline: Pipeline,
    *,
    bounded: bool = False,
    timeout_s: float = 120,
    on_progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Recount the input, compare it with results, corrections and rejects, and make up the books.

    It judges what the job had read and written at one checkpoint; with ``bounded`` all of the input, and no
    window may be open. ``timeout_s`` limits the wait for that state, and any wait for records.
    ``on_progress`` gets the offsets that are read and their total; a second reading begins at 0 again.
    SurecountError where it can't be done: Kafka does not answer, topics are missing, or something is pending.
    """
    recount = Recount(pipeline, timeout_s=timeout_s, on_progress=on_progress)
    for _ in range(_CUTS):
        cut = find_cut(pipeline, bounded=bounded, timeout_s=timeout_s)
        report = recount.report(cut, bounded=bounded)
        # While the job runs, a cut may fall between the two commits of a checkpoint; another then won't.
        if report.balanced or cut.quiet:
            break
    return report
