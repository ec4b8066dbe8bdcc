"""What the jobs share beside their tables: arguments, Flink's settings, and the way to the cluster."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import MappingProxyType

from pyflink.common import Configuration
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.table import Schema, StreamTableEnvironment, Table
from pyflink.util.java_utils import get_j_env_configuration

from surecount.config import Pipeline, load
from udfs import packs

_WORKERS = "pyflink.fn_execution"
"""What of PyFlink runs in workers."""


def run(
    job: str,
    description: str | None,
    build: Callable[..., None],
    uids: Mapping[str, str],
    settings: Mapping[str, str] = MappingProxyType({}),
    *,
    batches_in_flight: int = 8,
    batch_times: int = 1,
    keyed_settings: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Read the command line, ``build(table_environment, pipeline, arguments)``, and hand the job to Flink.

    ``uids`` are those of each source and sink by its table's name. The table layer's own are numbers in the
    order of its plan, so that a query with a step more would leave the state of all sinks behind it to nobody.
    ``settings`` are Flink's, where a job needs others than the rest. A bundle, after which the JVM waits for all
    answers, is of ``batches_in_flight`` batches, and lasts ``batch_times`` times ``performance.batch_time``. The JVM
    sends on while Python works on the first of them, and what waits does so in direct memory: so this is speed against
    memory. ``keyed_settings`` are for the operators behind ``by_bucket``, in place of those.
    """
    arguments = _arguments(description)
    pipeline = load(arguments.pipeline)
    plan_without_beam()
    all_settings = configuration(pipeline, settings, batches_in_flight, batch_times)
    environment = StreamExecutionEnvironment.get_execution_environment(all_settings)
    environment.set_parallelism(arguments.parallelism)
    table_environment = StreamTableEnvironment.create(environment)
    build(table_environment, pipeline, arguments)
    _pin(environment, uids, arguments.generation)
    # The table layer has copied its settings; operators of the DataStream API take theirs when the job is handed over.
    pieces = batches_in_flight * pipeline.state.buckets
    _set(environment, {"python.fn-execution.bundle.size": str(pieces), **keyed_settings})
    _ship_no_jars(environment)
    environment.execute(arguments.name or f"{pipeline.name}.{job}")


def plan_without_beam() -> None:
    """Spare the client an import of Beam, 0.7 s, for one enumeration in a package that is otherwise for workers.

    The package is put where imports look for it, and its own code, which does the rest, is not run.
    """
    spec = find_spec(_WORKERS)
    assert spec is not None, "PyFlink is installed"
    sys.modules.setdefault(_WORKERS, module_from_spec(spec))


def _pin(environment: StreamExecutionEnvironment, uids: Mapping[str, str], generation: int) -> None:
    """Give sources and sinks their uids: those of release 1, and others where topics came back from a backup.

    Offsets and transactions in a snapshot are then those of topics that are gone: sources and sinks begin anew.
    """
    waiting = list(environment._j_stream_execution_environment.getTransformations())
    seen: set[int] = set()
    while waiting:
        transformation = waiting.pop()
        if transformation.getId() in seen:
            continue
        seen.add(transformation.getId())
        waiting.extend(transformation.getInputs())
        kind = transformation.getClass().getSimpleName()
        if kind in ("SourceTransformation", "SinkTransformation"):
            # The planner names a sink "results[15]", and a source "KafkaSource-CATALOG.DATABASE.source".
            name = transformation.getName().rpartition(".")[2].partition("[")[0]
            transformation.setUid(f"{uids[name]}_{generation}" if generation else uids[name])


def _ship_no_jars(environment: StreamExecutionEnvironment) -> None:
    """Spare the job 40 MB of Flink's own jar for Python, where processes of Flink have it in their lib folder.

    The client sends it with every job in Python, for clusters that keep it in opt. ``FLINK_LIB_DIR`` is the client's
    folder, taken for the cluster's.
    """
    lib = os.environ.get("FLINK_LIB_DIR")
    if lib is not None and [*Path(lib).glob("flink-python-*.jar")]:
        _set(environment, {"pipeline.jars": ""})


def _set(environment: StreamExecutionEnvironment, settings: Mapping[str, str]) -> None:
    """Change Flink's settings of a job that is planned."""
    of_job = get_j_env_configuration(environment._j_stream_execution_environment)
    for name, value in settings.items():
        of_job.setString(name, value)


def with_watermarks(t: StreamTableEnvironment, stream: DataStream) -> Table:
    """A table of a stream that has a column ``event_time``, and lets its watermarks through.

    Without SOURCE_WATERMARK() a table made of a DataStream holds them back, and no window closes.
    """
    schema = Schema.new_builder().watermark("event_time", "SOURCE_WATERMARK()").build()
    return t.from_data_stream(stream, schema)


def reading(arguments: argparse.Namespace) -> dict[str, bool]:
    """What the command line says of how a source begins and ends."""
    return {"bounded": arguments.bounded, "from_group": arguments.generation > 0}


def configuration(
    pipeline: Pipeline, settings: Mapping[str, str], batches_in_flight: int, batch_times: int
) -> Configuration:
    """What the job needs of Flink beyond the cluster's own ``config.yaml``."""
    batch_packs = max(1, pipeline.performance.batch_records // packs.RECORDS)
    all_settings = {
        "execution.checkpointing.interval": f"{pipeline.checkpoint.interval} ms",
        "execution.checkpointing.timeout": f"{pipeline.checkpoint.timeout} ms",
        "pipeline.max-parallelism": str(pipeline.state.max_parallelism),
        "pipeline.object-reuse": "true",
        "python.execution-mode": "process",
        "python.fn-execution.arrow.batch.size": str(batch_packs),
        "python.fn-execution.bundle.size": str(batches_in_flight * batch_packs),
        "python.fn-execution.bundle.time": str(batch_times * pipeline.performance.batch_time),
        "table.exec.uid.generation": "ALWAYS",
        # Flink cuts longer methods, by default those of more than 4,000 characters, into ones that share fields.
        "table.generated-code.max-length": "32000",
        "table.local-time-zone": "UTC",
        **settings,
    }
    configuration = Configuration()
    for name, value in all_settings.items():
        configuration.set_string(name, value)
    return configuration


def _arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--pipeline", type=Path, required=True)
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--bounded", action="store_true", help="read what is there, close all windows, end")
    parser.add_argument("--generation", type=int, default=0, help="how often the topics came back from a backup")
    parser.add_argument("--name", help="the job's name; the default is PIPELINE.JOB")
    parser.add_argument("--pathway", help="of a relay: whose topics it copies")
    return parser.parse_args()
