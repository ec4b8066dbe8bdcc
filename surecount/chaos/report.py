"""What a run of chaos leaves behind: a page in Markdown with its picture, and the same as JSON; and a table of runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from surecount.chaos.seen import Account, Verdict
from surecount.chaos.timeline import recoveries, timeline
from surecount.foreign_text import visible

_RUNS = (
    "began",
    "pipeline",
    "seed",
    "minutes",
    "records",
    "faults",
    "kills",
    "windows in results",
    "lost, doubled or wrong",
    "books",
    "verdict",
)
_MARKUP = re.compile(r"[\\`*\[\]<>&|~$]|(?<![^\W_])_|_(?![^\W_])")


def write(account: Account, folder: Path) -> Path:
    """Write report.md, timeline.svg and report.json into the folder, made where it is not there; the first's path."""
    folder.mkdir(parents=True, exist_ok=True)
    page, picture = folder / "report.md", folder / "timeline.svg"
    picture.write_text(timeline(account), encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(to_dict(account)) + "\n", encoding="utf-8")
    page.write_text(markdown(account, picture.name), encoding="utf-8")
    return page


def write_table(folder: Path) -> Path:
    """Write runs.md, the table of all runs whose reports are in folders there; its path."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*/report.json")]
    page = folder / "runs.md"
    page.write_text(table(sorted(found, key=lambda run: (run["began"], run["seed"]))), encoding="utf-8")
    return page


def to_dict(account: Account) -> dict[str, Any]:
    """As JSON."""
    return {
        "pipeline": account.pipeline,
        "seed": account.seed,
        "command": account.command,
        "began": account.began,
        "seconds": account.seconds,
        "records": account.records,
        "faults": account.faults,
        "kills": account.kills,
        "passed": account.passed,
        "verdict": {
            **asdict(account.verdict),
            "violations": [asdict(violation) for violation in account.verdict.violations],
            "passed": account.verdict.passed,
        },
        "books": account.books.to_dict() if account.books else None,
        "happened": [asdict(one) for one in account.happened],
        "sent": [list(pair) for pair in account.sent],
        "results": [list(pair) for pair in account.results],
        "logs": account.logs,
        "notes": list(account.notes),
        "failure": account.failure,
        "told": None if account.told is None else list(account.told),
    }


def table(accounts: Sequence[Mapping[str, Any]]) -> str:
    """Runs, as ``to_dict`` has them, as a table in Markdown, in their order, with a last row for all."""
    return "\n".join([*_head(_RUNS), *(row(account) for account in accounts), _all(accounts)]) + "\n"


def _all(accounts: Sequence[Mapping[str, Any]]) -> str:
    verdicts = [account["verdict"] for account in accounts]
    return _row(
        f"{len(accounts):,} runs",
        "",
        f"{len({account['seed'] for account in accounts}):,} seeds",
        f"{sum(account['seconds'] for account in accounts) / 60:.1f}",
        f"{sum(account['records'] for account in accounts):,}",
        f"{sum(account['faults'] for account in accounts):,}",
        f"{sum(account['kills'] for account in accounts):,}",
        f"{sum(verdict['results'] for verdict in verdicts):,}",
        f"{sum(verdict['count'] for verdict in verdicts):,}",
        "",
        f"{sum(account['passed'] for account in accounts):,} passed",
    )


def row(account: Mapping[str, Any]) -> str:
    """One run, as ``to_dict`` has it, as a line of that table."""
    verdict, books = account["verdict"], account["books"]
    balanced = "balance" if books and books["balanced"] else "do not balance" if books else "–"
    told = " (loss expected, and told)" if account["passed"] and not verdict["passed"] else ""
    return _row(
        account["began"],
        account["pipeline"],
        account["seed"],
        f"{account['seconds'] / 60:.1f}",
        f"{account['records']:,}",
        f"{account['faults']:,}",
        f"{account['kills']:,}",
        f"{verdict['results']:,}",
        f"{verdict['count']:,}",
        balanced,
        f"passed{told}" if account["passed"] else "failed",
    )


def markdown(account: Account, picture: str) -> str:
    """The page; ``picture`` is the timeline's file, relative to it."""
    head = ("pipeline", "seed", "began", "seconds", "records", "faults", "results")
    numbers = (account.records, account.faults, account.verdict.results)
    lines = [
        f"# Chaos on {_plain(account.pipeline)}, seed {account.seed}: {'passed' if account.passed else 'failed'}",
        "",
        *_head(head),
        _row(account.pipeline, account.seed, account.began, f"{account.seconds:,.0f}", *(f"{n:,}" for n in numbers)),
        "",
        *([f"It ended early: {_plain(account.failure)}", ""] if account.failure else []),
        "The same again:",
        "",
        *_code(account.command),
        "",
        f"![Timeline of the run]({quote(picture)})",
        "",
        "## Books",
        "",
        *(f"- {_plain(line)}" for line in (account.books.summary() if account.books else "None.").splitlines()),
        "",
        "## Judge",
        "",
        *(["Not asked."] if account.books is None else _judged(account.verdict)),
        *_told(account.told),
        "",
        "## Faults",
        "",
        *_faults(account),
    ]
    notes = [*account.notes, *(f"{one.at_s:,.1f} s: {one.what}" for one in account.happened if one.kind == "note")]
    if notes:
        lines += ["", "## Notes", "", *(f"- {_plain(note)}" for note in notes)]
    if account.logs is not None:
        lines += ["", "## Logs", "", f"Those of all processes are in {_plain(account.logs)}."]
    return "\n".join(lines) + "\n"


def _judged(verdict: Verdict) -> list[str]:
    judged = f"{verdict.results:,} results, {verdict.corrections:,} corrections and {verdict.rejects:,} rejects"
    if verdict.passed:
        return [f"Nothing was found against {judged}."]
    lines = [f"{verdict.count:,} found in {judged}; {len(verdict.violations):,} are named:", ""]
    in_kinds = sorted(verdict.violations, key=lambda violation: violation.kind)
    for kind, violations in groupby(in_kinds, key=lambda violation: violation.kind):
        lines += [f"- {_plain(kind)}", *(f"  - {_plain(violation.detail)}" for violation in violations)]
    return lines


def _told(told: Sequence[str] | None) -> list[str]:
    if told is None:
        return []
    said = [f"- {_plain(line)}" for line in told] or ["Nothing of lost commits."]
    return [
        "",
        "## Doctor",
        "",
        "Faults of this run may lose what was not committed in time. The doctor said:",
        "",
        *said,
    ]


def _faults(account: Account) -> list[str]:
    faults = recoveries(account)
    if not faults:
        return ["None."]
    rows = [
        _row(number, f"{fault.at_s:,.1f}", fault.what, "not seen" if seconds is None else f"{seconds:,.1f}")
        for number, (fault, seconds) in enumerate(faults, 1)
    ]
    return [*_head(("", "at, s", "what", "until recovered, s")), *rows]


def _head(names: Sequence[str]) -> tuple[str, str]:
    return _row(*names), "|" + "---|" * len(names)


def _row(*cells: object) -> str:
    return f"| {' | '.join(_plain(str(cell)) for cell in cells)} |"


def _plain(text: str) -> str:
    """On one line, with nothing that Markdown, a table or a terminal would take for its own."""
    return _MARKUP.sub(r"\\\g<0>", visible(" ".join(text.split())))


def _code(text: str) -> list[str]:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [f"{fence}sh", *text.splitlines(), fence]
