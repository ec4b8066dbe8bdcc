"""Records that ingest copies to a topic, as they travel from Python to Kafka: column by column.

``java/src/main/java/surecount/Copies.java`` reads the blocks that are made here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

import numpy as np

from surecount import __version__
from udfs import times
from udfs.binary import content, filled
from udfs.headers import ORIGIN_HEADERS, PREFIX, WATERMARK_HEADER
from udfs.packs import LAYOUT, Int64s
from udfs.records import Records, parts_of

_BLOCK = struct.Struct("<4s5i")  # magic, layout, numbers of records, shared headers, number columns, own headers
_MAGIC = b"SCCO"


def blocks(records: Records, watermark: int) -> Iterator[bytes]:
    """Records with headers that say where each is from, and how far ingest's watermark was, if there was one."""
    on_pathway, on_topic, on_partition, at_offset = ORIGIN_HEADERS
    for (pathway, topic), of_topic in records.by_place():
        shared = {on_pathway: pathway, on_topic: topic, f"{PREFIX}version": __version__}
        if watermark >= 0:
            shared[WATERMARK_HEADER] = str(watermark)
        for part in of_topic.cut():
            yield block(part, shared, {on_partition: part.column("partition"), at_offset: part.column("offset")})


def block(records: Records, shared: Mapping[str, str], numbers: Mapping[str, Int64s]) -> bytes:
    """A block of records, which keep key, value and headers as they came, and the timestamp where it is a time.

    ``shared`` are headers that all of them get, and ``numbers`` headers that are decimal numbers, one for each record.
    """
    timestamps = np.where(times.are_times(kafka_ms := records.column("kafka_ms")), kafka_ms, 0)
    counts, names, contents = parts_of(records.batch.column("headers"))
    keys, values = records.batch.column("key"), records.batch.column("value")
    columns = [filled(column) for column in (keys, values, names, contents)]
    of_keys, of_values, *of_headers = [lengths.tobytes() for lengths, _ in columns]
    added = [(name.encode(), value.encode()) for name, value in shared.items()]
    named = [name.encode() for name in numbers]
    return b"".join(
        [
            _BLOCK.pack(_MAGIC, LAYOUT, len(counts), len(added), len(named), len(names)),
            *(struct.pack("<2i", len(name), len(value)) for name, value in added),
            *(struct.pack("<i", len(name)) for name in named),
            *(column.astype("<i8").tobytes() for column in (timestamps, *numbers.values())),
            *(of_keys, of_values, counts.astype("<i4").tobytes(), *of_headers),
            *(part for header in added for part in header),
            *named,
            *(content(whole) for _, whole in columns),
        ]
    )
