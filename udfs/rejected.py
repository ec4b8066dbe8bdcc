"""What is said of a rejected record, and its bytes, as they travel from decoding to the topic of rejects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from udfs import failures, reasons
from udfs.decode import Rejected
from udfs.packs import Int64s, Single
from udfs.records import Arrived, Origin

PARTS = ("reason", "timestamp", "detail", "pathway", "topic", "partition", "offset", "start", "size")
"""What is said of a rejected record, apart by tabs. Behind it come the record's key and value, the names of its
headers, and their values. Start and size are empty, but for a value that came skimmed: they say where the whole value
stands among its pack's, and null is in its place."""

Content = list[bytes | None]
"""What is said, then bytes."""


def contents(rejected: Sequence[Rejected], arrived: Arrived, starts: Int64s, sizes: Int64s) -> list[Content]:
    """The content of each rejected record of a batch; ``starts`` and ``sizes`` are of values as they came."""
    headers = arrived.own_headers(np.array([one.row for one in rejected], np.int64))
    return [
        _content(
            one.reason,
            int(arrived.kafka_ms[one.row]),
            one.detail,
            arrived.origin(one.row),
            arrived.keys[one.row].as_py(),
            arrived.values[one.row].as_py(),
            [(name.encode(), value) for name, value in headers.get(one.row, ())],
            (int(starts[one.row]), int(sizes[one.row])),
        )
        for one in rejected
    ]


def content_of(single: Single, error: BaseException, origin: Origin) -> Content:
    """The content of a record that made our own code raise, made with as little code as can be."""
    return _content(
        reasons.INTERNAL_ERROR,
        int(single.entry["kafka_ms"]),
        failures.printable(failures.text_of(error)),
        origin,
        single.key,
        single.value,
        [(name, value) for name, value in dict(single.headers()).items() if value is not None],
        (single.start, int(single.entry["size"])),
    )


def _content(
    reason: str,
    kafka_ms: int,
    detail: str,
    origin: Origin,
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[bytes, bytes]],
    whole: tuple[int, int],
) -> Content:
    start, size = ("", "")
    if value is not None and len(value) < whole[1]:
        value, start, size = None, str(whole[0]), str(whole[1])
    said = (reason, kafka_ms, detail, origin.pathway, origin.topic, origin.partition, origin.offset, start, size)
    # Flink has one value of each name: the last.
    named = dict(headers)
    return ["\t".join(map(str, said)).encode(), key, value, *named, *named.values()]
