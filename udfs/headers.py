"""Names of headers: ours begin with ``surecount.``, and a producer's that do are kept under other names.

Where a job reads a topic that others write, ``java/src/main/java/surecount/Aside.java`` gives those names:
``surecount.x`` becomes ``producer.surecount.x``, and that ``producer.producer.surecount.x``. So what begins with
``surecount.`` behind it is ours.
"""

from __future__ import annotations

import re

PREFIX = "surecount."
ORIGIN_HEADERS = ("surecount.pathway", "surecount.topic", "surecount.partition", "surecount.offset")
TIMESTAMP_HEADER = "surecount.timestamp"
REPLAYED_HEADER = "surecount.replayed"
RETURNED_HEADER = "surecount.returned"
"""On a clean record that the aggregate job had rejected, and that was put into the clean topic again."""
RELAYED_HEADER = "surecount.relayed"
"""On a relay's copy: the record's partition and offset on its pathway's cluster, when the copy was made, in s since
1970, or 0, and the record's topic, apart by spaces. One header, as Flink copies a map of headers entry by entry."""
SIZE_HEADER = "surecount.size"
"""On what was written without its value, as it was too large: the value's length in bytes."""
WATERMARK_HEADER = "surecount.watermark"
"""On clean records: the ingest job's watermark, in ms since 1970."""

_ASIDE = "producer."
_PUT_ASIDE = re.compile(r"(?:producer\.)+surecount\.", re.DOTALL)


def as_sent(name: str) -> str:
    """The name under which a producer sent a header; ``name`` is that on a record that a job wrote."""
    return name.removeprefix(_ASIDE) if _PUT_ASIDE.match(name) else name
