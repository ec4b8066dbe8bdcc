"""Decoding, which both jobs have in common: from the source table to one row for each batch, and the rejects."""

from __future__ import annotations

from collections.abc import Sequence

from pyflink.common import Types
from pyflink.datastream.data_stream import KeyedStream
from pyflink.java_gateway import get_gateway
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
    # As two arrays: of the second batch on, the maps that Flink writes cannot be read by Arrow.
    headers = [f"CASE WHEN {says_more} THEN {part}(headers) END" for part in ("MAP_KEYS", "MAP_VALUES")]
    arguments = ["v", "k", *headers, *origin, "kafka_time"]
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


def by_bucket(t: StreamTableEnvironment) -> KeyedStream:
    """What ``decoded`` sends on, one piece at a time, keyed by its bucket.

    As ``key_by`` has it, but for its operator in Python, which would take each piece to Python and back.
    """
    pieces = t.to_data_stream(
        t.sql_query("SELECT bucket, piece FROM decoded CROSS JOIN UNNEST(pieces) AS sent (bucket, piece)")
    )
    key, piece = Types.INT(), Types.PRIMITIVE_ARRAY(Types.BYTE())
    rows = pieces._j_data_stream
    rows.getTransformation().setOutputType(Types.ROW([key, piece]).get_java_type_info())
    keyed = rows.keyBy(get_gateway().jvm.KeyByKeySelector(), Types.ROW([key]).get_java_type_info())
    return KeyedStream(keyed, piece, pieces)


def rejects(job: str, said: Sequence[str]) -> str:
    """The query for the topic of rejects of what could not be decoded; ``said`` names what headers say of each."""
    headers = tables.reject_headers(
        job, **{name: f"SPLIT_INDEX(rejected, CHR(9), {REJECTED_PARTS.index(name)})" for name in said}
    )
    return f"SELECT k, v, {tables.headers_and(headers)} FROM decoded WHERE rejected IS NOT NULL"
