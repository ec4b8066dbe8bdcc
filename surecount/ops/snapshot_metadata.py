"""What a snapshot's ``_metadata`` says, read by Flink's own classes.

Run as a process, ``python -m surecount.ops.snapshot_metadata``, with the environment of Flink's command line: when
its JVM is up it says so, takes one line with a JSON list of paths, and answers with a JSON list of what they hold.

The formats differ between Flink's versions, so nothing but Flink reads them; only the Kafka source's splits
are taken apart here, by the connector's serializer.
"""

from __future__ import annotations

import json
import struct
import sys
from typing import Any

from pyflink.java_gateway import get_gateway

from surecount.ops.snapshots import READY

_SOURCE_STATE = "SourceReaderState"


def main() -> None:
    """Say when the JVM is up, then answer one question."""
    jvm = get_gateway().jvm
    flink = jvm.org.apache.flink
    configuration = flink.configuration.GlobalConfiguration.loadConfiguration()
    plugins = flink.core.plugin.PluginUtils.createPluginManagerFromRootFolder(configuration)
    flink.core.fs.FileSystem.initialize(configuration, plugins)
    sys.stdout.write(READY)
    sys.stdout.flush()
    paths = json.loads(sys.stdin.readline())
    sys.stdout.write(json.dumps([_read(jvm, path) for path in paths]) + "\n")


def _read(jvm: Any, path: str) -> dict[str, Any]:
    """Path, checkpoint id, when it was completed, what kind it is, max parallelism, and offsets to read next."""
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
        }
    except Exception as error:  # noqa: BLE001  # whatever Java throws, the caller names the snapshot
        cause = getattr(error, "java_exception", error)
        return {"path": path, "error": str(cause).splitlines()[0]}


def _is_keyed(operator: Any) -> bool:
    return any(not state.getManagedKeyedState().isEmpty() for state in operator.getStates().toArray())


def _splits(jvm: Any, operator: Any) -> list[tuple[str, int, int]]:
    """Topic, partition and next offset of each split that a Kafka source had."""
    found = []
    serializer = jvm.org.apache.flink.connector.kafka.source.split.KafkaPartitionSplitSerializer()
    for subtask in operator.getStates().toArray():
        for handle in subtask.getManagedOperatorState().toArray():
            places = handle.getStateNameToPartitionOffsets().get(_SOURCE_STATE)
            if places is None:
                continue
            stream = handle.openInputStream()
            try:
                content = bytes(stream.readAllBytes())
            finally:
                stream.close()
            for place in places.getOffsets():
                # A list's element: the array's length, the serializer's version, the split's length, the split.
                _, version, length = struct.unpack_from(">iii", content, place)
                split = serializer.deserialize(version, content[place + 12 : place + 12 + length])
                found.append((split.getTopic(), split.getPartition(), split.getStartingOffset()))
    return found


if __name__ == "__main__":
    main()
