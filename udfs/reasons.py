"""Why a record is rejected: the stable codes of docs/records.md."""

from __future__ import annotations

from udfs.failures import printable

TOMBSTONE = "tombstone"
VALUE_TOO_LARGE = "value_too_large"
EMPTY = "empty"
INVALID_UTF8 = "invalid_utf8"
NOT_JSON = "not_json"
NESTING_TOO_DEEP = "nesting_too_deep"
NOT_AN_OBJECT = "not_an_object"
DUPLICATE_FIELD = "duplicate_field"
MISSING_FIELD = "missing_field"
NULL_FIELD = "null_field"
MISTYPED_FIELD = "mistyped_field"
NOT_FINITE = "not_finite"
INTEGER_TOO_LARGE = "integer_too_large"
TOO_MANY_DECIMALS = "too_many_decimals"
EVENT_TIME_NEGATIVE = "event_time_negative"
EVENT_TIME_UNIT = "event_time_unit"
EVENT_TIME_OUT_OF_RANGE = "event_time_out_of_range"
EVENT_TIME_AHEAD = "event_time_ahead"
KAFKA_TIMESTAMP = "kafka_timestamp"
BELOW_MINIMUM = "below_minimum"
ABOVE_MAXIMUM = "above_maximum"
NOT_ALLOWED = "not_allowed"
BEYOND_HORIZON = "beyond_horizon"
DECODE_FAILED = "decode_failed"
INTERNAL_ERROR = "internal_error"


class RejectedError(Exception):
    """One record cannot be used: a code of this module and what was seen."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = printable(detail)
