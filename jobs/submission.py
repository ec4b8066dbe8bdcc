"""What the jobs share on their way to the cluster: arguments, Flink's settings, bundles, uids."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway

from jobs.internals import SWITCH, plan_without_beam
from surecount.config import Pipeline, load
from surecount.errors import SurecountError


@dataclass(frozen=True)
class Bundle:
    """What a Python operator works on at once: the JVM waits for all answers after so many elements, or so many ms."""

    elements: int
    ms: int


Build = Callable[[StreamExecutionEnvironment, Pipeline, argparse.Namespace], None]


def run(
    job: str,
    description: str | None,
    build: Build,
    bundles: Callable[[Pipeline], Mapping[str, Bundle]] = lambda _: {},
    settings: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Read the command line, ``build(environment, pipeline, arguments)``, and hand the job to Flink.

    ``bundles`` are those of the Python operators, by their names; ``settings`` are Flink's, where a job needs others
    than the rest.
    """
    arguments = _arguments(description)
    pipeline = load(arguments.pipeline)
    if pipeline.performance.replace_internals:
        plan_without_beam()
    environment = StreamExecutionEnvironment.get_execution_environment(configuration(pipeline, settings))
    environment.set_parallelism(arguments.parallelism)
    build(environment, pipeline, arguments)
    execute(environment, arguments.name or f"{pipeline.name}.{job}", bundles(pipeline))


def execute(environment: StreamExecutionEnvironment, name: str, bundles: Mapping[str, Bundle]) -> None:
    """Do what ``environment.execute(name)`` does, with a bundle size for each Python operator."""
    j_environment = environment._j_stream_execution_environment
    # The client would send Flink's jar for Python, 40 MB, with every job, to where our jar does not see it.
    j_environment.configure(_configuration({"pipeline.jars": ""})._j_configuration)
    get_gateway().jvm.org.apache.flink.python.util.PythonConfigUtil.configPythonOperator(j_environment)
    _check(transformations(environment), bundles)
    graph = j_environment.getStreamGraph(True)
    graph.setJobName(name)
    j_environment.execute(graph)


def transformations(environment: StreamExecutionEnvironment) -> Iterator[Any]:
    """All steps of a job, as Flink has them, each once."""
    waiting = [*environment._j_stream_execution_environment.getTransformations()]
    seen: set[int] = set()
    while waiting:
        step = waiting.pop()
        if step.getId() not in seen:
            seen.add(step.getId())
            waiting.extend(step.getInputs())
            yield step


def _check(steps: Iterator[Any], bundles: Mapping[str, Bundle]) -> None:
    """Give the Python operators their bundles, and see to it that each step that may keep state has a uid.

    Raises SurecountError where a step has none, or where a bundle is nobody's.
    """
    left = dict(bundles)
    for step in steps:
        kind = step.getClass().getSimpleName()
        if kind in _WITH_STATE and step.getUid() is None:
            raise SurecountError(
                f"the step {step.getName()} ({kind}) has no uid, so no snapshot could be restored to it"
            )
        if (bundle := left.pop(step.getName(), None)) is not None:
            configuration = step.getOperatorFactory().getOperator().getConfiguration()
            configuration.setString("python.fn-execution.bundle.size", str(bundle.elements))
            configuration.setString("python.fn-execution.bundle.time", str(bundle.ms))
    if left:
        raise SurecountError(f"no step of the job is called {', '.join(left)}")


_WITH_STATE = ("SourceTransformation", "SinkTransformation", "OneInputTransformation")


def configuration(pipeline: Pipeline, settings: Mapping[str, str]) -> Configuration:
    """What the job needs of Flink beyond the cluster's own ``config.yaml``."""
    return _configuration(
        {
            "execution.checkpointing.interval": f"{pipeline.checkpoint.interval} ms",
            "execution.checkpointing.timeout": f"{pipeline.checkpoint.timeout} ms",
            "pipeline.max-parallelism": str(pipeline.state.max_parallelism),
            "pipeline.object-reuse": "true",
            "pipeline.global-job-parameters": f"{SWITCH}:{str(pipeline.performance.replace_internals).lower()}",
            "python.execution-mode": "process",
            **settings,
        }
    )


def _configuration(settings: Mapping[str, str]) -> Configuration:
    found = Configuration()
    for name, value in settings.items():
        found.set_string(name, value)
    return found


def _arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--pipeline", type=Path, required=True)
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--bounded", action="store_true", help="read what is there, close all windows, end")
    parser.add_argument("--generation", type=int, default=0, help="how often the topics came back from a backup")
    parser.add_argument(
        "--moved", action="append", default=[], metavar="TOPIC:PARTITION:OFFSET:TO",
        help="begin a partition at another offset than the snapshot's, which is gone",
    )  # fmt: skip
    parser.add_argument("--name", help="the job's name; the default is PIPELINE.JOB")
    parser.add_argument("--pathway", help="of a relay: whose topics it copies")
    return parser.parse_args()
