"""What a snapshot's ``_metadata`` says, read by Flink's own classes.

Run as a process, ``python -m surecount.ops.snapshot_metadata``, with the environment of Flink's command line: when
its JVM is up it says so, takes lines with a JSON list of paths each, and answers each with a JSON list of what they
hold, until its input ends.

The formats differ between Flink's versions, so nothing but Flink reads them; only the Kafka source's splits
are taken apart here, by the connector's serializer.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from typing import Any

from pyflink.java_gateway import get_gateway

from surecount.ops.snapshots import READY

_SOURCE_STATE = "SourceReaderState"
_MAX_LONG = (1 << 63) - 1
_COMMITTER_STATE = "streaming_committer_raw_states"


def main() -> None:
    """Say when the JVM is up, then answer."""
    jvm = get_gateway().jvm
    flink = jvm.org.apache.flink
    configuration = flink.configuration.GlobalConfiguration.loadConfiguration()
    plugins = flink.core.plugin.PluginUtils.createPluginManagerFromRootFolder(configuration)
    flink.core.fs.FileSystem.initialize(configuration, plugins)
    sys.stdout.write(READY)
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps([_read(jvm, path) for path in json.loads(line)]) + "\n")
        sys.stdout.flush()


def _read(jvm: Any, path: str) -> dict[str, Any]:
    """Path, checkpoint id, when it was completed, what kind it is, max parallelism, offsets to read next, and the
    transactions that are to be committed."""
    flink = jvm.org.apache.flink
    try:
        file = flink.core.fs.Path(flink.core.fs.Path(path), "_metadata")
        status = file.getFileSystem().getFileStatus(file)
        stream = jvm.java.io.DataInputStream(file.getFileSystem().open(file))
        try:
            loader = jvm.java.lang.ClassLoader.getSystemClassLoader()
            metadata = flink.runtime.checkpoint.Checkpoints.loadCheckpointMetadata(stream, loader, path)
        finally:
            stream.close()
        properties = metadata.getCheckpointProperties()
        savepoint = properties is not None and properties.isSavepoint()
        operators = metadata.getOperatorStates().toArray()
        return {
            "path": path,
            "id": metadata.getCheckpointId(),
            "at_ms": status.getModificationTime(),
            "savepoint": savepoint,
            "drained": savepoint and properties.getCheckpointType().shouldDrain(),
            "max_parallelism": max((o.getMaxParallelism() for o in operators if _is_keyed(o)), default=0),
            "offsets": sorted(split for operator in operators for split in _splits(jvm, operator)),
            "committables": sorted(found for operator in operators for found in _committables(jvm, operator)),
        }
    except Exception as error:  # noqa: BLE001  # whatever Java throws, the caller names the snapshot
        cause = getattr(error, "java_exception", error)
        return {"path": path, "error": str(cause).splitlines()[0]}


def _is_keyed(operator: Any) -> bool:
    return any(not state.getManagedKeyedState().isEmpty() for state in operator.getStates().toArray())


def _splits(jvm: Any, operator: Any) -> Iterator[tuple[str, int, int]]:
    """Topic, partition and next offset of each split that a Kafka source had."""
    serializer = jvm.org.apache.flink.connector.kafka.source.split.KafkaPartitionSplitSerializer()
    for element in _elements(operator, _SOURCE_STATE):
        version, split = _versioned(element)
        found = serializer.deserialize(version, split)
        yield found.getTopic(), found.getPartition(), found.getStartingOffset()


def _committables(jvm: Any, operator: Any) -> Iterator[tuple[str, int, int]]:
    """Transactional id, producer id and epoch of each transaction that a Kafka sink was to commit."""
    for element in _elements(operator, _COMMITTER_STATE):
        version, content = _versioned(element)
        collector = _collectors(jvm).deserialize(version, content)
        for checkpoint in collector.getCheckpointCommittablesUpTo(_MAX_LONG).toArray():
            pending = _opened(checkpoint.getClass().getDeclaredMethod("getPendingRequests", None))
            for request in pending.invoke(checkpoint, None).toArray():
                found = request.getCommittable()
                yield found.getTransactionalId(), found.getProducerId(), found.getEpoch()


def _collectors(jvm: Any) -> Any:
    """Flink's serializer of what its committers hold, with the connector's own for one transaction."""
    name = "org.apache.flink.connector.kafka.sink.KafkaCommittableSerializer"
    of_one = _opened(jvm.java.lang.Class.forName(name).getDeclaredConstructor(None)).newInstance(None)
    runtime = jvm.org.apache.flink.runtime.metrics.groups
    unregistered = runtime.UnregisteredMetricGroups.createUnregisteredOperatorMetricGroup()
    metrics = runtime.InternalSinkCommitterMetricGroup.wrap(unregistered)
    committables = jvm.org.apache.flink.streaming.runtime.operators.sink.committables
    return committables.CommittableCollectorSerializer(of_one, 0, 1, metrics)


def _opened(member: Any) -> Any:
    """A member of a class that only its package can see."""
    member.setAccessible(True)
    return member


def _elements(operator: Any, name: str) -> Iterator[bytes]:
    """The elements, byte arrays, of a list state in all subtasks of an operator."""
    for subtask in operator.getStates().toArray():
        for handle in subtask.getManagedOperatorState().toArray():
            places = handle.getStateNameToPartitionOffsets().get(name)
            if places is None:
                continue
            stream = handle.openInputStream()
            try:
                content = bytes(stream.readAllBytes())
            finally:
                stream.close()
            for place in places.getOffsets():
                (length,) = struct.unpack_from(">i", content, place)
                yield content[place + 4 : place + 4 + length]


def _versioned(element: bytes) -> tuple[int, bytes]:
    """A serializer's version, and what it wrote."""
    version, length = struct.unpack_from(">ii", element)
    return version, element[8 : 8 + length]


if __name__ == "__main__":
    main()
