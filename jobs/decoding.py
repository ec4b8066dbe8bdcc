"""Decoding, which both jobs have in common: from packs of records to one row for each batch, and the rejects."""

from __future__ import annotations

from collections.abc import Sequence

from pyflink.common import Types
from pyflink.datastream.data_stream import KeyedStream
from pyflink.java_gateway import get_gateway
from pyflink.table import StreamTableEnvironment
from pyflink.table.udf import ScalarFunction, udf

from jobs import tables
from jobs.operators import DECODED
from jobs.running import with_watermarks
from udfs import rejected
from udfs.packs import HEADER_BYTES_HEADER, HEADER_LENGTHS_HEADER, KEYS_HEADER, SKIMMED_HEADER


def decode(t: StreamTableEnvironment, function: ScalarFunction, topics: Sequence[str], source: str = "source") -> str:
    """Make a view, whose name is returned: one row for what each batch of a source's table sends on, with those that
    each pack has rejected."""
    view = f"{source}_decoded"
    t.create_temporary_function(f"decode_{source}", udf(function, result_type=DECODED, func_type="pandas"))
    parts = [f"headers[{tables.quote(name)}]" for name in (KEYS_HEADER, HEADER_LENGTHS_HEADER, HEADER_BYTES_HEADER)]
    skimmed = f"headers[{tables.quote(SKIMMED_HEADER)}]"
    arguments = ["k", f"COALESCE({skimmed}, v)", *parts, _number_of(topics), "`partition`"]
    # What stands beside the function is copied for every pack that waits for Python: so no more than rejects may need.
    t.create_temporary_view(
        f"{source}_with_decoded",
        t.sql_query(f"""
        SELECT decode_{source}({", ".join(arguments)}) AS d, CASE WHEN {skimmed} IS NOT NULL THEN v END AS whole
        FROM {source}"""),
    )
    # As a DataStream once: two queries on the view would read Kafka and decode twice.
    decoded = t.to_data_stream(
        t.sql_query(f"""
        SELECT CAST(NULL AS TIMESTAMP_LTZ(3)) AS event_time, d.pieces AS pieces, d.rejected AS rejected,
            CASE WHEN d.rejected IS NOT NULL THEN whole END AS whole
        FROM {source}_with_decoded
        WHERE d.pieces IS NOT NULL OR d.rejected IS NOT NULL""")
    )
    t.create_temporary_view(view, with_watermarks(t, decoded))
    return view


def _number_of(topics: Sequence[str]) -> str:
    """SQL of the number of a pack's topic; a constant where there is one."""
    whens = [f"WHEN {tables.quote(topic)} THEN {number}" for number, topic in enumerate(topics)]
    return f"CASE topic {' '.join(whens)} END" if len(topics) > 1 else "0"


def by_bucket(t: StreamTableEnvironment, *views: str) -> KeyedStream:
    """What views of :func:`decode` send on, one piece at a time, keyed by its bucket.

    As ``key_by`` has it, but for its operator in Python, which would take each piece to Python and back.
    """
    key, piece = Types.INT(), Types.PRIMITIVE_ARRAY(Types.BYTE())
    streams = []
    for view in views:
        query = f"SELECT bucket, piece FROM {view} CROSS JOIN UNNEST(pieces) AS sent (bucket, piece)"
        streams.append(t.to_data_stream(t.sql_query(query)))
        transformation = streams[-1]._j_data_stream.getTransformation()
        transformation.setOutputType(Types.ROW([key, piece]).get_java_type_info())
    pieces = streams[0].union(*streams[1:]) if len(streams) > 1 else streams[0]
    rows = pieces._j_data_stream
    keyed = rows.keyBy(get_gateway().jvm.KeyByKeySelector(), Types.ROW([key]).get_java_type_info())
    return KeyedStream(keyed, piece, pieces)


def rejects(view: str, job: str, said: Sequence[str]) -> str:
    """The query for the topic of rejects of what could not be decoded, of a view of :func:`decode`; ``said`` names what
    headers say of each."""
    headers = tables.reject_headers(job, **{name: _said(name) for name in said})
    return f"""
        SELECT parts[2], COALESCE(parts[3], {_FROM_WHOLE}), {tables.headers_and(headers)}
        FROM (
            SELECT parts, whole, CASE WHEN CARDINALITY(parts) > 3 THEN {_OWN_HEADERS} END AS headers
            FROM {view} CROSS JOIN UNNEST(rejected) AS one_rejected (number, parts)
        )"""


def _said(name: str) -> str:
    """SQL of one of :data:`udfs.rejected.PARTS`."""
    return f"SPLIT_INDEX(CAST(parts[1] AS STRING), CHR(9), {rejected.PARTS.index(name)})"


# Of Latin-1 each byte is a character; SQL cuts no bytes.
_FROM_WHOLE = f"""ENCODE(SUBSTRING(DECODE(whole, 'ISO-8859-1')
    FROM TRY_CAST({_said("start")} AS INT) + 1 FOR TRY_CAST({_said("size")} AS INT)), 'ISO-8859-1')"""
_NAMES = "(CARDINALITY(parts) - 3) / 2"
_OWN_HEADERS = f"""MAP_FROM_ARRAYS(
    CAST(ARRAY_SLICE(parts, 4, 3 + {_NAMES}) AS ARRAY<STRING>), ARRAY_SLICE(parts, 4 + {_NAMES}, 3 + 2 * {_NAMES}))"""
