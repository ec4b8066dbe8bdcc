"""The peer."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.given import to_json
from benchmarks.peers.peer import About, Work
from benchmarks.peers.programs import Processes, environment, pinned, run, stale

_FOLDER = Path(__file__).parent
_JARS = _FOLDER / "target" / "jars"
_STAMP = _FOLDER / "target" / ".fetched"


class Spark:
    """Runs in its own environment, in one JVM with a thread for each slot."""

    @property
    def about(self) -> About:
        """What it is."""
        return About(
            name="Spark Structured Streaming", version=pinned(_FOLDER, "pyspark"), guarantee="at-least-once", reason=""
        )

    def prepare(self) -> None:
        """Make its environment, and fetch its Kafka connector."""
        environment(_FOLDER)
        pom = _FOLDER / "pom.xml"
        if stale(_STAMP, pom):
            run(["mvn", "-B", "-q", "-f", str(pom), "clean", "package"])
            _STAMP.touch()

    def start(self, work: Work) -> Processes:
        """Start a run."""
        self.prepare()
        jars = ",".join(str(jar) for jar in sorted(_JARS.glob("*.jar")))
        command = [str(environment(_FOLDER)), "-m", "benchmarks.peers.spark.program", to_json(work), jars]
        return Processes({"spark": command}, work.folder)
