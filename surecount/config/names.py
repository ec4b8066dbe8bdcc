"""What pipelines, topics, aggregates and fields may be named, with errors in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema


@dataclass(frozen=True)
class _Name:
    """What a text has to match, for programs; and for readers, in words, what is ``allowed``."""

    pattern: str
    allowed: str

    def check(self, value: str) -> str:
        """The same text, or an error that says what is allowed."""
        # A lone surrogate, which a pipeline file in JSON may hold, is no text.
        if re.fullmatch(self.pattern, value) is None or re.search("[\ud800-\udfff]", value):
            raise PydanticCustomError("name", "{allowed}", {"allowed": self.allowed})
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^{self.pattern}$"}


_PART = r"[^.'\"\[\]\\`\s\x00-\x1f\x7f-\x9f]+"

PipelineName = Annotated[
    str, _Name(r"[a-z][a-z0-9_-]{0,62}", "a name has up to 63 letters a-z, digits, - and _, a letter first")
]
# No dot: it ends a name in topics and transactional ids.
PathwayName = PipelineName
AggregateName = Annotated[
    str, _Name(r"[a-z][a-z0-9_]{0,62}", "an aggregate's name has up to 63 letters a-z, digits and _, a letter first")
]
TopicName = Annotated[
    str, _Name(r"[a-zA-Z0-9._-]{1,249}", "a topic's name has up to 249 letters a-z and A-Z, digits, dots, _ and -")
]
# Quotes and brackets would change the meaning of a JSON path.
FieldPath = Annotated[
    str,
    _Name(
        rf"{_PART}(\.{_PART})*",
        "a field has the name that it has in the record, and in a nested object the names on the way to it, with dots "
        "between them; names with quotes, square brackets, backslashes, backticks, white space or control characters "
        "cannot be used",
    ),
]
ImportPath = Annotated[
    str,
    _Name(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", "a function is named by its module, a colon and its name: 'shop:decode'"),
]
