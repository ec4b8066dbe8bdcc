"""Peers that are built by Maven."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.programs import run, stale


def package(project: Path) -> None:
    """Build the project in a folder into its target/, unless that is newer than all that it is made of.

    Raises SurecountError with Maven's last words.
    """
    stamp = project / "target" / ".built"
    pom = project / "pom.xml"
    if any(stale(stamp, source) for source in (pom, *(project / "src").rglob("*.*"))):
        run(["mvn", "--batch-mode", "--quiet", "--file", str(pom), "package"])
        stamp.touch()
