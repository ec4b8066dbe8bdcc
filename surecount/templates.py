"""What ``surecount new`` writes."""

from __future__ import annotations

from pathlib import Path

from surecount.errors import SurecountError

PIPELINE = """#:schema ./pipeline.schema.json
# A surecount pipeline. `surecount check {name}.toml` says whether it is right, and what it will do.
name = "{name}"

[kafka]
bootstrap_servers = "localhost:9092"
# properties = {{ "client.id" = "{name}" }}   # further properties that both of Kafka's clients know

# [kafka.security]           # docs/security.md
# protocol = "SASL_SSL"
# mechanism = "SCRAM-SHA-512"
# username = "{name}"
# password_file = "/run/secrets/kafka-password"
# ca_file = "/run/secrets/kafka-ca.pem"

[source]
topics = ["{name}.events"]
event_time = {{ field = "ts", unit = "ms" }}   # s, ms, us, ns, rfc3339; or "kafka" for Kafka's own
out_of_orderness = "5 s"     # how much older than the newest a record may be and still be in time
idle_after = "30 s"          # a partition without records for so long holds nothing back
max_ahead = "1 min"          # a record further ahead of its Kafka timestamp is rejected
# decode = "udfs.{module}:decode"   # your own function instead of JSON; see udfs/{module}.py

[[aggregate]]
name = "per_customer"
key = ["customer"]           # dots reach into nested objects; {{ field = "shop", type = "int" }}
sum = ["amount"]             # int; or {{ field = "tax", type = "decimal", scale = 2 }}, type = "float"
window = "1 min"             # the count is always there

[checkpoint]
interval = "10 s"            # results become readable at checkpoints
"""

UDF = '''"""Your own decoding. Name it in the pipeline file: decode = "udfs.{module}:decode".

It runs beside Flink's TaskManagers. Do not call print(..., flush=True) in it: PyFlink replaces print.
"""

import csv
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from udfs.decode import batchwise

COLUMNS = ["ts", "customer", "amount"]


def decode(value: bytes) -> dict[str, Any]:
    """One record: bytes in, the fields of the pipeline file out. What it raises rejects the record."""
    ts, customer, amount = next(csv.reader([value.decode()]))
    return {{"ts": int(ts), "customer": customer, "amount": int(amount)}}


@batchwise
def decode_fast(values: pa.Array) -> pa.Table:
    """Many records at once: a binary array in, a table with a row for each out, in order.

    Where it raises, it is called again with each record alone, so that only bad ones are rejected.
    """
    lines = pa.py_buffer(b"\\n".join(values.to_pylist()) + b"\\n")
    types = {{"ts": pa.int64(), "customer": pa.string(), "amount": pa.int64()}}
    return pa_csv.read_csv(
        pa.BufferReader(lines),
        read_options=pa_csv.ReadOptions(column_names=COLUMNS, block_size=max(lines.size, 1)),
        convert_options=pa_csv.ConvertOptions(column_types=types, null_values=[]),
    )
'''


def write(folder: Path, name: str) -> list[Path]:
    """Write ``name.toml`` and ``udfs/name.py`` into a folder; raises SurecountError rather than overwrite."""
    module = name.replace("-", "_")
    files = {
        folder / f"{name}.toml": PIPELINE.format(name=name, module=module),
        folder / "udfs" / f"{module}.py": UDF.format(module=module),
    }
    if taken := next((path for path in files if path.exists()), None):
        raise SurecountError(f"{taken} exists already", "choose another name, or remove it first")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    init = folder / "udfs" / "__init__.py"
    if not init.exists():
        init.write_text("")
    return list(files)
