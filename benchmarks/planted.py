"""Is chaos able to catch what it is there for? Faults are planted in the jobs' code, and each must be found.

What is planted is in the copy of the code that is shipped, never in the product.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from surecount import config
from surecount.chaos.run import Hearing, Wanted, run
from surecount.chaos.schedule import chosen
from surecount.chaos.seen import Account
from surecount.console import err, out
from surecount.errors import SurecountError
from surecount.ops.code import pack, package

_FAULTS = ("kill-taskmanager", "kill-worker", "kill-aggregate", "kill-ingest", "kill-in-commit")
_PIPELINE = """
name = "planted"

[source]
event_time = { field = "ts", unit = "ms" }
event_id = "id"
out_of_orderness = "1 s"
idle_after = "10 s"

[[source.pathway]]
name = "east"
topics = ["planted.east"]

[[source.pathway]]
name = "west"
topics = ["planted.west"]

[[aggregate]]
name = "totals"
key = ["key"]
sum = ["amount"]
window = "2 s"

[checkpoint]
interval = "2 s"
"""


@dataclass(frozen=True)
class Planted:
    """A fault: in a shipped file, ``right`` becomes ``wrong``."""

    what: str
    file: str
    right: str
    wrong: str


PLANTED = {
    "nothing": None,
    "at-least-once": Planted(
        "the sinks are at-least-once",
        "jobs/connectors.py", '_GUARANTEE = "EXACTLY_ONCE"', '_GUARANTEE = "AT_LEAST_ONCE"',
    ),
    "closed-through-off": Planted(
        "what a bucket has closed is forgotten; only the watermark tells",
        "udfs/window_log.py",
        "max(ledger.closed.get(aggregate.name, NO_WATERMARK), watermark + 1)", "watermark + 1",
    ),
    "late-dropped": Planted(
        "late partials are dropped",
        "udfs/window_log.py", "late.append(Merged(", "print(Merged(",
    ),
    "window-kept": Planted(
        "a window that has fired stays in the log",
        "udfs/window_log.py",
        "            del ledger.windows[window.aggregate, window.start, window.end]\n", "",
    ),
    "prefix-reused": Planted(
        "all sinks of both jobs have one transactional prefix",
        "jobs/connectors.py", "pipeline.transactional_id_prefix(job, kind)", '"one-for-all"',
    ),
    "commit-skipped": Planted(
        "what a recovery is to commit is aborted before: transactions live for 4 s",
        "jobs/connectors.py", "str(pipeline.sink.transaction_timeout)", '"4000"',
    ),
    "duplicates-pass": Planted(
        "duplicates pass",
        "jobs/operators.py", "~(admitted.duplicate | admitted.too_old)", "~admitted.too_old",
    ),
}  # fmt: skip
"""What can be planted, by name; nothing must not be caught."""


def code(planted: Planted | None, file: Path) -> bytes | None:
    """The shipped code with a fault in it. Raises SurecountError where the code is not as the fault has it."""
    if planted is None:
        return None
    with tempfile.TemporaryDirectory(prefix="surecount-planted-") as folder:
        shipped = Path(folder)
        package(shipped, file, None)
        text = (shipped / planted.file).read_text(encoding="utf-8")
        if text.count(planted.right) != 1:
            raise SurecountError(f"{planted.file} has no one place for: {planted.right}")
        (shipped / planted.file).write_text(text.replace(planted.right, planted.wrong), encoding="utf-8")
        return pack(shipped)


def measure(names: Sequence[str], seed: int, minutes: float, rate: float) -> None:
    """Print which of the planted faults were caught, and by what; raises SurecountError where one was not."""
    table = Table("planted", "seed", "faults until the end", "caught by", title=f"{minutes:g} minutes each")
    wrong = []
    with tempfile.TemporaryDirectory(prefix="surecount-planted-") as folder:
        file = Path(folder) / "planted.toml"
        file.write_text(_PIPELINE, encoding="utf-8")
        for name in names:
            planted = PLANTED[name]
            wanted = Wanted(seed, minutes, chosen(_FAULTS), rate, 50, brokers=1, code=code(planted, file))
            hearing = Hearing(lambda *_: None, lambda _: None, lambda _: None)
            try:
                account = run(config.load(file), file, wanted, Path(folder) / "logs", hearing)
                faults, caught = str(account.faults), _caught(account)
            except SurecountError as error:
                if error.exit_code != 1:  # the machine's fault, not that which is planted
                    raise
                faults, caught = "", f"the jobs did not recover: {error.message.splitlines()[0]}"
            row = (planted.what if planted else name, str(seed), faults, caught or "–")
            err.print(" | ".join(row), highlight=False, markup=False)
            table.add_row(*row)
            if bool(caught) != bool(planted):
                wrong.append(name)
    out.print(table)
    if wrong:
        raise SurecountError(f"not as it should be: {', '.join(wrong)}", exit_code=1)


def _caught(account: Account) -> str:
    if account.books is None:
        return account.failure or ""
    judged = sorted({violation.kind for violation in account.verdict.violations})
    audited = sorted({difference.kind for difference in account.books.differences})
    found = [f"{who}: {', '.join(kinds)}" for who, kinds in (("judge", judged), ("audit", audited)) if kinds]
    if not account.books.balanced and not audited:
        found.append("audit: the books do not balance")
    return "; ".join(found)
