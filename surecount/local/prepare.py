"""What comes before the processes of a stack: ports are chosen, configuration is written, new brokers are formatted."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from surecount.errors import SurecountError
from surecount.local import flink, jvm, kafka, ports, secure, zookeeper
from surecount.local.layout import Layout
from surecount.local.spec import ProcessSpec, StackSpec, save_stack


@dataclass(frozen=True)
class Wanted:
    """What an ``up`` asks for. With ``jobmanagers`` 0 there is no Flink, with several there is ZooKeeper too."""

    brokers: int
    jobmanagers: int
    taskmanagers: int
    slots: int
    kafka_port: int
    flink_port: int
    flink_settings: Mapping[str, str]
    kafka_settings: Mapping[str, str]
    secure: bool = False
    archiving: bool = False


def prepare(java: Path, layout: Layout, wanted: Wanted) -> StackSpec:
    """Choose ports, write all configuration, format new brokers, and write stack.json.

    Raises :class:`SurecountError` for what a person can mend.
    """
    taken: set[int] = set()
    rest_ports = [
        ports.claim(wanted.flink_port and wanted.flink_port + i, "Flink's web UI and REST API", "--flink-port", taken)
        for i in range(wanted.jobmanagers)
    ]
    broker_ports = [
        ports.claim(wanted.kafka_port and wanted.kafka_port + i, f"broker kafka-{i + 1}", "--kafka-port", taken)
        for i in range(wanted.brokers)
    ]
    nodes = [
        kafka.Node(i + 1, port, ports.pick(taken), broker_port=ports.pick(taken) if wanted.secure else None)
        for i, port in enumerate(broker_ports)
    ]
    stack = StackSpec(
        _cluster_id(layout, wanted),
        wanted.slots,
        tuple(broker_ports),
        tuple(rest_ports),
        zookeeper_port=ports.pick(taken) if wanted.jobmanagers > 1 else None,
        secure=wanted.secure,
    )
    # From here on the folder is known to be a stack's.
    save_stack(layout.stack_file, stack)
    layout.state_file.unlink(missing_ok=True)
    layout.logs.mkdir(exist_ok=True)
    if wanted.secure:
        secure.prepare(layout, stack, [node.name for node in nodes])
    secret = secure.format_arguments(layout) if wanted.secure else []
    for node in nodes:
        secured = secure.broker_settings(layout, node, nodes) if wanted.secure else {}
        kafka.write_config(layout, node, nodes, {**secured, **wanted.kafka_settings})
        layout.scratch(node.name).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        formats = [pool.submit(kafka.format_storage, java, layout, node, stack.cluster_id, secret) for node in nodes]
        running = [kafka.process(java, layout, node, brokers=wanted.brokers) for node in nodes]
        running += zookeeper_of(java, layout, stack)
        if stack.flink_ports:
            running += _flink(java, layout, stack, wanted, taken, pool)
        for formatting in formats:
            formatting.result()
    if wanted.archiving:
        running = [jvm.recording(process) for process in running]
    stack = replace(stack, processes=tuple(running))
    save_stack(layout.stack_file, stack)
    return stack


def zookeeper_of(java: Path, layout: Layout, stack: StackSpec) -> list[ProcessSpec]:
    """ZooKeeper, where the stack has it; where it does not, what an earlier one left is removed."""
    if stack.zookeeper_port is None:
        # The jobs of an earlier `up --ha`. Once others have gone on from their checkpoints, to take these up again
        # would write results twice.
        for folder in (layout.zookeeper, layout.ha_storage):
            if folder.exists():
                shutil.rmtree(folder)
        return []
    zookeeper.write_config(layout, stack.zookeeper_port)
    return [zookeeper.process(java, layout)]


def _flink(
    java: Path, layout: Layout, stack: StackSpec, wanted: Wanted, taken: set[int], pool: ThreadPoolExecutor
) -> list[ProcessSpec]:
    for folder in (layout.checkpoints, layout.savepoints):
        folder.mkdir(exist_ok=True)
    of_each = {
        name: flink.addresses(rest_port=port, rpc_port=ports.pick(taken)) for name, port in stack.jobmanagers.items()
    }
    first = next(iter(of_each.values()))
    own = {**flink.stack_settings(layout, slots=wanted.slots), **first}
    if stack.zookeeper_port is None:
        of_each = {}  # the file says it all
    else:
        own |= flink.ha_settings(layout, zookeeper_port=stack.zookeeper_port)
    _check_free(wanted.flink_settings, own)
    flink.write_conf(layout, {**wanted.flink_settings, **own})
    jm_resources = pool.submit(flink.derive_resources, java, layout, "JM")
    tm_resources = pool.submit(flink.derive_resources, java, layout, "TM")
    return [
        *(
            flink.jobmanager(java, layout, name, jm_resources.result(), of_each.get(name, {}))
            for name in stack.jobmanagers
        ),
        *(
            flink.taskmanager(java, layout, number, tm_resources.result())
            for number in range(1, wanted.taskmanagers + 1)
        ),
    ]


def _check_free(settings: Mapping[str, str], own: Mapping[str, str]) -> None:
    if taken := sorted(set(settings) & set(own)):
        raise SurecountError(f"--set {taken[0]}: `surecount up` sets that itself, to {own[taken[0]]}", "leave it out")


def _cluster_id(layout: Layout, wanted: Wanted) -> str:
    """The id of the cluster whose data is in the folder, or a new one. Users are kept with the data, so whether it is
    secured cannot change."""
    formatted = sorted(layout.root.glob("kafka-*/formatted"))
    if not formatted:
        return kafka.new_cluster_id()
    if wanted.secure != layout.secure.exists():
        was = "without" if wanted.secure else "with"
        raise SurecountError(
            f"{layout.root} holds the data of a Kafka cluster {was} users and rights",
            f"start it {was} --secure, or remove the data with `surecount down --purge`",
        )
    if len(formatted) != wanted.brokers:
        raise SurecountError(
            f"{layout.root} holds the data of a Kafka cluster with {len(formatted)} broker(s)",
            f"start it with --brokers {len(formatted)}, or remove the data with `surecount down --purge`",
        )
    return formatted[0].read_text(encoding="utf-8").strip()
