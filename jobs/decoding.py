"""Decoding, which both jobs have in common: from the source table to one row for each batch, and the rejects."""

from __future__ import annotations

from collections.abc import Sequence

from pyflink.table import StreamTableEnvironment
from pyflink.table.udf import ScalarFunction, udf

from jobs import tables
from jobs.inlets import arrived_with
from jobs.operators import DECODED, REJECTED_PARTS
from jobs.running import with_watermarks
from udfs.spec import Inlet


def decode(t: StreamTableEnvironment, function: ScalarFunction, inlets: Sequence[Inlet]) -> None:
    """Make the view ``decoded``: one row for what each batch sends on, and one for each rejected record."""
    t.create_temporary_function("decode_batch", udf(function, result_type=DECODED, func_type="pandas"))
    says_more, *origin = arrived_with(inlets)
    arguments = ["v", "k", f"CASE WHEN {says_more} THEN JSON_STRING(headers) END", *origin, "kafka_time"]
    # Nothing stands beside the function: it would be copied for every record that waits for Python.
    t.create_temporary_view(
        "with_decoded", t.sql_query(f"SELECT decode_batch({', '.join(arguments)}) AS d FROM source")
    )
    # As a DataStream once: two queries on the view would read Kafka and decode twice.
    decoded = t.to_data_stream(
        t.sql_query("""
        SELECT d.k AS k, d.v AS v, d.headers AS headers, CAST(NULL AS TIMESTAMP_LTZ(3)) AS event_time,
               d.pieces AS pieces, d.rejected AS rejected
        FROM with_decoded
        WHERE d.pieces IS NOT NULL OR d.rejected IS NOT NULL""")
    )
    t.create_temporary_view("decoded", with_watermarks(t, decoded))


def rejects(job: str, said: Sequence[str]) -> str:
    """The query for the topic of rejects of what could not be decoded; ``said`` names what headers say of each."""
    headers = tables.reject_headers(
        job, **{name: f"SPLIT_INDEX(rejected, CHR(9), {REJECTED_PARTS.index(name)})" for name in said}
    )
    return f"SELECT k, v, {tables.headers_and(headers)} FROM decoded WHERE rejected IS NOT NULL"
