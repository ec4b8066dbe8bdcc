"""The relay job of a pathway: its raw topics, copied from its own Kafka cluster to the pipeline's.

A job of its own for each such pathway, so that a cluster that is away is no one else's trouble.
Submitted by ``surecount submit``, or by hand:

    flink run -py jobs/relay.py -pyfs FOLDER --pipeline shop.toml --pathway west
"""

from __future__ import annotations

from argparse import Namespace

from pyflink.datastream import StreamExecutionEnvironment

from jobs.connectors import relayed, sink
from jobs.submission import run
from surecount.config import Pipeline

JOB = "relay"

_SETTINGS = {
    # What was copied is read at a checkpoint; there is no state to speak of, so they can be frequent.
    "execution.checkpointing.interval": "2 s",
    # A cluster that is away for hours is what relays are for.
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": str((1 << 31) - 1),
}


def main() -> None:
    """Build the job of a pipeline file and hand it to Flink."""
    run(JOB, __doc__, build, settings=_SETTINGS)


def build(environment: StreamExecutionEnvironment, pipeline: Pipeline, arguments: Namespace) -> None:
    """Source → sink, with the origin written down in a header of each copy."""
    pathway = next(pathway for pathway in pipeline.pathways if pathway.name == arguments.pathway)
    job = pipeline.relay_job(pathway)
    copies = relayed(environment, pipeline, job, pathway, arguments)
    sink(copies, pipeline, job, "copy", pipeline.relay_topic(pathway), "3_sink", arguments)


if __name__ == "__main__":
    main()
